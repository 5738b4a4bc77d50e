//! What operations cost on a Cortex-M3, in instructions, and whether memory is copied as it must be.

use std::process::Command;

use super::*;
use crate::board::MEASURE;

/// The beginning of an operation's name in FOOTPRINT.md, and how many instructions it may take: a twentieth more than it does.
const MOST: [(&str, u32); 4] = [
    ("a datagram answered", 37_000),
    ("a record stored", 2_120_000),
    ("a post signed", 3_680_000),
    ("a post verified", 2_145_000),
];

#[test]
fn no_operation_takes_more_instructions_than_it_may() {
    let Some(_turn) = turn("instructions of operations", MEASURE) else {
        return;
    };
    let output = Command::new(QEMU)
        .args([
            "-machine",
            MEASURE.machine,
            "-nographic",
            "-monitor",
            "none",
        ])
        .args(["-serial", "none", "-icount", "shift=0"])
        .args(["-semihosting-config", "enable=on,target=native"])
        .arg("-kernel")
        .arg(image(MEASURE).unwrap())
        .output()
        .unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    // It fails when memory was not copied as it should be, or an operation does not end well.
    assert!(output.status.success(), "{said}");
    for (name, most) in MOST {
        let of_it = said
            .lines()
            .filter_map(|line| line.strip_prefix("cost ")?.split_once(' '))
            .find(|(_, told)| told.starts_with(name));
        let took: u32 = of_it.unwrap().0.parse().unwrap();
        eprintln!("{name}: {took} instructions");
        assert!(took <= most, "{name}: {took} instructions, of {most}");
    }
}
