//! Names in small worlds: two people of one name, squatters, and who is followed.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test may panic, and looks at one outcome among many"
)]

use std::collections::BTreeSet;

use strandline_core::name::{Handle, Name};
use strandline_core::output::{ChosenBy, Outcome, Relation};
use strandline_tests::sim::{Command, HostId, Kind, Setup, World, secs};

fn network(seed: u64) -> (World, Vec<HostId>) {
    let mut world = World::new(seed);
    let hosts = world.joined(16, 0);
    (world, hosts)
}

fn bare(name: &str) -> Handle {
    Handle {
        name: Name::parse(name).unwrap(),
        fingerprint: None,
    }
}

#[test]
fn two_people_who_take_one_name_at_once_both_work() {
    let (mut world, hosts) = network(1);
    let pair = [(); 2].map(|()| world.node_with(Setup::new(Kind::Server).named("ann")));
    world.run_for(secs(20));
    let users: BTreeSet<_> = pair.iter().map(|host| world.user(*host)).collect();

    let answer = world.whois(hosts[1], "ann");
    let claimants: Vec<_> = answer
        .people
        .iter()
        .filter_map(|(person, relation)| match relation {
            Relation::Claimant { taken, .. } => Some((person.user, *taken)),
            _ => None,
        })
        .collect();
    assert_eq!(
        claimants
            .iter()
            .map(|(user, _)| *user)
            .collect::<BTreeSet<_>>(),
        users
    );
    assert_eq!(claimants.iter().filter(|(_, taken)| *taken).count(), 1);
    assert!(claimants[0].1, "the one taken comes first");
    assert_eq!(answer.profile.unwrap().chosen_by, ChosenBy::FirstSeen);

    let refused = world.run(hosts[1], &Command::Follow(bare("ann")), None);
    assert_eq!(refused.outcome(), Some(Outcome::Ambiguous));
    assert_eq!(refused.people.len(), 2, "and says between whom");

    for ann in pair {
        world.post(ann, "I am Ann");
        assert!(world.follow(hosts[1], ann).stored, "one can follow both");
    }
    let read = world.timeline(hosts[1]);
    for ann in pair {
        assert_eq!(read.of(world.user(ann)), ["1 I am Ann"]);
        let exact = world.handle(ann).to_string();
        let answer = world.whois(hosts[2], &exact);
        assert_eq!(
            answer.profile.unwrap().person.user,
            world.user(ann),
            "{exact} is exact"
        );
    }
}

#[test]
fn a_pinned_name_never_becomes_somebody_else() {
    let (mut world, hosts) = network(2);
    let first = world.node_with(Setup::new(Kind::Server).named("ann"));
    world.run_for(secs(10));
    let reader = hosts[1];
    let followed = world.run(reader, &Command::Follow(bare("ann")), Some(first));
    assert!(
        matches!(followed.outcome(), Some(Outcome::Followed { .. })),
        "the only one is taken"
    );
    let second = world.node_with(Setup::new(Kind::Server).named("ann"));
    world.run_for(secs(10));
    world.post(first, "the first");
    world.post(second, "the second");
    world.crash(first);
    let answer = world.whois(reader, "ann");
    let profile = answer.profile.unwrap();
    assert_eq!(
        (profile.person.user, profile.chosen_by),
        (world.user(first), ChosenBy::Pin)
    );
    let read = world.run(reader, &Command::Timeline(Some(bare("ann"))), Some(first));
    assert!(
        read.posts
            .iter()
            .all(|post| post.author.user == world.user(first))
    );
    assert!(!read.posts.iter().any(|post| post.text == "the second"));
}

#[test]
fn an_unknown_name_is_not_found() {
    let (mut world, hosts) = network(3);
    let answer = world.whois(hosts[1], "nobody");
    assert_eq!(answer.outcome(), Some(Outcome::NotFound));
    let answer = world.run(hosts[1], &Command::Follow(bare("nobody")), None);
    assert_eq!(answer.outcome(), Some(Outcome::NotFound));
    let answer = world.run(hosts[1], &Command::Timeline(Some(bare("nobody"))), None);
    assert_eq!(answer.outcome(), Some(Outcome::NotFound));
}

#[test]
fn a_thousand_squatters_keep_nobody_from_the_real_one_by_its_handle() {
    let (mut world, hosts) = network(4);
    let real = world.node_with(Setup::new(Kind::Server).named("ann"));
    world.run_for(secs(20));
    // Forty machines of squatters, so that no quota of one address stops them; 25 keys on each.
    let mut stored = 0;
    for _ in 0..40 {
        let squatter = world.stranger(false);
        let tokens = world.tokens(squatter, &hosts);
        let nodes: Vec<_> = hosts
            .iter()
            .zip(tokens)
            .filter_map(|(host, token)| token.map(|token| (*host, token)))
            .collect();
        assert_eq!(nodes.len(), hosts.len());
        for _ in 0..25 {
            let forger = world.forger();
            let claim = world.sign_claim(&forger, "ann");
            let said = world.put_raw(squatter, &nodes, &claim);
            stored += said.iter().filter(|said| *said == "stored").count();
        }
    }
    assert!(stored > 0, "the squatters did take hold");
    let exact = world.handle(real).to_string();
    let answer = world.whois(hosts[1], &exact);
    assert_eq!(
        answer.profile.map(|profile| profile.person.user),
        Some(world.user(real))
    );
    assert!(world.follow(hosts[1], real).stored);
    world.post(real, "still me");
    assert_eq!(
        world.timeline(hosts[1]).of(world.user(real)),
        ["1 still me"]
    );
}
