//! One of each message, record, post and frame, made by the user of the examples.

use strandline_core::addr::PackedAddr;
use strandline_core::crypto::{Crypto, Ed25519, SecretKey};
use strandline_core::id::{Key, NodeId, UserId};
use strandline_core::name::Name;
use strandline_core::wire::codec::{self, Encode};
use strandline_core::wire::datagram::{
    Body, Contact, Datagram, Denial, Digest, NO_TOKEN, Proof, PutOutcome, Told,
};
use strandline_core::wire::frame::{Ending, Frame, Get, GetStored, Refusal, Target, Unreached};
use strandline_core::wire::post::{self, PostKind};
use strandline_core::wire::record::{
    self, Claim, Copy, Follow, Followed, Following, Head, Holding, Kind, Profile, Record, Sighting,
};
use strandline_core::wire::{
    DATAGRAM_LEN_MAX, FRAME_LEN_MAX, NetworkId, POST_LEN_MAX, RECORD_LEN_MAX,
};

pub fn network() -> NetworkId {
    NetworkId::of_name::<Ed25519>("strandline")
}

/// The user of the examples: its secret is 32 bytes of 1.
pub struct Alice {
    pub secret: SecretKey,
    pub public: [u8; 32],
    pub user: UserId,
    pub name: Name,
}

pub fn alice() -> Alice {
    let secret = SecretKey::from_bytes([1; 32]);
    let public = Ed25519::public_key(&secret);
    let user = UserId::of_key::<Ed25519>(&public);
    Alice {
        secret,
        public,
        user,
        name: Name::parse("alice").unwrap(),
    }
}

pub fn addr(text: &str) -> PackedAddr {
    PackedAddr::from(text.parse::<std::net::SocketAddr>().unwrap())
}

pub fn sign<T: Encode>(kind: Kind, key: Key, subject: Option<UserId>, payload: &T) -> Vec<u8> {
    let alice = alice();
    let draft = record::Draft {
        kind,
        key,
        author: alice.user,
        subject,
        page: 0,
        sequence: 7,
        issued_ms: 1_700_000_000_000,
        lifetime_ms: 60_000,
    };
    let mut buf = [0; RECORD_LEN_MAX];
    let len = draft
        .sign_payload::<Ed25519, T>(payload, &alice.secret, &alice.public, network(), &mut buf)
        .unwrap();
    buf[..len].to_vec()
}

pub fn head_bytes() -> Vec<u8> {
    let alice = alice();
    let mut holder = [0x33; 50];
    holder[32..].copy_from_slice(addr("192.0.2.1:7827").as_bytes());
    let (_, hash) = post_bytes();
    let head = Head {
        last: 1,
        hash,
        reserved: 64,
        keep_ms: 3_600_000,
        confirmed_ms: 1_700_000_000_000,
        holders: &holder,
    };
    sign(
        Kind::Head,
        Key::of_user::<Ed25519>(&alice.user),
        None,
        &head,
    )
}

pub fn profile_bytes() -> Vec<u8> {
    let alice = alice();
    let address = addr("192.0.2.7:7827");
    let profile = Profile {
        name: alice.name,
        addresses: address.as_bytes(),
        lease_ms: 5_400_000,
        logs: &[],
        followers: 3,
        next_key: [0; 32],
    };
    sign(
        Kind::Profile,
        Key::of_user::<Ed25519>(&alice.user),
        None,
        &profile,
    )
}

pub fn follow_bytes() -> Vec<u8> {
    let subject = UserId::from_bytes([0x44; 32]);
    let follow = Follow {
        name: alice().name,
        address: addr("192.0.2.7:7827"),
        following: true,
        holds_ms: 0,
        last_seen: 0,
    };
    sign(
        Kind::Follow,
        Key::of_user::<Ed25519>(&subject),
        Some(subject),
        &follow,
    )
}

pub fn post_bytes() -> (Vec<u8>, [u8; 32]) {
    let draft = post::Draft {
        user: alice().user,
        log: 0,
        seq: 1,
        time_ms: 1_700_000_000_000,
        prev: [0; 32],
        kind: PostKind::Text,
        salt: [9; 16],
        text: "hello, tide",
    };
    let mut buf = [0; POST_LEN_MAX];
    let (len, hash) = draft.encode::<Ed25519>(network(), &mut buf).unwrap();
    (buf[..len].to_vec(), hash)
}

pub fn datagram(token: [u8; 8], body: Body<'_>) -> Vec<u8> {
    let datagram = Datagram {
        transaction: [1, 2, 3, 4, 5, 6, 7, 8],
        sender: NodeId::from_bytes([0x22; 32]),
        token,
        body,
    };
    let mut buf = [0; DATAGRAM_LEN_MAX];
    let len = datagram.encode(network(), &mut buf).unwrap();
    let bytes = buf[..len].to_vec();
    assert_eq!(Datagram::decode(&bytes, network()), Ok(datagram));
    bytes
}

