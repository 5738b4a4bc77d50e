//! People on real nodes: they post, follow and read, die and return.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};
use strandline_mio::home::DATABASE_FILE;
use strandline_mio::{Exit, Options};

use crate::{Running, Scratch, none, options, up};

/// Nodes of these names, each in a home of its name, joined through the first.
fn people(scratch: &Scratch, names: &[&str], change: impl Fn(&mut Options)) -> Vec<Running> {
    let mut nodes: Vec<Running> = Vec::new();
    for (n, name) in names.iter().enumerate() {
        let entrance: Vec<_> = nodes.first().map(Running::addr).into_iter().collect();
        let mut options = options(name, &entrance);
        change(&mut options);
        nodes.push(up(&scratch.path(&format!("{n}")), &options));
    }
    nodes
}

fn about(person: &Running) -> Value {
    json!({ "handle": person.handle() })
}

/// Posts, and lets the time of day move on, by which posts are sorted.
fn post(node: &Running, text: &str) -> u64 {
    let posted = node.ok("post", &json!({ "text": text }));
    std::thread::sleep(Duration::from_millis(2));
    posted.get("seq").and_then(Value::as_u64).unwrap()
}

/// Follows, as soon as the other can be found.
fn follow(node: &Running, other: &Running) {
    let followed = node.until("follow", &about(other), |exit, _| exit == Exit::Ok);
    assert_eq!(followed.get("handle").unwrap(), &other.handle());
}

/// Text and source of the posts of a timeline, newest first.
fn shown(timeline: &Value) -> Vec<(String, String)> {
    let posts = timeline.get("posts").and_then(Value::as_array).unwrap();
    let field = |post: &Value, name: &str| post.get(name).and_then(Value::as_str).unwrap().into();
    posts
        .iter()
        .map(|post| (field(post, "text"), field(post, "via")))
        .collect()
}

fn list(answer: &Value, name: &str) -> Vec<String> {
    let list = answer.get(name).and_then(Value::as_array);
    let texts = list.into_iter().flatten().filter_map(Value::as_str);
    texts.map(String::from).collect()
}

fn via(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs
        .iter()
        .map(|(text, via)| ((*text).into(), (*via).into()))
        .collect()
}

#[test]
fn a_timeline_has_the_posts_of_the_followed_and_own_ones_newest_first() {
    let scratch = Scratch::new();
    let nodes = people(&scratch, &["ann", "bob", "cas"], |_| {});
    let [ann, bob, cas] = nodes.as_slice() else {
        return assert_eq!(nodes.len(), 3);
    };
    follow(ann, bob);
    follow(ann, cas);
    assert_eq!(post(bob, "b1"), 1);
    assert_eq!(post(ann, "a1"), 1);
    assert_eq!(post(cas, "c1"), 1);
    assert_eq!(post(bob, "b2"), 2);
    let timeline = ann.ok("timeline", &none());
    assert_eq!(timeline.get("complete").unwrap(), true);
    assert_eq!(
        shown(&timeline),
        via(&[
            ("b2", "author"),
            ("c1", "author"),
            ("a1", "self"),
            ("b1", "author")
        ])
    );
    let newest = ann.ok("timeline", &json!({ "limit": 1 }));
    assert_eq!(shown(&newest), via(&[("b2", "author")]));
    // Nothing new is not nothing: the same posts come again.
    assert_eq!(shown(&ann.ok("timeline", &none())).len(), 4);
    let of_bob = cas.ok("timeline", &about(bob));
    assert_eq!(shown(&of_bob), via(&[("b2", "author"), ("b1", "author")]));
}

#[test]
fn people_are_found_listed_and_left() {
    let scratch = Scratch::new();
    let nodes = people(&scratch, &["ann", "bob", "cas"], |_| {});
    let [ann, bob, cas] = nodes.as_slice() else {
        return assert_eq!(nodes.len(), 3);
    };
    follow(ann, bob);
    follow(cas, bob);
    post(bob, "hello");
    let both = |_: Exit, answer: &Value| list(answer, "handles").len() == 2;
    let followers = bob.until("followers", &none(), both);
    let mut expected = [ann.handle(), cas.handle()];
    expected.sort_unstable();
    assert_eq!(list(&followers, "handles"), expected);
    assert_eq!(
        list(&ann.ok("following", &none()), "handles"),
        [bob.handle()]
    );
    let bob_only = |_: Exit, answer: &Value| list(answer, "handles") == [bob.handle()];
    cas.until("following", &about(ann), bob_only);
    let whois = ann.ok("whois", &json!({ "handle": "bob" }));
    assert_eq!(whois.get("handle").unwrap(), &bob.handle());
    assert_eq!(whois.get("addr").unwrap(), &bob.addr().to_string());
    assert_eq!(whois.get("online").unwrap(), true);
    assert_eq!(whois.get("chosen_by").unwrap(), "pin");
    ann.ok("unfollow", &about(bob));
    assert!(list(&ann.ok("following", &none()), "handles").is_empty());
    let one = |_: Exit, answer: &Value| list(answer, "handles") == [cas.handle()];
    bob.until("followers", &none(), one);
    let export = bob.ok("export", &none());
    assert_eq!(export.pointer("/posts/0/text").unwrap(), "hello");
    for (name, arguments, exit) in [
        ("follow", json!({ "handle": "nobody" }), Exit::NotFound),
        ("whois", json!({ "handle": "nobody" }), Exit::NotFound),
        ("unfollow", about(cas), Exit::NotFound),
        ("follow", about(ann), Exit::Usage),
    ] {
        assert_eq!(ann.call(name, &arguments).0, exit, "{name} {arguments}");
    }
}

