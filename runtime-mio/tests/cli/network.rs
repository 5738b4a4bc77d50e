//! Networks of people: what everyone reads is right, and nobody's follow is lost.

use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::thread;

use serde_json::Value;

use crate::harness::{Net, Node, Scratch, eventually, handles_in, list, sorted, text};

#[test]
fn ten_people_read_exactly_what_they_follow() {
    const NODES: usize = 10;
    const POSTS: usize = 5;
    let net = Net::of(NODES, &[]);
    let followed = |reader: usize| (1..=3).map(move |step| (reader + step) % NODES);
    for (number, node) in net.nodes.iter().enumerate() {
        for other in followed(number) {
            let answer = node.ask(["follow", &net.nodes[other].handle]);
            assert_eq!(answer["handle"], *net.nodes[other].handle);
        }
    }
    for round in 1..=POSTS {
        for node in &net.nodes {
            let seq = node.post(&format!("{} says {round}", node.name));
            assert_eq!(seq, round as u64);
        }
    }
    for (number, reader) in net.nodes.iter().enumerate() {
        let body = reader.ask(["timeline", "--limit", "1000"]);
        assert_eq!(body["complete"], true, "{body}");
        assert!(list(&body, "missing").is_empty(), "{body}");
        let expected: BTreeSet<(String, u64, String, String)> = followed(number)
            .chain([number])
            .flat_map(|author| {
                let via = if author == number { "self" } else { "author" };
                let author = &net.nodes[author];
                (1..=POSTS).map(move |seq| {
                    let said = format!("{} says {seq}", author.name);
                    (author.handle.clone(), seq as u64, said, via.to_owned())
                })
            })
            .collect();
        let posts = list(&body, "posts");
        let seen: BTreeSet<(String, u64, String, String)> = posts
            .iter()
            .map(|post| {
                let seq = post["seq"].as_u64().unwrap();
                (
                    text(&post["handle"]),
                    seq,
                    text(&post["text"]),
                    text(&post["via"]),
                )
            })
            .collect();
        assert_eq!(seen, expected, "read by {}", reader.name);
        assert_eq!(posts.len(), expected.len(), "nothing comes twice");
        assert_newest_first(posts);
        for post in posts {
            assert!(text(&post["handle"]).starts_with(&format!("{}~", text(&post["author"]))));
        }
    }
}

#[track_caller]
fn assert_newest_first(posts: &[Value]) {
    let times: Vec<u64> = posts
        .iter()
        .map(|post| post["time"].as_u64().unwrap())
        .collect();
    assert!(times.is_sorted_by(|a, b| a >= b), "{times:?}");
}

#[test]
fn twenty_follow_one_at_the_same_moment_and_none_is_lost() {
    const FOLLOWERS: usize = 20;
    let net = Net::of(30, &[]);
    let followed = &net.nodes[0].handle;
    thread::scope(|scope| {
        for node in &net.nodes[1..=FOLLOWERS] {
            scope.spawn(move || node.ask(["follow", followed]));
        }
    });
    let followers = net.nodes[1..=FOLLOWERS].iter();
    let expected = sorted(followers.map(|node| node.handle.clone()).collect());
    assert_eq!(net.nodes[0].handles("followers"), expected);
    // Not only the followed itself, which was told, but anybody who asks the network.
    let stranger = net.nodes.last().unwrap();
    let seen = sorted(handles_in(&stranger.ask(["followers", followed])));
    assert_eq!(seen, expected);
}