pub fn frame(frame: Frame<'_>) -> Vec<u8> {
    let mut buf = [0; FRAME_LEN_MAX + 2];
    let len = frame.encode(network(), &mut buf).unwrap();
    let bytes = buf[..len].to_vec();
    let (body, whole) = Frame::split(&bytes).unwrap().unwrap();
    assert_eq!(whole, len);
    assert_eq!(Frame::decode(body, network()), Ok(frame));
    bytes
}

/// Every requests and reply, by name.
pub fn datagrams() -> Vec<(&'static str, Vec<u8>)> {
    const TOKEN: [u8; 8] = [0xaa; 8];
    let observed = addr("192.0.2.1:7827");
    let claim = sign(
        Kind::Claim,
        Key::of_name::<Ed25519>(&alice().name),
        None,
        &Claim {
            name: alice().name,
            first_claimed_ms: 1_700_000_000_000,
        },
    );
    let mut copy = [0; RECORD_LEN_MAX + 20];
    let len = Copy {
        age_ms: 5,
        remaining_ms: 59_000,
        record: &claim,
    }
    .encode(&mut copy)
    .unwrap();
    let contact = Contact {
        id: NodeId::from_bytes([0x55; 32]),
        addr: addr("[2001:db8::1]:7827"),
    }
    .to_bytes();
    // The sender of these datagrams itself, and the other contact.
    let own = Contact {
        id: NodeId::from_bytes([0x22; 32]),
        addr: PackedAddr::NONE,
    };
    let owned = [own.to_bytes(), contact].concat();
    let key = Key::from_bytes([0x77; 32]);
    let proof = Proof {
        key: alice().public,
        signature: &[0x66; 64],
    };
    vec![
        (
            "ping",
            datagram(
                NO_TOKEN,
                Body::Ping {
                    leaving: false,
                    challenge: None,
                    pad: &[0; 39],
                },
            ),
        ),
        (
            "ping-challenge",
            datagram(
                TOKEN,
                Body::Ping {
                    leaving: false,
                    challenge: Some([3; 16]),
                    pad: &[0; 23],
                },
            ),
        ),
        ("find-node", datagram(TOKEN, Body::FindNode { target: key })),
        (
            "get",
            datagram(
                TOKEN,
                Body::Get {
                    key,
                    kinds: 0b1010,
                    after: 0,
                    limit: 8,
                },
            ),
        ),
        (
            "put",
            datagram(
                TOKEN,
                Body::Put {
                    depth: 0,
                    spilled: false,
                    age_ms: 0,
                    remaining_ms: 60_000,
                    record: &claim,
                },
            ),
        ),
        (
            "send",
            datagram(
                TOKEN,
                Body::Send {
                    key: Some(key),
                    bytes: b"hi",
                },
            ),
        ),
        (
            "pong",
            datagram(
                TOKEN,
                Body::Pong {
                    observed,
                    proof: None,
                },
            ),
        ),
        (
            "pong-proof",
            datagram(
                TOKEN,
                Body::Pong {
                    observed,
                    proof: Some(proof),
                },
            ),
        ),
        (
            "found",
            datagram(
                TOKEN,
                Body::Found {
                    observed,
                    more: false,
                    spilled: false,
                    records: &copy[..len],
                    contacts: &contact,
                },
            ),
        ),
        (
            "found-owned",
            datagram(
                TOKEN,
                Body::Found {
                    observed,
                    more: false,
                    spilled: false,
                    records: &[],
                    contacts: &owned,
                },
            ),
        ),
        (
            "stored",
            datagram(
                TOKEN,
                Body::Stored {
                    observed,
                    outcome: PutOutcome::Stored,
                },
            ),
        ),
        (
            "stored-older",
            datagram(
                TOKEN,
                Body::Stored {
                    observed,
                    outcome: PutOutcome::Older { record: &claim },
                },
            ),
        ),
        (
            "stored-full",
            datagram(
                TOKEN,
                Body::Stored {
                    observed,
                    outcome: PutOutcome::Full,
                },
            ),
        ),
        (
            "stored-refused",
            datagram(
                TOKEN,
                Body::Stored {
                    observed,
                    outcome: PutOutcome::Refused,
                },
            ),
        ),
        (
            "delivered",
            datagram(
                TOKEN,
                Body::Delivered {
                    observed,
                    accepted: true,
                    bytes: b"ok",
                },
            ),
        ),
        (
            "denied",
            datagram(
                TOKEN,
                Body::Denied {
                    observed,
                    reason: Denial::Token,
                },
            ),
        ),
        (
            "denied-busy",
            datagram(
                TOKEN,
                Body::Denied {
                    observed,
                    reason: Denial::Busy,
                },
            ),
        ),
        (
            "denied-unsupported",
            datagram(
                TOKEN,
                Body::Denied {
                    observed,
                    reason: Denial::Unsupported,
                },
            ),
        ),
        (
            "have",
            datagram(
                TOKEN,
                Body::Have {
                    told: &told(&claim),
                },
            ),
        ),
        (
            "lacks",
            datagram(
                TOKEN,
                Body::Lacks {
                    observed,
                    lacks: 1,
                    holds: 0,
                },
            ),
        ),
        (
            "lacks-nothing",
            datagram(
                TOKEN,
                Body::Lacks {
                    observed,
                    lacks: 0,
                    holds: 1,
                },
            ),
        ),
    ]
}

