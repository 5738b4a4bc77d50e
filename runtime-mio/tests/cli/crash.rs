//! A node that is killed at any moment while it posts.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::harness::{Net, http, list, post_quickly, text};

/// How often it is killed; `STRANDLINE_ROUNDS=200` tries harder.
fn rounds() -> u64 {
    let asked = std::env::var("STRANDLINE_ROUNDS").ok();
    asked.map_or(50, |text| {
        text.parse().expect("STRANDLINE_ROUNDS is a number")
    })
}

/// Where the moments come from; printed, so that a failure can be tried again with `STRANDLINE_SEED`.
fn seed() -> u64 {
    let asked = std::env::var("STRANDLINE_SEED").ok();
    asked.map_or_else(
        || {
            u64::from(
                SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .unwrap()
                    .subsec_nanos(),
            )
        },
        |text| text.parse().expect("STRANDLINE_SEED is a number"),
    )
}

/// What the world knows about the numbers of one author.
#[derive(Debug, Default)]
struct Known {
    /// The text that each number stands for, whoever showed it. It must never change.
    texts: BTreeMap<u64, String>,
    /// The highest number that was acknowledged. Nothing up to it may go missing.
    acknowledged: u64,
}

impl Known {
    fn saw(&mut self, seq: u64, text: &str) {
        let before = self.texts.entry(seq).or_insert_with(|| text.to_owned());
        assert_eq!(before, text, "number {seq} was used twice");
    }
}

#[test]
fn nothing_acknowledged_is_lost_and_no_number_is_used_twice() {
    let seed = seed();
    println!("STRANDLINE_SEED={seed}");
    let mut random = seed | 1;
    let mut net = Net::named(&["ada", "bob"], &[]);
    let (author, reader) = net.nodes.split_at_mut(1);
    let (author, reader) = (&mut author[0], &reader[0]);
    let handle = author.handle.clone();
    let known = Mutex::new(Known::default());
    let mut written = 0u64;
    for round in 0..rounds() {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let moment = Duration::from_micros(random % 120_000);
        let stop = AtomicBool::new(false);
        written = thread::scope(|scope| {
            // Somebody else sees numbers before a crash, too: those are used as well.
            scope.spawn(|| {
                let question = format!(r#"{{"handle":"{handle}","limit":100000}}"#);
                while !stop.load(Ordering::Relaxed) {
                    if let Ok((200, _, body)) =
                        http(&reader.home, "POST", "/v1/timeline", &question)
                    {
                        let mut known = known.lock().unwrap();
                        for post in list(&body, "posts") {
                            known.saw(post["seq"].as_u64().unwrap(), &text(&post["text"]));
                        }
                    }
                }
            });
            let home = author.home.clone();
            let (known, stop) = (&known, &stop);
            let poster = scope.spawn(move || {
                let mut written = written;
                while !stop.load(Ordering::Relaxed) {
                    written += 1;
                    let said = format!("round {round}, text {written}");
                    let Some(seq) = post_quickly(&home, &said) else {
                        break;
                    };
                    let mut known = known.lock().unwrap();
                    known.saw(seq, &said);
                    known.acknowledged = known.acknowledged.max(seq);
                }
                written
            });
            thread::sleep(moment);
            author.kill();
            stop.store(true, Ordering::Relaxed);
            poster.join().unwrap()
        });
        author.start(Some(reader.listen));
        let own = author.ask(["timeline", &handle, "--limit", "1000000"]);
        let mut known = known.lock().unwrap();
        let mut found = BTreeMap::new();
        for post in list(&own, "posts") {
            let (seq, said) = (post["seq"].as_u64().unwrap(), text(&post["text"]));
            known.saw(seq, &said);
            assert!(
                found.insert(seq, said).is_none(),
                "number {seq} comes twice"
            );
        }
        for seq in 1..=known.acknowledged {
            assert!(
                found.contains_key(&seq),
                "round {round}: post {seq} was acknowledged and is lost"
            );
        }
    }
    let known = known.into_inner().unwrap();
    assert!(
        known.acknowledged >= rounds() / 2,
        "hardly anything was posted: {known:?}"
    );
    println!(
        "{} posts acknowledged over {} kills",
        known.acknowledged,
        rounds()
    );
}
