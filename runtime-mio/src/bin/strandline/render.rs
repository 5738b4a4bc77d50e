//! Answers as people read them: one text for each command, made of the JSON that scripts get.
//!
//! Owns the wording and layout of answers. It asks nobody and decides nothing. Invariant: it shows any object without
//! failing, since fields are only ever added and a node may be newer than its command line.

use std::fmt::Write as _;

use serde_json::{Map, Value};
use strandline_mio::Exit;

use crate::text::{Ink, Paint, date, harmless, span, when};

/// What is said of an answer that is not whole.
const PARTIAL: &str =
    "Too few nodes answered in time: this may not be all, or not hold. Try again.\n";

/// How the names of times end.
const MS: &str = "_ms";

/// How to show an answer.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// Colours or none.
    pub paint: Paint,
    /// The time at which it is shown, Unix ms.
    pub now_ms: u64,
}

/// What is shown of an answer, and where.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Shown {
    /// For standard output.
    pub out: String,
    /// For standard error: what is missing or was assumed.
    pub notes: String,
}

/// Shows the answer of `command`, which ended like this.
pub fn answer(command: &str, exit: Exit, body: &Value, style: Style) -> Shown {
    let mut shown = Shown::default();
    match command {
        "post" => shown.out = format!("posted as number {}\n", scalar(body.get("seq"))),
        "follow" => shown.out = followed(body),
        "unfollow" => {
            shown.out = format!("no longer following {}\n", text(body, "handle"));
        }
        "timeline" => return timeline(body, style),
        "following" => shown.out = handles(body, "nobody is followed yet"),
        "followers" => shown.out = handles(body, "no followers yet"),
        "get" => shown.out = values(body, style),
        "put" => {
            let holders = match body.get("accepted").and_then(Value::as_u64) {
                Some(1) => "1 node".to_owned(),
                count => format!("{} nodes", count.unwrap_or(0)),
            };
            shown.out = format!("stored by {holders}\n");
        }
        "send" => {
            shown.out = match body.get("accepted").and_then(Value::as_bool) {
                Some(true) => "delivered to the node nearest to the key\n".to_owned(),
                Some(false) | None => {
                    "the node nearest to the key was reached, and did not take it\n".to_owned()
                }
            };
            if body.get("answer").is_some() {
                let answer = bytes(body, "answer", "answer_hex");
                let _ = writeln!(shown.out, "it answered: {answer}");
            }
        }
        _ => shown.out = object(body, style),
    }
    shown.notes = others(body);
    if command == "status" {
        shown.notes.push_str(advice_on(&text(body, "health")));
    }
    if exit == Exit::Partial {
        shown.notes.push_str(PARTIAL);
    }
    shown
}

/// A timeline: the posts newest first, and as notes who is missing.
fn timeline(body: &Value, style: Style) -> Shown {
    let posts = list(body, "posts");
    let missing = list(body, "missing");
    let mut shown = Shown {
        out: String::new(),
        notes: others(body),
    };
    for one in posts {
        post(&mut shown.out, one, style);
    }
    if posts.is_empty() && missing.is_empty() {
        shown.out.push_str("no posts yet\n");
    }
    shown.notes.push_str(&missing_people(missing));
    shown
}

/// Appends one post: who and when on a line, then the text, set in.
pub fn post(out: &mut String, post: &Value, style: Style) {
    let via = text(post, "via");
    let source = match via.strip_prefix("replica:") {
        Some(holder) => format!(" · kept by {holder}"),
        None if via == "self" => " · you".to_owned(),
        None => String::new(),
    };
    let time = post.get("time").and_then(Value::as_u64).unwrap_or(0);
    let head = format!(" · {}{source}", when(time, style.now_ms));
    let handle = text(post, "handle");
    let _ = writeln!(
        out,
        "{}{}",
        style.paint.ink(Ink::Bold, handle),
        style.paint.ink(Ink::Dim, head)
    );
    for line in text(post, "text").lines() {
        let _ = writeln!(out, "  {line}");
    }
    out.push('\n');
}

/// Names those who could not be read and why; empty when there are none.
pub fn missing_people(missing: &[Value]) -> String {
    if missing.is_empty() {
        return String::new();
    }
    let mut notes = match missing.len() {
        1 => "One person could not be read:\n".to_owned(),
        count => format!("{count} people could not be read:\n"),
    };
    for person in missing {
        let reason = text(person, "reason");
        let _ = writeln!(
            notes,
            "  {}: {}",
            text(person, "handle"),
            reason_in_words(&reason)
        );
    }
    notes.push_str("No follower has a copy that is still allowed to be shown. Try again later.\n");
    notes
}