/// What a holder tells about one record.
pub fn told(record: &[u8]) -> Vec<u8> {
    let record = Record::decode(record).unwrap();
    let digest = Digest::of::<Ed25519>(&record, 0);
    let told = [&record.key.as_bytes()[..], &[1], &digest.to_bytes()].concat();
    let read: Vec<_> = Told::iter(&told).collect();
    assert_eq!(read.len(), 1);
    assert_eq!(read[0].location, record.key);
    assert!(Digest::iter(read[0].digests).eq([digest]));
    told
}

/// Every kind of record, by name.
pub fn records() -> Vec<(&'static str, Vec<u8>)> {
    let alice = alice();
    let mine = Key::of_user::<Ed25519>(&alice.user);
    let subject = UserId::from_bytes([0x44; 32]);
    let theirs = Key::of_user::<Ed25519>(&subject);
    let mut entries = [0; 64];
    let followed = Followed {
        user: subject,
        name: Name::parse("bob").unwrap(),
    };
    let len = codec::encode(&followed, &mut entries).unwrap();
    let entries = &entries[..len];
    let mut held = [0x44; 40];
    held[32..].copy_from_slice(&1_700_000_060_000_u64.to_be_bytes());
    let claim = Claim {
        name: alice.name,
        first_claimed_ms: 1_700_000_000_000,
    };
    vec![
        (
            "record-claim",
            sign(
                Kind::Claim,
                Key::of_name::<Ed25519>(&alice.name),
                None,
                &claim,
            ),
        ),
        ("record-profile", profile_bytes()),
        ("record-head", head_bytes()),
        ("record-follow", follow_bytes()),
        (
            "record-following",
            sign(
                Kind::Following,
                mine,
                None,
                &Following { pages: 1, entries },
            ),
        ),
        (
            "record-holding",
            sign(Kind::Holding, mine, None, &Holding { entries: &held }),
        ),
        (
            "record-sighting",
            sign(
                Kind::Sighting,
                theirs,
                Some(subject),
                &Sighting {
                    missed_ms: 1_700_000_000_000,
                },
            ),
        ),
        (
            "record-value",
            sign(Kind::Value, Key::from_bytes([0x77; 32]), None, b"any bytes"),
        ),
    ]
}

/// Every frame, by name.
pub fn frames() -> Vec<(&'static str, Vec<u8>)> {
    let alice = alice();
    let (record, head, profile, (post, _)) =
        (follow_bytes(), head_bytes(), profile_bytes(), post_bytes());
    let signature = Get::sign::<Ed25519>(
        network(),
        42,
        &alice.public,
        1_700_000_000_000,
        3,
        &alice.secret,
    );
    let get = Get {
        request: 42,
        reader: alice.public,
        issued_ms: 1_700_000_000_000,
        fanout: 3,
        signature: &signature,
        depth: 0,
        promotions: 0,
        deadline_ms: 9_000,
        log: 0,
        since: 5,
        limit: 1_000,
        targets: 1,
    };
    let author = alice.user;
    let done = |outcome| frame(Frame::Done { author, outcome });
    vec![
        ("frame-follow", frame(Frame::Follow { record: &record })),
        ("frame-unfollow", frame(Frame::Unfollow { record: &record })),
        ("frame-get", frame(Frame::Get(get))),
        (
            "frame-target",
            frame(Frame::Target(Target {
                profile: &profile,
                log: 0,
                since: 0,
                limit: 1_000,
            })),
        ),
        (
            "frame-get-stored",
            frame(Frame::GetStored(GetStored {
                author,
                log: 0,
                since: 0,
                limit: 1_000,
            })),
        ),
        (
            "frame-head",
            frame(Frame::Head {
                record: &head,
                remaining_ms: 3_600_000,
            }),
        ),
        ("frame-post", frame(Frame::Post { post: &post })),
        ("frame-deleted", frame(Frame::Deleted { record: &record })),
        ("frame-working", frame(Frame::Working)),
        ("frame-done-complete", done(Ending::Complete)),
        ("frame-done-nothing-new", done(Ending::NothingNew)),
        (
            "frame-done-unreached",
            done(Ending::Unreached(Unreached::Stalled)),
        ),
        ("frame-end", frame(Frame::End)),
        (
            "frame-refused",
            frame(Frame::Refused {
                reason: Refusal::Busy,
                head: &head,
            }),
        ),
    ]
}

pub fn everything() -> Vec<(&'static str, Vec<u8>)> {
    let mut all = datagrams();
    all.extend(records());
    all.push(("post", post_bytes().0));
    all.extend(frames());
    all
}
