//! Replays the corpus of the fuzz targets, and makes the seeds in it.
//!
//! Files whose name begins with `valid-` are accepted by their target, `refused-RULE` breaks that rule.
//! Files with other names (a finding of the fuzzer, as libFuzzer named it) must only not panic. After a
//! change of a format, `WRITE_CORPUS=1 cargo test -p strandline-tests --test corpus seed` writes the seeds anew.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use std::fs;
use std::path::PathBuf;

use strandline_core::rules::Rule;
use strandline_tests::fuzzing::TARGETS;

mod messages;
mod scripts;
mod seeds;

#[test]
fn corpus_is_replayed_without_a_panic() {
    for (target, run) in TARGETS {
        let mut files = 0;
        for entry in fs::read_dir(folder(target)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            println!("{target}/{name}");
            let verdict = run(&fs::read(&path).unwrap());
            if name.starts_with("valid-") {
                assert_eq!(verdict, Ok(()), "{target}/{name}");
            } else if let Some(rule) = name.strip_prefix("refused-") {
                assert_eq!(verdict.map_err(Rule::name), Err(rule), "{target}/{name}");
            }
            files += 1;
        }
        assert!(files >= 5, "{target} has only {files} files");
    }
}

#[test]
fn every_seed_of_todays_formats_is_in_the_corpus() {
    let write = std::env::var_os("WRITE_CORPUS").is_some();
    let seeds = seeds::all().into_iter().flat_map(|(target, seeds)| {
        seeds
            .into_iter()
            .map(move |(name, bytes)| (target, name, bytes))
    });
    for (target, name, bytes) in seeds {
        let path = folder(target).join(&name);
        if write {
            fs::create_dir_all(folder(target)).unwrap();
            fs::write(&path, &bytes).unwrap();
        }
        let kept = fs::read(&path).unwrap_or_default();
        assert!(
            kept == bytes,
            "{target}/{name} is not what the format gives now; WRITE_CORPUS=1 writes it"
        );
    }
}

fn folder(target: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "fuzz", "corpus", target]
        .iter()
        .collect()
}