#[test]
fn two_people_with_one_name_are_told_apart() {
    let net = Net::named(&["ada", "sam", "sam", "eve"], &[]);
    let [ada, sam, other, eve] = &net.nodes[..] else {
        panic!("four nodes");
    };
    assert_ne!(sam.handle, other.handle);
    let both = sorted(vec![sam.handle.clone(), other.handle.clone()]);
    sam.post("this is one");
    other.post("this is the other");

    let whois = eventually("both claims are found", || {
        let (_, whois) = ada.ask_any(["whois", "sam"]);
        if whois["others"]
            .as_array()
            .is_some_and(|others| others.len() == 1)
        {
            Ok(whois)
        } else {
            Err(whois.to_string())
        }
    });
    assert_eq!(whois["chosen_by"], "first-seen");
    let listed = vec![text(&whois["handle"]), text(&whois["others"][0])];
    assert_eq!(sorted(listed), both);

    // To follow the wrong one would matter, so it is refused and both are named.
    let (exit, refused) = ada.ask_any(["follow", "sam"]);
    assert_eq!(exit, 9, "{refused}");
    assert_eq!(refused["error"]["exit"], 9);
    assert_eq!(sorted(handles_in(&refused["error"])), both);
    ada.run(["follow", "sam"])
        .exits(9)
        .explains(&[&sam.handle, &other.handle]);
    assert!(ada.handles("following").is_empty());

    // By handle each is exact, and both can be followed.
    for node in [sam, other] {
        assert_eq!(ada.ask(["whois", &node.handle])["handle"], *node.handle);
        assert_eq!(ada.ask(["follow", &node.handle])["handle"], *node.handle);
    }
    assert_eq!(ada.handles("following"), both);
    let timeline = ada.ask(["timeline"]);
    let texts = list(&timeline, "posts")
        .iter()
        .map(|post| text(&post["text"]))
        .collect();
    assert_eq!(sorted(texts), ["this is one", "this is the other"]);

    // A name that was pinned by following stays who it was.
    eve.ask(["follow", &other.handle]);
    let whois = eve.ask(["whois", "sam"]);
    assert_eq!(whois["chosen_by"], "pin", "{whois}");
    assert_eq!(whois["handle"], *other.handle);
    let timeline = eve.ask(["timeline", "sam"]);
    assert_eq!(timeline["posts"][0]["text"], "this is the other");
}

#[test]
fn a_name_that_means_several_whom_one_follows_is_not_enough_to_unfollow() {
    let net = Net::named(&["ada", "sam", "sam", "sam"], &[]);
    let [ada, sams @ ..] = &net.nodes[..] else {
        panic!("four nodes");
    };
    for sam in sams {
        ada.ask(["follow", &sam.handle]);
    }
    // The name is pinned to the one who was followed first; when that one is gone, to nobody.
    assert_eq!(ada.ask(["unfollow", "sam"])["handle"], *sams[0].handle);
    let left = sorted(vec![sams[1].handle.clone(), sams[2].handle.clone()]);
    let (exit, refused) = ada.ask_any(["unfollow", "sam"]);
    assert_eq!(exit, 9, "{refused}");
    assert_eq!(sorted(handles_in(&refused["error"])), left);
    assert_eq!(ada.handles("following"), left);
    ada.ask(["unfollow", &sams[1].handle]);
    assert_eq!(ada.ask(["unfollow", "sam"])["handle"], *sams[2].handle);
    ada.run(["unfollow", "sam"])
        .exits(3)
        .explains(&["you follow nobody of that name"]);
}

#[test]
fn a_prefix_of_the_fingerprint_is_enough() {
    let net = Net::named(&["ada", "bob"], &[]);
    let bob = &net.nodes[1].handle;
    let prefix = &bob[.."bob~".len() + 4];
    assert_eq!(net.nodes[0].ask(["whois", prefix])["handle"], **bob);
    let fault = if prefix.ends_with('0') { "1" } else { "0" };
    let nobody = format!("{}{fault}", &prefix[..prefix.len() - 1]);
    net.nodes[0].run(["whois", &nobody]).exits(3);
}

#[test]
fn a_network_works_over_ipv6() {
    if let Err(error) = UdpSocket::bind("[::1]:0") {
        eprintln!("SKIPPED: this machine has no IPv6 loopback ({error})");
        return;
    }
    let scratch = Scratch::new();
    let mut ada = Node::new(&scratch, "a", "ada").at("[::1]:0");
    let mut bob = Node::new(&scratch, "b", "bob").at("[::1]:0");
    ada.start(None);
    assert!(ada.listen.is_ipv6());
    bob.start(Some(ada.listen));
    ada.post("over six");
    assert_eq!(bob.ask(["follow", "ada"])["delivered"], true);
    let timeline = bob.ask(["timeline"]);
    assert_eq!(timeline["posts"][0]["text"], "over six");
    assert_eq!(timeline["posts"][0]["via"], "author");
    assert_eq!(ada.handles("followers"), [bob.handle.as_str()]);
}

#[test]
fn networks_of_different_names_do_not_mix() {
    let scratch = Scratch::new();
    let elsewhere = Scratch::new();
    let mut ada = Node::new(&scratch, "a", "ada");
    let mut bob = Node::new(&elsewhere, "b", "bob");
    ada.start(None);
    bob.start(Some(ada.listen));
    assert!(list(&bob.ask(["peers"]), "peers").is_empty());
    bob.run(["whois", "ada"]).exits(3);
}
