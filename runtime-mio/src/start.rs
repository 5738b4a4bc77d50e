//! How a node finds its home at the start: identity and storage, what fits together, and what must not be touched. Owns the
//! order in which a new home comes about: the identity is saved last, when everything that it needs is in place.

use strandline_core::config::Identity;
use strandline_core::crypto::SecretKey;
use strandline_core::name::Name;
use strandline_core::node::Node;
use strandline_core::output::{Class, Restored};
use strandline_core::plan::Server;
use strandline_core::time::Instant;

use crate::failure::{Exit, Failure, internal};
use crate::home::{Home, handle_of, how_to_restore, user_of};
use crate::options::usage;
use crate::store::{self, Found, Store};

/// What the storage was found to be, and how to go on once core has accepted it.
pub(crate) enum Storage {
    Found(Found),
    /// None yet; `lost`: there was one.
    None {
        lost: bool,
    },
}

impl Storage {
    pub(crate) fn find(home: &Home, identity: Option<&Identity>) -> Result<Self, Failure> {
        let path = home.database_path();
        let Some(found) = Found::open(&path)? else {
            let lost = identity.is_some();
            return Ok(Self::None { lost });
        };
        let Some(identity) = identity else {
            if found.how() == Restored::Fresh {
                // Left over from a start that was interrupted before there was an identity: nothing rests on it.
                return Ok(Self::None { lost: false });
            }
            return Err(Failure::new(
                Exit::Damaged,
                format!("cannot use {}", home.dir().display()),
                "the identity is missing, and the database belongs to one; nothing was overwritten",
                how_to_restore(home.dir()),
            ));
        };
        if found.owner() != user_of(identity) {
            return Err(store::damaged(&path, "it belongs to another identity"));
        }
        Ok(Self::Found(found))
    }

    /// Hands over everything to the node, and tells whether there were contacts among it.
    pub(crate) fn restore(
        &self,
        home: &Home,
        now: Instant,
        node: &mut Node<Server>,
    ) -> Result<(Restored, bool), Failure> {
        let mut has_contacts = false;
        let how = match self {
            Self::Found(found) => {
                found.for_each(|item| {
                    has_contacts |= item.class == Class::Contact;
                    node.restored(now, item)
                })?;
                found.how()
            }
            Self::None { lost: true } => Restored::Lost,
            Self::None { lost: false } => Restored::Fresh,
        };
        node.restored_all(now, how)
            .map_err(|damaged| store::damaged(&home.database_path(), &store::describe(&damaged)))?;
        Ok((how, has_contacts))
    }

    pub(crate) fn into_store(self, home: &Home, identity: &Identity) -> Result<Store, Failure> {
        let path = home.database_path();
        match self {
            Self::Found(found) => Store::open(&path, found),
            Self::None { lost } => Store::create(&path, &user_of(identity), lost),
        }
    }
}

/// 32 bytes that nobody can guess.
pub(crate) fn entropy() -> Result<[u8; 32], Failure> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(internal)?;
    Ok(bytes)
}

/// The identity of the home, or a new one that is yet to be saved.
pub(crate) fn identity_of(home: &Home, name: Option<Name>) -> Result<(Identity, bool), Failure> {
    match (home.identity()?, name) {
        (Some(identity), Some(name)) if identity.name != name => Err(usage(
            format!("{} lives in {}", handle_of(&identity), home.dir().display()),
            "Leave out --name, or choose another home (--home DIR).",
        )),
        (Some(identity), _) => Ok((identity, false)),
        (None, None) => {
            // A database without its identity is damage, whether or not there is a name to make one.
            Storage::find(home, None)?;
            Err(usage(
                format!("there is no identity in {}", home.dir().display()),
                "Choose a name to make one: strandline up --name NAME",
            ))
        }
        (None, Some(name)) => {
            let (user, node) = (entropy()?, entropy()?);
            let identity = Identity {
                user: SecretKey::from_bytes(user),
                node: SecretKey::from_bytes(node),
                name,
            };
            Ok((identity, true))
        }
    }
}
