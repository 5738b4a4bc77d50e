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

use strandline_core::addr::PackedAddr;
use strandline_core::crypto::{Crypto, Ed25519, SecretKey};
use strandline_core::id::{Key, NodeId, UserId};
use strandline_core::name::Name;
use strandline_core::rules::Rule;
use strandline_core::wire::datagram::{
    Body, Contact, Datagram, Denial, NO_TOKEN, Proof, PutOutcome,
};
use strandline_core::wire::frame::{
    Ending, Frame, Get, GetStored, Refusal, Target as GetTarget, Unreached,
};
use strandline_core::wire::post::{self, PostKind};
use strandline_core::wire::record::{
    Claim, Copy, Follow, Following, Head, Holding, Kind, Profile, Sighting,
};
use strandline_core::wire::{
    DATAGRAM_LEN_MAX, FRAME_LEN_MAX, FRAME_PREFIX_LEN, POST_LEN_MAX, RECORD_LEN_MAX, TEXT_LEN_MAX,
    record,
};
use strandline_tests::fuzzing::{NETWORK, TARGETS};

/// A file of the corpus: the target, the file's name, its bytes.
type Seed = (&'static str, String, Vec<u8>);

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
    for (target, name, bytes) in seeds() {
        let path = folder(target).join(&name);
        if std::env::var_os("WRITE_CORPUS").is_some() {
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

/// When everything in the seeds was written, Unix ms.
const TIME_MS: u64 = 1_700_000_000_000;

fn folder(target: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "fuzz", "corpus", target]
        .iter()
        .collect()
}

/// One of each message, record and post, and the ways to be refused that mutation rarely finds.
fn seeds() -> Vec<Seed> {
    let mut seeds = Vec::new();
    let mut add = |target, name: &str, bytes: Vec<u8>| seeds.push((target, name.to_owned(), bytes));

    let records: Vec<(Kind, Vec<u8>)> = Kind::ALL
        .into_iter()
        .map(|kind| (kind, Author::new(1).record(kind, 60_000)))
        .collect();
    for (kind, bytes) in &records {
        let kind = format!("{kind:?}").to_lowercase();
        add("record", &format!("valid-{kind}"), bytes.clone());
    }
    let value = Author::new(1).record(Kind::Value, 60_000);
    add(
        "record",
        "refused-lifetime",
        Author::new(1).record(Kind::Value, 0),
    );
    add("record", "refused-overlong", vec![0; RECORD_LEN_MAX + 1]);
    add(
        "record",
        "refused-malformed",
        [value.as_slice(), &[0]].concat(),
    );
    add("record", "refused-signature", flip_last(value.clone()));

    let short = post_of("tide");
    add("post", "valid-text", short.clone());
    add("post", "valid-empty", post_of(""));
    add(
        "post",
        "valid-longest",
        post_of(&"\u{1f30a}".repeat(TEXT_LEN_MAX / 4)),
    );
    add("post", "refused-chain", flip_last(short.clone()));
    add("post", "refused-overlong", vec![0; POST_LEN_MAX + 1]);
    add(
        "post",
        "refused-malformed",
        [short.as_slice(), &[0]].concat(),
    );

    for (name, body) in datagrams(&value) {
        add("datagram", name, datagram(body));
    }
    add("datagram", "valid-records", found(&copy_of(&value), &[]));
    let contact = Contact {
        id: NodeId::from_bytes([3; 32]),
        addr: address(),
    };
    add(
        "datagram",
        "valid-contacts",
        found(&[], &[contact.to_bytes(); 20].concat()),
    );
    let find = datagram(Body::FindNode { target: Key::ZERO });
    let short = datagram(Body::Ping {
        leaving: false,
        challenge: None,
        pad: &[],
    });
    add("datagram", "refused-undersized", short);
    add(
        "datagram",
        "refused-malformed",
        [find.as_slice(), &[0]].concat(),
    );
    add(
        "datagram",
        "refused-overlong",
        vec![1; DATAGRAM_LEN_MAX + 1],
    );
    add("datagram", "refused-version", vec![0; 100]);
    add("datagram", "refused-network", vec![1; 100]);

    let profile = Author::new(2).record(Kind::Profile, 60_000);
    let post = post_of("flotsam");
    for (name, frames) in streams(&records, &profile, &post) {
        add("frame", name, frames.into_iter().flat_map(frame).collect());
    }
    add("frame", "valid-get", get());
    let too_long = u16::try_from(FRAME_LEN_MAX + 1).unwrap().to_be_bytes();
    add("frame", "refused-overlong", too_long.to_vec());
    add("frame", "refused-malformed", vec![0, 0]);
    add(
        "frame",
        "refused-chain",
        frame(Frame::Post {
            post: &flip_last(post.clone()),
        }),
    );
    add("frame", "valid-half", frame(Frame::Working)[..3].to_vec());
    seeds
}

/// One datagram body of each kind, by the name of its file.
fn datagrams(value: &[u8]) -> Vec<(&'static str, Body<'_>)> {
    let key = Key::from_bytes([7; 32]);
    let observed = address();
    let record = value;
    let proof = Proof {
        key: [3; 32],
        signature: &[4; 64],
    };
    vec![
        (
            "valid-ping",
            Body::Ping {
                leaving: false,
                challenge: None,
                pad: &[0; 40],
            },
        ),
        (
            "valid-challenge",
            Body::Ping {
                leaving: true,
                challenge: Some([5; 16]),
                pad: &[0; 20],
            },
        ),
        ("valid-find-node", Body::FindNode { target: key }),
        (
            "valid-get",
            Body::Get {
                key,
                kinds: 0xff,
                after: 300,
                limit: 3,
            },
        ),
        (
            "valid-put",
            Body::Put {
                depth: 1,
                spilled: true,
                age_ms: 1_000,
                remaining_ms: 59_000,
                record,
            },
        ),
        (
            "valid-send",
            Body::Send {
                key: Some(key),
                bytes: b"ahoy",
            },
        ),
        (
            "valid-pong",
            Body::Pong {
                observed,
                proof: None,
            },
        ),
        (
            "valid-proof",
            Body::Pong {
                observed,
                proof: Some(proof),
            },
        ),
        (
            "valid-stored",
            Body::Stored {
                observed,
                outcome: PutOutcome::Stored,
            },
        ),
        (
            "valid-older",
            Body::Stored {
                observed,
                outcome: PutOutcome::Older { record },
            },
        ),
        (
            "valid-delivered",
            Body::Delivered {
                observed,
                accepted: true,
                bytes: b"aye",
            },
        ),
        (
            "valid-denied",
            Body::Denied {
                observed,
                reason: Denial::Token,
            },
        ),
    ]
}

fn found(records: &[u8], contacts: &[u8]) -> Vec<u8> {
    let observed = address();
    datagram(Body::Found {
        observed,
        more: true,
        spilled: false,
        records,
        contacts,
    })
}

/// A record as a `Found` reply carries it.
fn copy_of(record: &[u8]) -> Vec<u8> {
    let mut buf = [0; DATAGRAM_LEN_MAX];
    let copy = Copy {
        age_ms: 1_000,
        remaining_ms: 59_000,
        record,
    };
    let len = copy.encode(&mut buf).unwrap();
    buf[..len].to_vec()
}

fn datagram(body: Body<'_>) -> Vec<u8> {
    let sender = NodeId::from_bytes([9; 32]);
    let mut buf = [0; DATAGRAM_LEN_MAX];
    let datagram = Datagram {
        transaction: [8; 8],
        sender,
        token: NO_TOKEN,
        body,
    };
    let len = datagram.encode(NETWORK, &mut buf).unwrap();
    buf[..len].to_vec()
}

/// Some conversations, as one side of a stream reads them.
fn streams<'a>(
    records: &'a [(Kind, Vec<u8>)],
    profile: &'a [u8],
    post: &'a [u8],
) -> Vec<(&'static str, Vec<Frame<'a>>)> {
    let record = |wanted| {
        let (_, bytes) = records.iter().find(|(kind, _)| *kind == wanted).unwrap();
        bytes.as_slice()
    };
    let author = Author::new(1).user;
    let get_stored = GetStored {
        author,
        log: 0,
        since: 4,
        limit: 50,
    };
    let target = GetTarget {
        profile,
        log: 0,
        since: 300,
        limit: 20,
    };
    let unreached = Ending::Unreached(Unreached::Stalled);
    vec![
        (
            "valid-follow",
            vec![Frame::Follow {
                record: record(Kind::Follow),
            }],
        ),
        (
            "valid-unfollow",
            vec![Frame::Unfollow {
                record: record(Kind::Follow),
            }],
        ),
        (
            "valid-deleted",
            vec![Frame::Deleted {
                record: record(Kind::Follow),
            }],
        ),
        ("valid-get-stored", vec![Frame::GetStored(get_stored)]),
        (
            "valid-target",
            vec![Frame::Target(target), Frame::Target(target)],
        ),
        (
            "valid-answer",
            vec![
                Frame::Working,
                Frame::Head {
                    record: record(Kind::Head),
                    remaining_ms: 30_000,
                },
                Frame::Post { post },
                Frame::Done {
                    author,
                    outcome: Ending::Complete,
                },
                Frame::Done {
                    author,
                    outcome: unreached,
                },
                Frame::End,
            ],
        ),
        (
            "valid-refused",
            vec![Frame::Refused {
                reason: Refusal::Busy,
                head: &[],
            }],
        ),
    ]
}

fn get() -> Vec<u8> {
    let reader = Author::new(1);
    let signature = Get::sign::<Ed25519>(NETWORK, 6, &reader.public, TIME_MS, 3, &reader.secret);
    frame(Frame::Get(Get {
        request: 6,
        reader: reader.public,
        issued_ms: TIME_MS,
        fanout: 3,
        signature: &signature,
        depth: 1,
        promotions: 2,
        deadline_ms: 9_000,
        log: 0,
        since: 300,
        limit: 50,
        targets: 2,
    }))
}

fn frame(frame: Frame<'_>) -> Vec<u8> {
    let mut buf = [0; FRAME_PREFIX_LEN + FRAME_LEN_MAX];
    let len = frame.encode(NETWORK, &mut buf).unwrap();
    buf[..len].to_vec()
}

fn post_of(text: &str) -> Vec<u8> {
    let draft = post::Draft {
        user: Author::new(1).user,
        log: 0,
        seq: 300,
        time_ms: TIME_MS,
        prev: [2; 32],
        kind: PostKind::Text,
        salt: [1; 16],
        text,
    };
    let mut buf = [0; POST_LEN_MAX];
    let (len, _) = draft.encode::<Ed25519>(NETWORK, &mut buf).unwrap();
    buf[..len].to_vec()
}

/// A user with a key that everybody knows.
struct Author {
    secret: SecretKey,
    public: [u8; 32],
    user: UserId,
    name: Name,
}

impl Author {
    fn new(number: u8) -> Self {
        let secret = SecretKey::from_bytes([number; 32]);
        let public = Ed25519::public_key(&secret);
        let user = UserId::of_key::<Ed25519>(&public);
        let name = Name::parse("seedling").unwrap();
        Self {
            secret,
            public,
            user,
            name,
        }
    }

    /// Where a record of this kind belongs, and what it says about itself.
    fn draft(&self, kind: Kind, lifetime_ms: u32) -> record::Draft {
        let other = Self::new(3).user;
        let (key, subject) = match kind {
            Kind::Claim => (Key::of_name::<Ed25519>(&self.name), None),
            Kind::Follow | Kind::Sighting => (Key::of_user::<Ed25519>(&other), Some(other)),
            Kind::Profile | Kind::Head | Kind::Following | Kind::Holding => {
                (Key::of_user::<Ed25519>(&self.user), None)
            }
            Kind::Value => (Key::from_bytes([6; 32]), None),
        };
        record::Draft {
            kind,
            key,
            author: self.user,
            subject,
            page: 0,
            sequence: 300,
            issued_ms: TIME_MS,
            lifetime_ms,
        }
    }

    /// A signed record of this kind, whose payload has something in every field.
    fn record(&self, kind: Kind, lifetime_ms: u32) -> Vec<u8> {
        let draft = self.draft(kind, lifetime_ms);
        let Self {
            secret,
            public,
            user,
            name,
        } = self;
        let (name, address) = (*name, address());
        let mut buf = [0; RECORD_LEN_MAX];
        macro_rules! sign {
            ($payload:expr) => {
                draft.sign_payload::<Ed25519, _>(&$payload, secret, public, NETWORK, &mut buf)
            };
        }
        let len = match kind {
            Kind::Claim => sign!(Claim {
                name,
                first_claimed_ms: TIME_MS
            }),
            Kind::Profile => sign!(Profile {
                name,
                addresses: &[*address.as_bytes(); 2].concat(),
                lease_ms: 5_400_000,
                logs: &[&[0, 1], public.as_slice()].concat(),
                followers: 20,
                next_key: [5; 32],
            }),
            Kind::Head => sign!(Head {
                last: 300,
                hash: [2; 32],
                reserved: 320,
                keep_ms: 3_600_000,
                confirmed_ms: TIME_MS,
                holders: &[user.as_bytes().as_slice(), address.as_bytes()].concat(),
            }),
            Kind::Follow => {
                sign!(Follow {
                    name,
                    address,
                    following: true,
                    holds_ms: 60_000,
                    last_seen: 300
                })
            }
            Kind::Following => sign!(Following {
                pages: 1,
                // A user id, then a name with its length.
                entries: &[user.as_bytes().as_slice(), b"\x08seedling"].concat(),
            }),
            Kind::Holding => sign!(Holding {
                // A user id, then a time.
                entries: &[user.as_bytes().as_slice(), &TIME_MS.to_be_bytes()].concat(),
            }),
            Kind::Sighting => sign!(Sighting { missed_ms: TIME_MS }),
            Kind::Value => draft.sign::<Ed25519>(b"flotsam", secret, public, NETWORK, &mut buf),
        };
        buf[..len.unwrap()].to_vec()
    }
}

fn address() -> PackedAddr {
    PackedAddr::from(std::net::SocketAddr::from(([203, 0, 113, 7], 7827)))
}

fn flip_last(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(last) = bytes.last_mut() {
        *last ^= 1;
    }
    bytes
}
