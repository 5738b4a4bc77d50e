//! Links by cortex-m-rt's script. It is asked for here and not in `.cargo/config.toml`, whose flags
//! vanish as soon as RUSTFLAGS is set, and the linker then makes an empty image without a word.

fn main() {
    println!("cargo::rustc-link-arg-bins=-Tlink.x");
    // Where the linker looks for `memory.x`.
    let here = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| ".".to_owned());
    println!("cargo::rustc-link-search={here}");
    for file in ["memory.x", "build.rs"] {
        println!("cargo::rerun-if-changed={file}");
    }
}