#[test]
fn a_name_taken_twice_is_told_and_each_can_be_followed_by_handle() {
    let scratch = Scratch::new();
    let nodes = people(&scratch, &["ann", "sam", "sam"], |_| {});
    let [ann, sam, twin] = nodes.as_slice() else {
        return assert_eq!(nodes.len(), 3);
    };
    let name = json!({ "handle": "sam" });
    let others = |_: Exit, answer: &Value| {
        answer
            .get("others")
            .is_some_and(|others| *others != json!([]))
    };
    let whois = ann.until("whois", &name, others);
    assert_eq!(whois.get("chosen_by").unwrap(), "first-seen");
    let (exit, refused) = ann.call("follow", &name);
    assert_eq!(exit, Exit::Ambiguous);
    let mut handles: Vec<String> = list(refused.get("error").unwrap(), "handles");
    handles.sort_unstable();
    let mut expected = [sam.handle(), twin.handle()];
    expected.sort_unstable();
    assert_eq!(handles, expected);
    follow(ann, twin);
    follow(ann, sam);
    let mut following = list(&ann.ok("following", &none()), "handles");
    following.sort_unstable();
    assert_eq!(following, expected);
}

#[test]
fn posts_of_a_dead_author_come_from_those_who_keep_them_until_they_expire() {
    let scratch = Scratch::new();
    let keep = Duration::from_secs(8);
    let names = ["seed", "ann", "bob", "cas"];
    let mut nodes = people(&scratch, &names, |options| options.keep = keep);
    let cas = nodes.pop().unwrap();
    let bob = nodes.pop().unwrap();
    let ann = nodes.pop().unwrap();
    follow(&bob, &ann);
    follow(&cas, &ann);
    post(&ann, "kept");
    let from_author = via(&[("kept", "author")]);
    assert_eq!(shown(&bob.ok("timeline", &none())), from_author);
    let handle = ann.handle();
    ann.kill();
    let read = std::time::Instant::now();
    let timeline = cas.ok("timeline", &none());
    assert_eq!(shown(&timeline), via(&[("kept", "replica:bob")]));
    assert_eq!(timeline.get("complete").unwrap(), true);
    let gone = |exit: Exit, _: &Value| exit == Exit::Partial;
    let timeline = cas.until("timeline", &none(), gone);
    assert!(read.elapsed() >= keep - Duration::from_secs(4));
    assert!(shown(&timeline).is_empty(), "{timeline}");
    assert_eq!(timeline.pointer("/missing/0/handle").unwrap(), &handle);
}

#[test]
fn a_killed_author_returns_with_everything_acknowledged() {
    let scratch = Scratch::new();
    let mut nodes = people(&scratch, &["seed", "bob", "ann"], |_| {});
    let ann = nodes.pop().unwrap();
    let [seed, bob] = nodes.as_slice() else {
        return assert_eq!(nodes.len(), 2);
    };
    follow(bob, &ann);
    follow(&ann, bob);
    for seq in 1..=5 {
        assert_eq!(post(&ann, &format!("p{seq}")), seq);
    }
    ann.kill();
    let ann = up(&scratch.path("2"), &options("ann", &[seed.addr()]));
    let export = ann.ok("export", &none());
    assert_eq!(export.pointer("/posts/4/text").unwrap(), "p5");
    assert_eq!(list(&export, "following"), [bob.handle()]);
    assert_eq!(
        list(&ann.ok("followers", &none()), "handles"),
        [bob.handle()]
    );
    assert_eq!(post(&ann, "p6"), 6);
    let all = |_: Exit, timeline: &Value| shown(timeline).len() == 6;
    bob.until("timeline", &none(), all);
}

#[test]
fn a_lost_database_comes_back_from_the_network() {
    let scratch = Scratch::new();
    let mut nodes = people(&scratch, &["seed", "bob", "cas", "ann"], |_| {});
    let ann = nodes.pop().unwrap();
    let [seed, bob, cas] = nodes.as_slice() else {
        return assert_eq!(nodes.len(), 3);
    };
    follow(bob, &ann);
    follow(cas, &ann);
    follow(&ann, bob);
    post(&ann, "before");
    bob.ok("timeline", &none());
    let bob_only = |_: Exit, answer: &Value| list(answer, "handles") == [bob.handle()];
    bob.until("following", &about(&ann), bob_only);
    ann.stop();
    let home = scratch.path("3");
    fs::remove_file(home.join(DATABASE_FILE)).unwrap();
    let ann = up(&home, &options("ann", &[seed.addr()]));
    let posted = ann.until("post", &json!({ "text": "after" }), |exit, _| {
        exit == Exit::Ok
    });
    let seq = posted.get("seq").and_then(Value::as_u64).unwrap();
    assert!(seq > 1, "the number is not used again: {seq}");
    assert_eq!(
        list(&ann.ok("following", &none()), "handles"),
        [bob.handle()]
    );
    let read = |_: Exit, timeline: &Value| shown(timeline).iter().any(|(text, _)| text == "after");
    cas.until("timeline", &none(), read);
}

#[test]
fn many_follow_one_at_the_same_moment_and_all_count() {
    let scratch = Scratch::new();
    let names = ["ann", "f1", "f2", "f3", "f4", "f5", "f6", "f7", "f8"];
    let nodes = people(&scratch, &names, |_| {});
    let Some((ann, followers)) = nodes.split_first() else {
        return;
    };
    std::thread::scope(|scope| {
        for follower in followers {
            scope.spawn(|| follow(follower, ann));
        }
    });
    let all = |_: Exit, answer: &Value| list(answer, "handles").len() == followers.len();
    ann.until("followers", &none(), all);
    for reader in followers.iter().take(2) {
        reader.until("followers", &about(ann), all);
    }
}
