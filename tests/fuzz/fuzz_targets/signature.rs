//! See `strandline_fuzz::fuzzing::signature`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    // Which rule is broken does not matter here: it must not panic.
    let _ = strandline_fuzz::fuzzing::signature(bytes);
});
