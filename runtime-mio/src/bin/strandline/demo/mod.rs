//! `strandline demo`: a network of real nodes on this machine, from the first node to the last expired copy.
//!
//! Owns the story. Every claim that it makes on the terminal was read from a node's answer just before, and a claim that
//! does not hold ends the demo with an error. It touches nothing outside its own temporary folder and processes.

mod cast;
mod stage;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use strandline_mio::{Exit, Failure};

use crate::client::Answer;
use crate::render::list;
use cast::{Cast, NETWORK, broken};
use stage::Stage;

/// For how long copies are kept: long enough for the story to get there, short enough to wait for the end.
const KEEP: Duration = Duration::from_secs(12);
/// How much later than that a copy may be noticed to be gone: one reading.
const SLACK: Duration = Duration::from_secs(8);
/// How long a network of this size may take to settle.
const SETTLE: Duration = Duration::from_secs(8);
/// How many others each character follows.
const FOLLOWS: usize = 3;
const CHAPTERS: usize = 7;

/// What the characters write; past the last they begin again.
const LINES: [&str; 8] = [
    "The tide left a bottle at my door. No letter in it, only more sea.",
    "Low water at six. Whoever is up first gets the good driftwood.",
    "A crab has moved into my left boot. We are negotiating.",
    "Found: one oar. Lost: one oar. Not the same oar.",
    "The lighthouse blinked twice. I blinked back.",
    "Gulls again. They have started to take turns.",
    "Today's strandline: three shells, a cork and half a kite.",
    "Writing this on wet sand, so read it before the next wave.",
];

/// Plays the demo with so many nodes.
///
/// # Errors
/// The first thing that was not as the story says.
pub fn run(nodes: usize, json: bool) -> Result<Exit, Failure> {
    let mut play = Play {
        cast: Cast::gather(nodes, KEEP)?,
        stage: Stage::new(CHAPTERS, json),
        nodes,
    };
    play.stage.title(
        &format!("strandline: {nodes} people, no server"),
        "Real processes and sockets on this machine. Every ✓ was read from a node.",
    );
    play.enter()?;
    play.follow()?;
    play.write()?;
    play.read()?;
    play.lose_an_author()?;
    play.welcome_back()?;
    play.let_copies_expire()?;
    play.stage.end();
    Ok(Exit::Ok)
}

struct Play {
    cast: Cast,
    stage: Stage,
    nodes: usize,
}

/// Who comes first, is killed and returns.
const ADA: usize = 0;
/// Who is killed for good.
const BRAM: usize = 1;

impl Play {
    fn enter(&mut self) -> Result<(), Failure> {
        self.stage.chapter("The nodes come in");
        self.cast.enter(ADA..1, None)?;
        let first = self.cast.player(ADA)?;
        let Some(join) = first.listen else {
            return Err(broken("the first node has no address", ""));
        };
        self.stage
            .act(ADA, &first.name, &format!("opens a network at {join}"));
        // What the others do; somebody who is quick can do so too.
        self.stage.command(&format!(
            "up --name NAME --network {NETWORK} --listen 127.0.0.1:0 --join {join}"
        ));
        self.cast.enter(1..self.nodes, Some(join))?;
        for (place, player) in self.cast.players.iter().enumerate().skip(1) {
            self.stage
                .act(place, &player.name, &format!("joins as {}", player.handle));
        }
        let (finder, sought) = (BRAM, self.nodes - 1);
        let (name, handle) = {
            let player = self.cast.player(sought)?;
            (player.name.clone(), player.handle.clone())
        };
        self.cast.await_that(
            "a node that joined can be found by its name",
            SETTLE,
            |cast| {
                let found = cast.attempt(finder, "whois", json!({ "handle": name }));
                Ok(found.and_then(|answer| {
                    let right = field(&answer.body, "handle") == handle;
                    if right { Ok(()) } else { Err(answer.line) }
                }))
            },
        )?;
        let who = &self.cast.player(finder)?.name;
        let what = format!("{who}, who met only {}, finds {handle}", self.name(ADA)?);
        self.stage.verified(&what);
        Ok(())
    }

