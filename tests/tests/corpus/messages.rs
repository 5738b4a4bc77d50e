//! One of each message, record and post, with something in every field, signed by keys that everybody knows.

use std::net::SocketAddr;

use strandline_core::addr::PackedAddr;
use strandline_core::crypto::{Crypto, Ed25519, SecretKey};
use strandline_core::id::{Key, NodeId, UserId};
use strandline_core::name::Name;
use strandline_core::wire::datagram::{
    Body, Contact, Datagram, Denial, NO_TOKEN, Proof, PutOutcome,
};
use strandline_core::wire::frame::{Ending, Frame, Get, GetStored, Refusal, Target, Unreached};
use strandline_core::wire::post::{self, PostKind};
use strandline_core::wire::record::{
    Claim, Copy, Follow, Following, Head, Holding, Kind, Profile, Sighting,
};
use strandline_core::wire::{
    DATAGRAM_LEN_MAX, FRAME_LEN_MAX, FRAME_PREFIX_LEN, POST_LEN_MAX, RECORD_LEN_MAX, record,
};
use strandline_tests::fuzzing::NETWORK;

/// When everything was written, Unix ms.
const TIME_MS: u64 = 1_700_000_000_000;

/// One datagram body of each kind, by the name of its file.
pub fn datagrams(value: &[u8]) -> Vec<(&'static str, Body<'_>)> {
    let key = Key::from_bytes([7; 32]);
    let observed = address(9);
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
        ("valid-have", Body::Have { told: &[7; 45] }),
        (
            "valid-lacks",
            Body::Lacks {
                holds: 0,
                observed,
                lacks: 0b101,
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

pub fn found(records: &[u8], contacts: &[u8]) -> Vec<u8> {
    let observed = address(9);
    datagram(Body::Found {
        observed,
        more: true,
        spilled: false,
        records,
        contacts,
    })
}

/// A record as a `Found` reply carries it.
pub fn copy_of(record: &[u8]) -> Vec<u8> {
    let mut buf = [0; DATAGRAM_LEN_MAX];
    let copy = Copy {
        age_ms: 1_000,
        remaining_ms: 59_000,
        record,
    };
    let len = copy.encode(&mut buf).unwrap();
    buf[..len].to_vec()
}

pub fn datagram(body: Body<'_>) -> Vec<u8> {
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
pub fn streams<'a>(
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
    let target = Target {
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

pub fn get() -> Vec<u8> {
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

pub fn frame(frame: Frame<'_>) -> Vec<u8> {
    let mut buf = [0; FRAME_PREFIX_LEN + FRAME_LEN_MAX];
    let len = frame.encode(NETWORK, &mut buf).unwrap();
    buf[..len].to_vec()
}

pub fn post_of(text: &str) -> Vec<u8> {
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
pub struct Author {
    secret: SecretKey,
    public: [u8; 32],
    user: UserId,
    name: Name,
}

impl Author {
    pub fn new(number: u8) -> Self {
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
    pub fn record(&self, kind: Kind, lifetime_ms: u32) -> Vec<u8> {
        let draft = self.draft(kind, lifetime_ms);
        let Self {
            secret,
            public,
            user,
            name,
        } = self;
        let (name, address) = (*name, address(9));
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

pub fn address(number: u8) -> PackedAddr {
    PackedAddr::from(SocketAddr::from(([1, 2, number, 7], 7827)))
}

/// The node at an address, as the target `node` takes it for granted.
pub fn contact(number: u8) -> Contact {
    Contact {
        id: NodeId::from_bytes([number; 32]),
        addr: address(number),
    }
}
