//! The oracle of amplification: what each node sent to addresses that it had no reason to trust.
//!
//! For each node and address it counts what came in and what went out until the address is validated. It is, in this
//! model, once it repeated a token that the node had sent there, or answered a transaction that the node had sent
//! there: either shows that it receives what is sent to it. Until then replies may not exceed what came in, and of
//! requests only the short first ping is allowed, a few times. A restarted node trusts nobody.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::net::SocketAddr;

use strandline_core::addr::PackedAddr;
use strandline_core::wire::NetworkId;
use strandline_core::wire::datagram::{Body, Datagram, NO_TOKEN, Token, Transaction};

use super::random::scramble;

/// Longest request to an address never heard from, in bytes.
pub const FIRST_PING_LEN_MAX: usize = 128;
/// Most such pings to one address within [`PINGS_WINDOW_US`].
pub const PINGS_MAX: usize = 4;
/// See [`PINGS_MAX`].
pub const PINGS_WINDOW_US: u64 = 2_000_000;

/// How many tokens and transactions sent to an address are remembered: more than are ever under way to it.
const REMEMBERED: usize = 32;

/// What is known about one address. Nearly all are validated soon, so that this is one word.
#[derive(Debug)]
enum Account {
    Validated,
    Open(Box<Open>),
}

impl Default for Account {
    fn default() -> Self {
        Self::Open(Box::default())
    }
}

/// The account of an address that is not validated.
#[derive(Debug, Default)]
struct Open {
    bytes_in: u64,
    bytes_out: u64,
    tokens: VecDeque<Token>,
    asked: VecDeque<Transaction>,
    pings_us: VecDeque<u64>,
}

/// The accounts of all nodes. Looked up and never walked: their order means nothing.
#[derive(Debug, Default)]
pub struct Ledger {
    hosts: Vec<Accounts>,
}

type Accounts = HashMap<PackedAddr, Account, BuildHasherDefault<Mixing>>;

/// A hash of addresses that costs a few instructions: nobody here is trying to make them collide.
#[derive(Clone, Copy, Debug, Default)]
struct Mixing(u64);

impl Hasher for Mixing {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 = scramble(self.0 ^ u64::from_le_bytes(word));
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl Ledger {
    /// A node starts anew: it has nothing left by which to know anybody.
    pub fn restart(&mut self, host: u32) {
        *self.accounts(host) = Accounts::default();
    }

    /// A node is about to get a datagram.
    pub fn received(&mut self, host: u32, from: SocketAddr, bytes: &[u8], network: NetworkId) {
        let entry = self
            .accounts(host)
            .entry(PackedAddr::from(from))
            .or_default();
        let Account::Open(account) = entry else {
            return;
        };
        account.bytes_in += bytes.len() as u64;
        let Ok(datagram) = Datagram::decode(bytes, network) else {
            return;
        };
        let validated = if datagram.body.is_request() {
            datagram.token != NO_TOKEN && account.tokens.contains(&datagram.token)
        } else {
            account.asked.contains(&datagram.transaction)
        };
        if validated {
            *entry = Account::Validated;
        }
    }

    /// A node sends a datagram.
    ///
    /// # Errors
    /// Says what it may not do.
    pub fn sent(
        &mut self,
        host: u32,
        to: SocketAddr,
        datagram: &Datagram<'_>,
        len: usize,
        now_us: u64,
    ) -> Result<(), String> {
        let entry = self.accounts(host).entry(PackedAddr::from(to)).or_default();
        let Account::Open(account) = entry else {
            return Ok(());
        };
        if !datagram.body.is_request() {
            remember(&mut account.tokens, datagram.token);
            account.bytes_out += len as u64;
            if account.bytes_out > account.bytes_in {
                let (out, got) = (account.bytes_out, account.bytes_in);
                return Err(format!(
                    "sent {out} bytes to {to} for {got} from it, not validated"
                ));
            }
            return Ok(());
        }
        remember(&mut account.asked, datagram.transaction);
        if !matches!(datagram.body, Body::Ping { .. }) || len > FIRST_PING_LEN_MAX {
            let body = datagram.body;
            return Err(format!(
                "first contact with {to} is not a short ping: {len} bytes, {body:?}"
            ));
        }
        account.pings_us.push_back(now_us);
        if account.pings_us.len() > PINGS_MAX {
            let first = account.pings_us.pop_front().unwrap_or(0);
            if now_us - first < PINGS_WINDOW_US {
                let ms = (now_us - first) / 1_000;
                return Err(format!(
                    "{} pings to the silent {to} within {ms} ms",
                    PINGS_MAX + 1
                ));
            }
        }
        Ok(())
    }

    fn accounts(&mut self, host: u32) -> &mut Accounts {
        let index = host as usize;
        if self.hosts.len() <= index {
            self.hosts.resize_with(index + 1, Accounts::default);
        }
        &mut self.hosts[index]
    }
}

fn remember<T>(recent: &mut VecDeque<T>, new: T) {
    if recent.len() == REMEMBERED {
        recent.pop_front();
    }
    recent.push_back(new);
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]

