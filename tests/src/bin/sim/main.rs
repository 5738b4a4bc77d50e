//! `cargo sim`: runs simulated nodes and says what happened.
//!
//! Owns the command line: `day` is the world that runs by itself, `scenario` what is done to a network and measured.

mod day;
mod heap;
mod progress;
mod scenario;
mod widths;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

/// Runs a world of simulated Strandline nodes, watches every step, and says what happened.
///
/// The nodes are the real ones: the same state machine as on servers and boards, driven through the
/// same loop. Clocks, links and disks are made up, and time is virtual, so that ten minutes of a
/// thousand nodes take less than that. People join, follow, post and read; values are stored and
/// looked up; machines fail and return. After every step oracles check what must always hold: nothing
/// expired or forged is shown, nothing acknowledged is lost, no number comes twice, every query ends,
/// no stranger is sent more than it sent.
///
/// Everything follows from the seed and the options: the same command gives the same trace hash on
/// every machine, in debug and in release. When a check fails, the exit code is 1 and the command that
/// shows the failure again is printed.
///
/// With a command, a network of one size is filled by joining, one thing is done to it, and what then
/// happens is measured: `cargo sim -- lookup --help`.
///
/// Examples:
///   cargo sim -- --seed 7 --nodes 100
///   cargo sim -- --seed 7 --nodes 1000 --minutes 10 --loss 2
///   cargo sim -- --seed 7 --nodes 10000 --crypto stand-in --boards 0
///   cargo sim -- --seed 7 --nodes 200 --churn 30 --loss 5 --duplicates 2 --reorder 10
///   cargo sim -- lookup --nodes 1000 --dead 10
///   cargo sim -- lookup --nodes 1000 --k 8 --alpha 5
///   cargo sim -- churn --nodes 500 --median 60 --hours 2 --csv
#[derive(Parser, Debug)]
#[command(
    name = "cargo sim --",
    verbatim_doc_comment,
    args_conflicts_with_subcommands = true
)]
struct CommandLine {
    #[command(flatten)]
    day: day::Options,
    #[command(subcommand)]
    scenario: Option<scenario::Scenario>,
}

/// Has the system's allocator take large pages, which saves a large world a sixth of its time: that is asked for in
/// the environment, before a program starts, so it starts itself anew.
fn use_large_pages() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        use std::os::unix::process::CommandExt;
        const TUNABLES: &str = "GLIBC_TUNABLES";
        if std::env::var_os(TUNABLES).is_none()
            && let Ok(program) = std::env::current_exe()
        {
            let mut anew = std::process::Command::new(program);
            anew.args(std::env::args_os().skip(1));
            // It comes back only when it failed; then pages are what they are.
            let _ = anew.env(TUNABLES, "glibc.malloc.hugetlb=1").exec();
        }
    }
}

fn main() -> ExitCode {
    use_large_pages();
    let options = CommandLine::parse();
    let ran = match &options.scenario {
        Some(scenario) => scenario::run(scenario),
        None => day::run(&options.day),
    };
    // One option does not go with another: said as what is wrong by itself.
    ran.unwrap_or_else(|wrong| {
        let kind = ErrorKind::ValueValidation;
        CommandLine::command().error(kind, wrong).exit()
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]

    use clap::{CommandFactory, Parser};

    use super::CommandLine;

    #[test]
    fn the_command_line_is_sound() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn widths_are_refused_outside_their_limits_before_anything_runs() {
        let refused = |words: &str| {
            let words = ["sim"].into_iter().chain(words.split(' '));
            let options = CommandLine::try_parse_from(words).unwrap();
            match &options.scenario {
                Some(scenario) => super::scenario::run(scenario).unwrap_err(),
                None => super::day::run(&options.day).unwrap_err(),
            }
        };
        assert!(refused("--k 21").starts_with("k is 21"));
        assert!(refused("join --k 3").starts_with("k is 3"));
        assert!(refused("lookup --k 6").starts_with("replication is 8"));
        assert!(refused("churn --alpha 0").starts_with("alpha is 0"));
        assert!(refused("ring-paths --alpha 2").contains("ring-paths"));
    }

    #[test]
    fn the_command_of_a_world_has_its_widths() {
        let words = ["sim", "--k", "8", "--replication", "4"];
        let options = CommandLine::try_parse_from(words).unwrap();
        let command = options.day.command();
        assert!(command.ends_with(" --k 8 --replication 4"), "{command}");
        let usual = CommandLine::try_parse_from(["sim"]).unwrap().day.command();
        assert!(!usual.contains("--k"), "{usual}");
    }
}