    fn follow(&mut self) -> Result<(), Failure> {
        self.stage.chapter("People follow each other");
        for place in 0..self.nodes {
            let mut names = Vec::new();
            for followed in self.followed_by(place) {
                let handle = self.cast.player(followed)?.handle.clone();
                self.cast
                    .ask(place, "follow", json!({ "handle": handle }))?;
                names.push(self.name(followed)?);
            }
            let what = format!("follows {}", names.join(", "));
            self.stage.act(place, &self.name(place)?, &what);
        }
        for place in 0..self.nodes {
            let expected = self.handles_of(self.followers_of(place))?;
            self.cast
                .await_that("everyone's followers are known", SETTLE, |cast| {
                    Ok(expect_handles(
                        &cast.ask(place, "followers", json!({}))?,
                        &expected,
                    ))
                })?;
        }
        let count = self.nodes * self.followed_by(0).len();
        self.stage
            .verified(&format!("all {count} follows are known to the followed"));
        Ok(())
    }

    fn write(&mut self) -> Result<(), Failure> {
        self.stage.chapter("They write");
        for place in 0..self.nodes {
            let text = line_of(place);
            let answer = self.cast.ask(place, "post", json!({ "text": text }))?;
            expect_number(&answer.body, "seq", 1)?;
            self.stage.act(place, &self.name(place)?, text);
        }
        self.stage
            .verified("each post was durable before its author was told so");
        Ok(())
    }

    /// The last character reads everyone whom it follows, and so comes to hold copies.
    fn read(&mut self) -> Result<(), Failure> {
        let reader = self.nodes - 1;
        let name = self.name(reader)?;
        self.stage
            .chapter(&format!("{name} reads, and keeps what was read"));
        self.stage.command("timeline");
        let mut authors = self.followed_by(reader);
        authors.push(reader);
        let expected = self.handles_of(authors)?;
        let answer = self
            .cast
            .await_that("a timeline is complete", SETTLE, |cast| {
                let answer = cast.ask(reader, "timeline", json!({}))?;
                Ok(expect_complete(&answer, &expected).map(|()| answer))
            })?;
        self.show(&answer);
        let own = &self.cast.player(reader)?.handle;
        for post in list(&answer.body, "posts") {
            let via = if field(post, "handle") == own {
                "self"
            } else {
                "author"
            };
            expect_text(post, "via", via)?;
        }
        expect_newest_first(&answer.body)?;
        let count = expected.len();
        self.stage.verified(&format!(
            "{count} posts of {count} people in one page, newest first, from the authors themselves"
        ));
        Ok(())
    }

    /// The first character dies; somebody who never read it gets its post from a copy.
    fn lose_an_author(&mut self) -> Result<(), Failure> {
        let (reader, holder) = (self.nodes - 2, self.nodes - 1);
        let (author, reader_name) = (self.name(ADA)?, self.name(reader)?);
        self.stage
            .chapter(&format!("{author} is struck by lightning"));
        self.cast.kill(ADA)?;
        self.stage
            .act(ADA, &author, "✗ killed, without a word (kill -9)");
        self.stage.act(
            reader,
            &reader_name,
            &format!("has never read {author}, and asks now"),
        );
        self.stage.command(&format!("timeline {author}"));
        let handle = self.cast.player(ADA)?.handle.clone();
        let answer = self
            .cast
            .ask(reader, "timeline", json!({ "handle": handle }))?;
        self.show(&answer);
        expect_complete(&answer, std::slice::from_ref(&handle))
            .map_err(|why| broken("a dead author's post still comes", why))?;
        let post = list(&answer.body, "posts").first();
        let via = format!("replica:{}", self.name(holder)?);
        expect_text(post.unwrap_or(&Value::Null), "via", &via)?;
        self.stage.verified(&format!(
            "the post of a dead author, from the copy that {} kept; it says so, and {author}'s signature proves it",
            self.name(holder)?
        ));
        Ok(())
    }