    use strandline_core::addr::PackedAddr;
    use strandline_core::id::{Key, NodeId};

    use super::{Body, Datagram, Ledger, NO_TOKEN, NetworkId, PINGS_MAX, SocketAddr, Token};

    const NETWORK: NetworkId = NetworkId([1, 2, 3, 4]);
    const TOKEN: Token = [7; 8];

    fn there() -> SocketAddr {
        "16.0.0.1:7827".parse().unwrap()
    }

    fn datagram(token: Token, body: Body<'_>) -> Datagram<'_> {
        Datagram {
            transaction: [9; 8],
            sender: NodeId::ZERO,
            token,
            body,
        }
    }

    fn find(token: Token) -> Datagram<'static> {
        datagram(token, Body::FindNode { target: Key::ZERO })
    }

    fn pong() -> Datagram<'static> {
        datagram(
            TOKEN,
            Body::Pong {
                observed: PackedAddr::NONE,
                proof: None,
            },
        )
    }

    fn ping() -> Datagram<'static> {
        datagram(
            NO_TOKEN,
            Body::Ping {
                leaving: false,
                challenge: None,
                pad: &[0; 40],
            },
        )
    }

    fn receive(ledger: &mut Ledger, datagram: &Datagram<'_>) {
        let mut buf = [0; 1200];
        let len = datagram.encode(NETWORK, &mut buf).unwrap();
        ledger.received(0, there(), &buf[..len], NETWORK);
    }

    #[test]
    fn replies_to_a_stranger_may_not_exceed_what_it_sent() {
        let mut ledger = Ledger::default();
        receive(&mut ledger, &find(NO_TOKEN));
        ledger.sent(0, there(), &pong(), 60, 0).unwrap();
        assert!(
            ledger
                .sent(0, there(), &pong(), 60, 0)
                .unwrap_err()
                .contains("not validated")
        );
    }

    #[test]
    fn a_token_repeated_validates_and_one_never_sent_does_not() {
        let mut ledger = Ledger::default();
        receive(&mut ledger, &find(TOKEN));
        assert!(
            ledger.sent(0, there(), &pong(), 1_000, 0).is_err(),
            "that token was never sent"
        );
        receive(&mut ledger, &find(TOKEN));
        ledger.sent(0, there(), &pong(), 1_000_000, 0).unwrap();
        ledger.restart(0);
        assert!(
            ledger.sent(0, there(), &pong(), 1, 0).is_err(),
            "a restart forgets it"
        );
    }

    #[test]
    fn the_first_request_to_a_stranger_is_a_short_ping_a_few_times() {
        let mut ledger = Ledger::default();
        assert!(ledger.sent(0, there(), &find(NO_TOKEN), 90, 0).is_err());
        assert!(ledger.sent(0, there(), &ping(), 129, 0).is_err());
        for _ in 0..PINGS_MAX {
            ledger.sent(0, there(), &ping(), 96, 0).unwrap();
        }
        assert!(ledger.sent(0, there(), &ping(), 96, 1_000).is_err());
        ledger.sent(0, there(), &ping(), 96, 10_000_000).unwrap();
        receive(&mut ledger, &pong());
        ledger
            .sent(0, there(), &find(TOKEN), 90, 10_000_000)
            .unwrap();
    }
}