/// The reasons of the protocol in words; a reason that is not known is shown as it is.
fn reason_in_words(reason: &str) -> &str {
    match reason {
        "no-connection" => "its node does not answer",
        "stalled" => "its node stopped answering",
        "refused" => "its node refused",
        "deadline" => "there was no time left (see --timeout)",
        "too-many-promotions" => "too many of the nodes asked on the way failed",
        "offline" => "it is offline",
        "invalid" => "what was received does not verify",
        "not-found" => "nothing is known about it",
        other => other,
    }
}

fn followed(body: &Value) -> String {
    let handle = text(body, "handle");
    if body.get("delivered").and_then(Value::as_bool) == Some(true) {
        format!("following {handle}\n")
    } else {
        let name = handle.split('~').next().unwrap_or_default();
        format!("following {handle}; {name} was not reached, and will learn of it later\n")
    }
}

fn handles(body: &Value, none: &str) -> String {
    let handles = list(body, "handles");
    if handles.is_empty() {
        return format!("{none}\n");
    }
    handles.iter().fold(String::new(), |mut out, handle| {
        let _ = writeln!(out, "{}", scalar(Some(handle)));
        out
    })
}

/// Values that were found: each alone if there is one, else with its author.
fn values(body: &Value, style: Style) -> String {
    let values = list(body, "values");
    let mut out = String::new();
    for value in values {
        if values.len() > 1 {
            let author = text(value, "author");
            let _ = writeln!(out, "{}", style.paint.ink(Ink::Dim, author));
        }
        let _ = writeln!(out, "{}", bytes(value, "value", "hex"));
    }
    out
}

/// Bytes of somebody else: as text if they are text, else in hexadecimal digits.
fn bytes(of: &Value, as_text: &str, as_hex: &str) -> String {
    match of.get(as_text) {
        Some(Value::String(bytes)) => harmless(bytes).into_owned(),
        Some(_) | None => format!("0x{}", text(of, as_hex)),
    }
}

/// Says who else has the name that was asked for, and whom the answer is about.
fn others(body: &Value) -> String {
    let others = list(body, "others");
    if others.is_empty() {
        return String::new();
    }
    let others: Vec<String> = others.iter().map(|other| scalar(Some(other))).collect();
    let why = match text(body, "chosen_by").as_str() {
        "pin" => " (you follow it)",
        "first-seen" => " (the oldest claim)",
        _ => "",
    };
    let chosen = match text(body, "handle") {
        handle if handle.is_empty() => "one of them".to_owned(),
        handle => handle,
    };
    let (several, are) = match others.len() {
        1 => ("Two", "the other is"),
        _ => ("Several", "the others are"),
    };
    format!(
        "{several} people have this name. This is {chosen}{why}; {are} {}.\n\
         Use a handle to say whom you mean.\n",
        others.join(", ")
    )
}

/// Any object: a line for each field, lists of objects as tables. Fields that only scripts need are left out.
fn object(body: &Value, style: Style) -> String {
    let mut fields = body.as_object().cloned().unwrap_or_default();
    if let Some(Value::Object(dropped)) = fields.get_mut("dropped") {
        // Of the many rules, only those that somebody broke.
        dropped.retain(|_, count| count.as_u64() != Some(0));
    }
    let mut out = String::new();
    fields_into(&mut out, &fields, 0, style);
    out
}

fn fields_into(out: &mut String, fields: &Map<String, Value>, indent: usize, style: Style) {
    let shown = || fields.iter().filter(|(name, _)| *name != "v");
    let width = shown()
        .map(|(name, _)| field_label(name).chars().count())
        .max()
        .unwrap_or(0);
    for (name, value) in shown() {
        let label = style
            .paint
            .ink(Ink::Dim, format!("{:width$}", field_label(name)));
        let start = format!("{:indent$}{label}", "");
        let _ = match value {
            Value::Object(inner) if inner.is_empty() => writeln!(out, "{start}  none"),
            Value::Object(inner) if inner.values().all(Value::is_object) => {
                let _ = writeln!(out, "{}", start.trim_end());
                let rows = inner.iter().map(|(name, row)| (label_of(name), row));
                table_into(out, &rows.collect::<Vec<_>>(), indent + 2, style);
                Ok(())
            }
            Value::Object(inner) => {
                let _ = writeln!(out, "{}", start.trim_end());
                fields_into(out, inner, indent + 2, style);
                Ok(())
            }
            Value::Array(rows) if rows.is_empty() => writeln!(out, "{start}  none"),
            Value::Array(rows) if rows.iter().all(Value::is_object) => {
                let _ = writeln!(out, "{}", start.trim_end());
                let rows = rows.iter().map(|row| (String::new(), row));
                table_into(out, &rows.collect::<Vec<_>>(), indent + 2, style);
                Ok(())
            }
            Value::Array(items) => {
                let items: Vec<String> = items.iter().map(|item| scalar(Some(item))).collect();
                writeln!(out, "{start}  {}", items.join(", "))
            }
            Value::Number(number) if name == "time" => {
                let time = number.as_u64().unwrap_or(0);
                writeln!(out, "{start}  {}", date(time))
            }
            Value::Number(number) if name.ends_with(MS) => {
                let ms = number.as_i64().unwrap_or(i64::MAX);
                writeln!(out, "{start}  {}", span(ms))
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                writeln!(out, "{start}  {}", scalar(Some(value)))
            }
        };
    }
}

