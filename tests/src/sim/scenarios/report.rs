//! What a scenario measured: rows of numbers with units, for people, for programs and for spreadsheets.
//!
//! Owns the arithmetic of samples and the three formats. The invariant: a row is one number; what it means stands in its
//! name, and never depends on another row.

use std::fmt::Write;

use serde_json::json;

use crate::sim::World;
use crate::sim::meter::{Cause, Flows, Kind};
use crate::sim::plans::Cryptography;

use super::Basis;

/// One number.
#[derive(Clone, PartialEq, Debug)]
pub struct Row {
    /// What was measured.
    pub what: String,
    /// How much it is.
    pub value: f64,
    /// In which unit.
    pub unit: &'static str,
}

/// Everything that one run measured.
#[derive(Clone, Debug)]
pub struct Report {
    scenario: &'static str,
    basis: Basis,
    rows: Vec<Row>,
    /// Promises that were broken.
    pub failures: Vec<String>,
    trace: String,
    virtual_ms: u64,
}

impl Report {
    /// An empty report of a scenario.
    #[must_use]
    pub const fn new(scenario: &'static str, basis: Basis) -> Self {
        Self {
            scenario,
            basis,
            rows: Vec::new(),
            failures: Vec::new(),
            trace: String::new(),
            virtual_ms: 0,
        }
    }

    /// Adds a row.
    pub fn row(&mut self, what: impl Into<String>, value: f64, unit: &'static str) {
        self.rows.push(Row {
            what: what.into(),
            value,
            unit,
        });
    }

    /// Adds a count.
    pub fn count(&mut self, what: impl Into<String>, count: usize) {
        self.row(what, count as f64, "");
    }

    /// Adds a share in percent, and of how many; nothing if there were none.
    pub fn share(&mut self, what: &str, good: u64, all: u64) {
        if all > 0 {
            self.row(what, 100.0 * good as f64 / all as f64, "%");
            self.row(format!("{what}: of"), all as f64, "");
        }
    }

    /// Adds mean, median and 99th percentile of samples; nothing if there are none.
    pub fn samples(&mut self, what: &str, samples: &Samples, unit: &'static str) {
        if let Some(mean) = samples.mean() {
            self.row(format!("{what}: mean"), mean, unit);
            self.row(format!("{what}: median"), samples.quantile(50) as f64, unit);
            self.row(format!("{what}: 99 %"), samples.quantile(99) as f64, unit);
        }
    }

    /// Adds what each node sent in a second, by cause and kind: UDP payload alone.
    pub fn traffic(&mut self, flows: &Flows, node_seconds: f64) {
        for (cause, name) in [
            (Cause::Maintenance, "maintenance"),
            (Cause::Workload, "workload"),
        ] {
            let rate = |bytes: u64| bytes as f64 / node_seconds;
            self.row(
                format!("{name} sent per node"),
                rate(flows.sum(cause).bytes),
                "B/s",
            );
            for kind in Kind::ALL {
                let flow = flows.of(cause, kind);
                if flow.count > 0 {
                    self.row(format!("{name}: {}", kind.name()), rate(flow.bytes), "B/s");
                }
            }
        }
    }

    /// The value of a row.
    #[must_use]
    pub fn value(&self, what: &str) -> Option<f64> {
        let row = self.rows.iter().find(|row| row.what == what);
        row.map(|row| row.value)
    }

    /// Takes over from a world what every report ends with.
    #[must_use]
    pub fn close(mut self, world: &World) -> Self {
        let tally = world.tally();
        self.row("datagrams", tally.datagrams as f64, "");
        self.row("datagram bytes", tally.datagram_bytes as f64, "B");
        self.trace = world.trace().to_string();
        self.virtual_ms = world.now_us() / 1_000;
        let failures = world.failures().iter().map(ToString::to_string);
        self.failures.extend(failures);
        self
    }

