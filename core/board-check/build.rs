//! Links by cortex-m-rt's script. It is asked for here and not in `.cargo/config.toml`, whose flags
//! vanish as soon as RUSTFLAGS is set, and the linker then makes an empty image without a word.

fn main() {
    println!("cargo::rustc-link-arg-bins=-Tlink.x");
    // Where the linker looks for `memory.x`: not here, or it would find one here first.
    let here = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| ".".to_owned());
    // What is only linked for a proof is optimised for speed as well, and does not fit the board then.
    let memory = match std::env::var("CARGO_FEATURE_NO_PANIC") {
        Ok(_) => format!("{here}/large"),
        Err(_) => format!("{here}/board"),
    };
    println!("cargo::rustc-link-search={memory}");
    println!("cargo::rerun-if-changed={memory}/memory.x");
    println!("cargo::rerun-if-changed=build.rs");
}