/// A table of rows, each with its name if they have names; the columns are the fields of the first row.
fn table_into(out: &mut String, rows: &[(String, &Value)], indent: usize, style: Style) {
    let first = rows.first().and_then(|(_, row)| row.as_object());
    let columns: Vec<&String> = first.into_iter().flat_map(Map::keys).collect();
    let heads = columns.iter().map(|name| label_of(name));
    let mut lines: Vec<Vec<String>> = vec![std::iter::once(String::new()).chain(heads).collect()];
    lines.extend(rows.iter().map(|(name, row)| {
        let cells = columns.iter().map(|column| scalar(row.get(*column)));
        std::iter::once(name.clone()).chain(cells).collect()
    }));
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..=columns.len()).map(width).collect();
    for (number, line) in lines.iter().enumerate() {
        let mut row = String::new();
        for (cell, width) in line.iter().zip(&widths).filter(|(_, width)| **width > 0) {
            let _ = write!(row, "{cell:width$}  ");
        }
        let row = row.trim_end();
        let row = if number == 0 {
            style.paint.ink(Ink::Dim, row)
        } else {
            row.into()
        };
        let _ = writeln!(out, "{:indent$}{row}", "");
    }
}

/// The label of a field on a line of its own: what it means, where its name says that only to scripts. A time says its
/// unit itself.
fn field_label(name: &str) -> String {
    match name {
        "seq" => "last post".to_owned(),
        "observed" => "seen as".to_owned(),
        "unsent" => "not sent".to_owned(),
        "unopened" => "not opened".to_owned(),
        "idle" => "closed, idle".to_owned(),
        other => label_of(other.strip_suffix(MS).unwrap_or(other)),
    }
}

/// What to do about the health of a node; nothing where all is well, or where the node is newer than this.
fn advice_on(health: &str) -> &'static str {
    match health {
        "alone" => {
            "It knows no other node. Join one: strandline up --join HOST:PORT, or wait for others to join this one.\n"
        }
        "recovering" => {
            "Its storage was lost. It recovers what the network knows, and can post again after that.\n"
        }
        "storage-failed" => {
            "It cannot write any more. Make room on the disk, and start it again.\n"
        }
        "forked" => {
            "Somebody else signs with this key: the identity also runs elsewhere. Stop one of the two.\n"
        }
        _ => "",
    }
}

/// `rtt_ms` as `rtt ms`.
fn label_of(name: &str) -> String {
    harmless(name).replace(['_', '\n'], " ")
}

/// A field's text, made harmless; empty when there is none.
fn text(body: &Value, name: &str) -> String {
    let text = body.get(name).and_then(Value::as_str);
    harmless(text.unwrap_or_default()).into_owned()
}

/// A value on one line.
fn scalar(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::Bool(true)) => "yes".to_owned(),
        Some(Value::Bool(false)) => "no".to_owned(),
        Some(Value::String(text)) => harmless(text).replace('\n', " "),
        Some(other @ (Value::Number(_) | Value::Array(_) | Value::Object(_))) => {
            harmless(&other.to_string()).into_owned()
        }
    }
}

