//! What the fuzz targets do with their bytes: the module that `tests/tests/corpus` replays too.

#[path = "../../src/fuzzing/mod.rs"]
pub mod fuzzing;