    /// The first character returns with everything that it had.
    fn welcome_back(&mut self) -> Result<(), Failure> {
        let author = self.name(ADA)?;
        self.stage.chapter(&format!("{author} gets up again"));
        let join = self.cast.player(self.nodes - 1)?.listen;
        self.cast.enter(ADA..1, join)?;
        let handle = self.cast.player(ADA)?.handle.clone();
        self.stage.act(
            ADA,
            &author,
            &format!("is back on the same folder, still {handle}"),
        );
        let own = self
            .cast
            .ask(ADA, "timeline", json!({ "handle": handle }))?;
        expect_complete(&own, std::slice::from_ref(&handle))
            .map_err(|why| broken("nothing is missing after a crash", why))?;
        let followers = self.handles_of(self.followers_of(ADA))?;
        let following = self.handles_of(self.followed_by(ADA))?;
        self.cast
            .await_that("followers are as before", SETTLE, |cast| {
                let answer = cast.ask(ADA, "followers", json!({}))?;
                Ok(expect_handles(&answer, &followers))
            })?;
        let answer = self.cast.ask(ADA, "following", json!({}))?;
        expect_handles(&answer, &following).map_err(|why| broken("following is as before", why))?;
        let text = "Struck by lightning. Everything still here, except my eyebrows.";
        let answer = self.cast.ask(ADA, "post", json!({ "text": text }))?;
        expect_number(&answer.body, "seq", 2)?;
        self.stage.act(ADA, &author, text);
        self.stage.verified(
            "nothing is missing: posts, followers and followed are as before, and the next post is number 2",
        );
        let reader = self.nodes - 2;
        self.cast
            .await_that("the new post is read", SETTLE, |cast| {
                let answer = cast.ask(reader, "timeline", json!({ "handle": handle }))?;
                let posts = list(&answer.body, "posts");
                let newest = posts.first().unwrap_or(&Value::Null);
                let fresh = field(newest, "via") == "author" && field(newest, "text") == text;
                Ok(if fresh && posts.len() == 2 {
                    Ok(())
                } else {
                    Err(answer.line)
                })
            })?;
        self.stage.verified(&format!(
            "{} reads both posts, from {author} again",
            self.name(reader)?
        ));
        Ok(())
    }

    /// The second character dies for good; its copies last for as long as it allowed, and no longer.
    fn let_copies_expire(&mut self) -> Result<(), Failure> {
        let reader = self.nodes - 1;
        let (author, reader_name) = (self.name(BRAM)?, self.name(reader)?);
        self.stage.chapter("The tide takes what is old");
        let arguments = json!({ "handle": self.cast.player(BRAM)?.handle });
        let fresh = self.cast.ask(reader, "timeline", arguments.clone())?;
        if list(&fresh.body, "posts").is_empty() {
            return Err(broken("a post is read before its author dies", fresh.line));
        }
        let killed = Instant::now();
        self.cast.kill(BRAM)?;
        self.stage
            .act(BRAM, &author, "✗ killed, and stays away this time");
        let copy = self.cast.ask(reader, "timeline", arguments.clone())?;
        let via = format!("replica:{reader_name}");
        let post = list(&copy.body, "posts").first();
        expect_text(post.unwrap_or(&Value::Null), "via", &via)?;
        let whole = KEEP.as_secs();
        self.stage.remark(&format!(
            "{reader_name} still has a copy; {author} allowed copies for {whole} s"
        ));
        let stage = &self.stage;
        self.cast
            .await_that("a copy expires when it has to", KEEP + SLACK, |cast| {
                stage.waiting(
                    &format!("until {author}'s copies are gone"),
                    KEEP.saturating_sub(killed.elapsed()),
                    KEEP,
                );
                let asked = killed.elapsed();
                let answer = cast.ask(reader, "timeline", arguments.clone())?;
                let gone = list(&answer.body, "posts").is_empty();
                if !gone && asked > KEEP {
                    return Err(broken("an expired post is never shown", answer.line));
                }
                let named = list(&answer.body, "missing")
                    .iter()
                    .any(|person| field(person, "handle").starts_with(&format!("{author}~")));
                Ok(if gone && named && answer.exit == Exit::Partial {
                    Ok(())
                } else {
                    Err(answer.line)
                })
            })?;
        self.stage.waited();
        self.stage.verified(&format!(
            "after {:.0} s the copies are gone; {reader_name} is told that {author} cannot be read, and why",
            killed.elapsed().as_secs_f32()
        ));
        Ok(())
    }