/// The list in this field; empty when there is none.
pub fn list<'b>(body: &'b Value, name: &str) -> &'b [Value] {
    let list = body.get(name).and_then(Value::as_array);
    list.map(Vec::as_slice).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const STYLE: Style = Style {
        paint: Paint::Plain,
        now_ms: 1_795_178_096_000,
    };

    fn out(command: &str, body: &Value) -> String {
        answer(command, Exit::Ok, body, STYLE).out
    }

    #[test]
    fn a_timeline_says_who_and_when_and_from_where() {
        let body = json!({"v": 1, "complete": false, "posts": [
            {"author": "ada", "handle": "ada~11112222", "seq": 2, "time": STYLE.now_ms - 60_000,
             "text": "two\nlines", "via": "replica:bram"},
            {"author": "me", "handle": "me~33334444", "seq": 1, "time": STYLE.now_ms - 61_000,
             "text": "mine", "via": "self"},
        ], "missing": [{"handle": "cleo~55556666", "reason": "no-connection"}]});
        let shown = answer("timeline", Exit::Ok, &body, STYLE);
        assert_eq!(
            shown.out,
            "ada~11112222 · 1 min ago, 12:33 UTC · kept by bram\n  two\n  lines\n\n\
             me~33334444 · 1 min ago, 12:33 UTC · you\n  mine\n\n"
        );
        assert!(
            shown.notes.starts_with(
                "One person could not be read:\n  cleo~55556666: its node does not answer\n"
            ),
            "{}",
            shown.notes
        );
    }

    #[test]
    fn an_empty_timeline_says_so() {
        let body = json!({"v": 1, "complete": true, "posts": [], "missing": []});
        assert_eq!(out("timeline", &body), "no posts yet\n");
    }

    #[test]
    fn a_post_cannot_forge_the_line_of_another() {
        let body = json!({"posts": [{"handle": "ada~11112222", "time": 0, "via": "author",
            "text": "x\nbob~33334444 · just now\r\x1b[A"}]});
        let shown = out("timeline", &body);
        assert!(shown.contains("\n  bob~33334444"), "{shown}");
        assert!(!shown.contains(['\r', '\x1b']), "{shown}");
    }

    #[test]
    fn an_ambiguous_name_is_said_to_be_so() {
        let body = json!({"v": 1, "handle": "bob~11112222", "others": ["bob~33334444"], "chosen_by": "first-seen"});
        let shown = answer("whois", Exit::Ok, &body, STYLE);
        assert!(
            shown
                .notes
                .contains("Two people have this name. This is bob~11112222 (the oldest claim); the other is bob~33334444.")
        );
    }

    #[test]
    fn one_is_not_many() {
        let put = |accepted| out("put", &json!({"v": 1, "accepted": accepted}));
        assert_eq!(put(1), "stored by 1 node\n");
        assert_eq!(put(3), "stored by 3 nodes\n");
        let body = json!({"handle": "bob~11112222", "others": ["bob~33334444", "bob~55556666"]});
        let notes = answer("whois", Exit::Ok, &body, STYLE).notes;
        assert!(
            notes.contains("the others are bob~33334444, bob~55556666."),
            "{notes}"
        );
    }

    #[test]
    fn the_answer_to_a_message_is_shown_and_does_no_harm() {
        let sent = |body| out("send", &body);
        let delivered = "delivered to the node nearest to the key\n";
        assert_eq!(sent(json!({"v": 1, "accepted": true})), delivered);
        assert_eq!(
            sent(json!({"v": 1, "accepted": true, "answer": "yes\u{1b}[2J", "answer_hex": "79"})),
            format!("{delivered}it answered: {}\n", harmless("yes\u{1b}[2J"))
        );
        assert!(!harmless("yes\u{1b}[2J").contains('\u{1b}'));
        assert_eq!(
            sent(json!({"v": 1, "accepted": true, "answer": null, "answer_hex": "ff"})),
            format!("{delivered}it answered: 0xff\n")
        );
    }

    #[test]
    fn whoever_is_followed_and_away_is_named() {
        let body = json!({"v": 1, "handle": "bob~11112222", "delivered": false});
        assert_eq!(
            out("follow", &body),
            "following bob~11112222; bob was not reached, and will learn of it later\n"
        );
    }

    #[test]
    fn a_node_that_is_not_well_says_what_to_do() {
        let notes = |health| {
            let body = json!({"v": 1, "health": health});
            answer("status", Exit::Ok, &body, STYLE).notes
        };
        assert_eq!(notes("ok"), "");
        for health in ["alone", "recovering", "storage-failed", "forked"] {
            assert_ne!(notes(health), "", "{health}");
        }
    }

    #[test]
    fn any_object_is_shown() {
        let body = json!({"v": 1, "ok": true, "none": null, "peers": [
            {"id": "ab", "rtt_ms": 3}, {"id": "abcd", "rtt_ms": null}, {}],
            "dropped": {"malformed": 0}, "clock": {"offset_ms": -3}, "tags": ["a", 1],
            "tables": {"log": {"used": 1, "of": 20}, "copies": {"used": 3}}});
        assert_eq!(
            out("status", &body),
            "ok       yes\nnone     -\npeers\n  id    rtt ms\n  ab    3\n  abcd  -\n  -     -\n\
             dropped  none\nclock\n  offset  -3 ms\ntags     a, 1\ntables\n          used  of\n  log     1     20\n  copies  3     -\n"
        );
        for odd in [json!(null), json!([]), json!("x"), json!({})] {
            for command in ["timeline", "followers", "get", "status", "follow"] {
                let _ = out(command, &odd);
            }
        }
    }
}