    /// In words, a row a line.
    #[must_use]
    pub fn words(&self) -> String {
        let mut text = format!(
            "{}\n{} nodes at the start. Overlay: {}, {}. Cryptography: {}. Oracles at every step: {}.\n",
            self.basis.command,
            self.basis.nodes,
            self.basis.overlay,
            self.basis.widths,
            self.basis.cryptography,
            if self.basis.judged() {
                "on"
            } else {
                "off (as above 10,000 nodes): amplification and the form of datagrams were not checked"
            },
        );
        if !self.basis.publishes {
            text += "Filled by joining. The nodes are of the DHT alone: they publish nothing of their users.\n";
        }
        for row in &self.rows {
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "  {:<52} {} {}",
                row.what,
                number(row.value),
                row.unit
            );
        }
        let _ = writeln!(
            text,
            "{} simulated seconds, trace {}",
            self.virtual_ms / 1_000,
            self.trace
        );
        if self.failures.is_empty() {
            text += "Every check passed.\n";
        } else {
            let _ = writeln!(text, "{} CHECKS FAILED:", self.failures.len());
            for failure in &self.failures {
                let _ = writeln!(text, "  {failure}");
            }
        }
        text
    }

    /// One JSON object on one line.
    #[must_use]
    pub fn json(&self, wall_ms: u64) -> String {
        let rows: Vec<_> = self
            .rows
            .iter()
            .map(|row| json!({ "what": row.what, "value": row.value, "unit": row.unit }))
            .collect();
        let crypto = match self.basis.cryptography {
            Cryptography::Real => "real",
            Cryptography::StandIn => "stand-in",
        };
        json!({
            "v": 1,
            "scenario": self.scenario,
            "command": self.basis.command,
            "seed": self.basis.seed,
            "nodes": self.basis.nodes,
            "crypto": crypto,
            "overlay": self.basis.overlay.to_string(),
            "k": self.basis.widths.k(),
            "alpha": self.basis.widths.alpha(),
            "replication": self.basis.widths.replication(),
            "oracles": self.basis.judged(),
            "rows": rows,
            "virtual_ms": self.virtual_ms,
            "wall_ms": wall_ms,
            "trace": self.trace,
            "failures": self.failures,
        })
        .to_string()
    }

    /// The first line of [`Report::csv`].
    pub const CSV_HEADER: &'static str = "scenario,seed,nodes,k,alpha,replication,what,value,unit";

    /// A line for each row, without a header.
    #[must_use]
    pub fn csv(&self) -> String {
        let Basis {
            seed,
            nodes,
            widths,
            ..
        } = &self.basis;
        let (k, alpha, replication) = (widths.k(), widths.alpha(), widths.replication());
        let line = |row: &Row| {
            let what = row.what.replace('"', "\"\"");
            let value = number(row.value);
            format!(
                "{},{seed},{nodes},{k},{alpha},{replication},\"{what}\",{value},{}\n",
                self.scenario, row.unit
            )
        };
        self.rows.iter().map(line).collect()
    }
}

/// A number with as many decimals as it needs: none if it is whole, else three.
fn number(value: f64) -> String {
    let text = format!("{value:.3}");
    match text.strip_suffix(".000") {
        Some(whole) => whole.to_owned(),
        None => text,
    }
}

/// Numbers of one kind.
#[derive(Clone, Debug, Default)]
pub struct Samples(Vec<u64>);

impl Samples {
    /// Adds one.
    pub fn add(&mut self, value: u64) {
        self.0.push(value);
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The mean; `None` of none.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        let sum: u64 = self.0.iter().sum();
        (!self.0.is_empty()).then(|| sum as f64 / self.0.len() as f64)
    }

    /// The smallest that at least `percent` of all are not above; 0 of none.
    #[must_use]
    pub fn quantile(&self, percent: usize) -> u64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        sorted.get(rank - 1).copied().unwrap_or(0)
    }

    /// The largest; 0 of none.
    #[must_use]
    pub fn max(&self) -> u64 {
        self.0.iter().copied().max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]

    use super::{Basis, Report, Samples};

    #[test]
    fn quantiles_are_of_the_nearest_rank() {
        let mut samples = Samples::default();
        assert_eq!((samples.mean(), samples.quantile(50)), (None, 0));
        for value in (1..=200).rev() {
            samples.add(value);
        }
        assert_eq!(samples.quantile(50), 100);
        assert_eq!(samples.quantile(99), 198);
        assert_eq!((samples.quantile(100), samples.max()), (200, 200));
        assert!((samples.mean().unwrap() - 100.5).abs() < 1e-9);
    }

    #[test]
    fn a_row_reads_the_same_in_all_formats() {
        let mut report = Report::new("lookup", Basis::new(7, 20));
        report.share("true nearest found", 999, 1_000);
        report.share("of nothing", 0, 0);
        assert!(report.words().contains("99.900 %"));
        // The order of fields is not part of what is promised.
        let json: serde_json::Value = serde_json::from_str(&report.json(1)).unwrap_or_default();
        let row = json.get("rows").and_then(|rows| rows.get(0));
        let field = |name| row.and_then(|row| row.get(name));
        assert_eq!(field("what"), Some(&"true nearest found".into()), "{json}");
        assert_eq!(field("value"), Some(&99.9.into()), "{json}");
        assert_eq!(
            report.csv(),
            "lookup,7,20,20,3,8,\"true nearest found\",99.900,%\nlookup,7,20,20,3,8,\"true nearest found: of\",1000,\n"
        );
        assert_eq!(report.value("true nearest found: of"), Some(1_000.0));
    }
}