    fn name(&self, place: usize) -> Result<String, Failure> {
        Ok(self.cast.player(place)?.name.clone())
    }

    /// Whom a character follows: the next few in the circle.
    fn followed_by(&self, place: usize) -> Vec<usize> {
        (1..=FOLLOWS)
            .map(|step| (place + step) % self.nodes)
            .collect()
    }

    fn followers_of(&self, place: usize) -> Vec<usize> {
        (1..=FOLLOWS)
            .map(|step| (place + self.nodes - step) % self.nodes)
            .collect()
    }

    fn handles_of(&self, places: Vec<usize>) -> Result<Vec<String>, Failure> {
        let handle = |place| Ok(self.cast.player(place)?.handle.clone());
        places.into_iter().map(handle).collect()
    }

    /// Shows the posts of a timeline, each on a line, with where it came from.
    fn show(&self, answer: &Answer) {
        for post in list(&answer.body, "posts") {
            let author = field(post, "author");
            let place = self.cast.players.iter().position(|p| p.name == author);
            let source = match field(post, "via") {
                "self" => "  (own)".to_owned(),
                "author" => String::new(),
                other => format!("  ({other})"),
            };
            let what = format!("│ {}{source}", field(post, "text"));
            self.stage.act(place.unwrap_or(0), author, &what);
        }
    }
}

const _: () = assert!(FOLLOWS + 2 <= crate::args::DEMO_NODES_MIN as usize);

fn line_of(place: usize) -> &'static str {
    LINES.get(place % LINES.len()).copied().unwrap_or_default()
}

fn field<'b>(body: &'b Value, name: &str) -> &'b str {
    body.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn expect_text(body: &Value, name: &str, expected: &str) -> Result<(), Failure> {
    if field(body, name) == expected {
        return Ok(());
    }
    let what = format!("{name} should be {expected}");
    Err(broken(what, format!("the answer has {body}")))
}

fn expect_number(body: &Value, name: &str, expected: u64) -> Result<(), Failure> {
    if body.get(name).and_then(Value::as_u64) == Some(expected) {
        return Ok(());
    }
    let what = format!("{name} should be {expected}");
    Err(broken(what, format!("the answer was {body}")))
}

/// Looks for exactly these handles; else says what there was instead.
fn expect_handles(answer: &Answer, expected: &[String]) -> Result<(), String> {
    let mut seen: Vec<&str> = list(&answer.body, "handles")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let mut expected: Vec<&str> = expected.iter().map(String::as_str).collect();
    seen.sort_unstable();
    expected.sort_unstable();
    if seen == expected {
        Ok(())
    } else {
        Err(format!(
            "expected {}, got {}",
            expected.join(" "),
            answer.line
        ))
    }
}

/// Looks for a complete timeline with one post of each of these people.
fn expect_complete(answer: &Answer, expected: &[String]) -> Result<(), String> {
    let mut seen: Vec<&str> = list(&answer.body, "posts")
        .iter()
        .map(|post| field(post, "handle"))
        .collect();
    let mut expected: Vec<&str> = expected.iter().map(String::as_str).collect();
    seen.sort_unstable();
    expected.sort_unstable();
    let complete = answer.body.get("complete").and_then(Value::as_bool) == Some(true);
    if complete && answer.exit == Exit::Ok && seen == expected {
        Ok(())
    } else {
        Err(format!(
            "expected one post of {}, got {}",
            expected.join(" "),
            answer.line
        ))
    }
}

fn expect_newest_first(body: &Value) -> Result<(), Failure> {
    let times: Vec<u64> = list(body, "posts")
        .iter()
        .filter_map(|post| post.get("time").and_then(Value::as_u64))
        .collect();
    if times.is_sorted_by(|a, b| a >= b) {
        return Ok(());
    }
    Err(broken("posts come newest first", body.to_string()))
}
