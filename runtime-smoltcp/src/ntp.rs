//! Asks a time server, at the start and every minute; the sampling is `sntpc`'s. Owns the schedule. Invariant: an answer
//! counts only if it tells the moment at which it was asked for, and nobody but the server was told that.

use core::cell::Cell;
use core::future::Future;
use core::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use core::pin::pin;
use core::task::{Context, Poll, Waker};

use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::udp;
use smoltcp::wire::IpEndpoint;
use sntpc::{NtpContext, NtpTimestampGenerator, NtpUdpSocket, SendRequestResult};
use strandline_core::time::Instant;

use crate::convert::endpoint;

/// How often the server is asked, in ms: RFC 4330, section 10, allows no more than once in a minute.
pub const ASK_EVERY_MS: u64 = 60_000;
/// How long to wait for an answer, in ms.
pub const ANSWER_WITHIN_MS: u64 = 2_000;
/// The schedule is stretched by up to this much, in ms, so that nodes do not ask in step.
const JITTER_MS_MAX: u64 = 4_000;
/// How long to wait after the first failure, in ms; it doubles up to [`ASK_EVERY_MS`].
const RETRY_AFTER_MS: u64 = 4_000;
/// Length of a request.
const REQUEST_LEN: usize = 48;
/// Where the clock that the server sees begins, in s since 1970: the middle of the years in which this may run. An answer's
/// century is the one that is nearest (68 years either way).
const PIVOT_S: u64 = 1_900_000_000;
/// By how much that clock is shifted at most, in µs, unknown to anybody: about four years.
const SHIFT_US_BITS: u32 = 47;
/// The server as `sntpc` knows it: requests are sent and answers are compared with the server's address here.
const SERVER: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));

const US_PER_S: u64 = 1_000_000;

/// What a server said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Date {
    pub(crate) unix_ms: u64,
    pub(crate) uncertainty_ms: u32,
}

/// The server, and when it is asked.
#[derive(Debug)]
pub(crate) struct TimeServer {
    socket: SocketHandle,
    /// Nobody, if its address is of a family that was not built in.
    server: Option<IpEndpoint>,
    port: u16,
    /// What the server is told is this clock: instants plus this, in µs.
    shift_us: u64,
    asked: Option<(SendRequestResult, Instant)>,
    next: Instant,
    retry_ms: u64,
}

impl TimeServer {
    /// Asks the server at `addr` from the local `port`, from `now` on.
    pub(crate) fn new(
        now: Instant,
        socket: SocketHandle,
        addr: SocketAddr,
        port: u16,
        random: u64,
    ) -> Self {
        let secret_us = random.checked_shr(u64::BITS - SHIFT_US_BITS).unwrap_or(0);
        Self {
            socket,
            server: endpoint(addr),
            port,
            shift_us: PIVOT_S.saturating_mul(US_PER_S).saturating_add(secret_us),
            asked: None,
            next: now,
            retry_ms: RETRY_AFTER_MS,
        }
    }

    /// When [`Self::poll`] is due though nothing arrives.
    pub(crate) fn next_deadline(&self) -> Instant {
        self.next
    }

    /// Asks if that is due, and takes an answer that has come.
    pub(crate) fn poll(&mut self, now: Instant, sockets: &mut SocketSet<'_>) -> Option<Date> {
        let socket = sockets.get_mut::<udp::Socket<'_>>(self.socket);
        let mut date = None;
        while let Ok((bytes, about)) = socket.recv() {
            date = date.or_else(|| self.take(now, bytes, about.endpoint));
        }
        if date.is_some() {
            self.retry_ms = RETRY_AFTER_MS;
            let jitter_ms = self
                .shift_us
                .wrapping_add(now.as_us())
                .checked_rem(JITTER_MS_MAX);
            let after_ms = ASK_EVERY_MS.saturating_add(jitter_ms.unwrap_or(0));
            self.next = now.after_ms(after_ms);
        } else if self.next <= now {
            match self.asked.take() {
                Some(_) => {
                    self.next = now.after_ms(self.retry_ms);
                    self.retry_ms = self.retry_ms.saturating_mul(2).min(ASK_EVERY_MS);
                }
                None => self.ask(now, socket),
            }
        }
        date
    }

    #[inline(never)]
    fn ask(&mut self, now: Instant, socket: &mut udp::Socket<'_>) {
        self.next = now.after_ms(ANSWER_WITHIN_MS);
        let wire = Wire::of(&[]);
        let stamp = NtpContext::new(self.stamp(now));
        let request = at_once(sntpc::sntp_send_request(SERVER, &wire, stamp));
        let (Some(Ok(request)), Some(to)) = (request, self.server) else {
            return;
        };
        // What is still in it is an old request that did not get out.
        socket.close();
        let sent =
            socket.bind(self.port).is_ok() && socket.send_slice(&wire.sent.get(), to).is_ok();
        self.asked = sent.then_some((request, now));
    }

    #[inline(never)]
    fn take(&mut self, now: Instant, bytes: &[u8], from: IpEndpoint) -> Option<Date> {
        if self.server != Some(from) {
            return None;
        }
        let (request, sent) = self.asked?;
        let wire = Wire::of(bytes);
        let stamp = NtpContext::new(self.stamp(now));
        let answer = sntpc::sntp_process_response(SERVER, &wire, stamp, request);
        let answer = at_once(answer)?.ok()?;
        self.asked = None;
        // Not the round trip that the answer implies: a server could make that as short as it likes.
        let halfway_us = now.since_us(sent) / 2;
        let root =
            u64::from(answer.root_delay() / 2).saturating_add(answer.root_dispersion().into());
        let root_us = root.saturating_mul(US_PER_S) / 65_536;
        let uncertainty_us = halfway_us.saturating_add(root_us);
        let unix_us = self.stamp(now).us.saturating_add_signed(answer.offset());
        Some(Date {
            unix_ms: unix_us / 1_000,
            uncertainty_ms: u32::try_from(uncertainty_us.div_ceil(1_000)).unwrap_or(u32::MAX),
        })
    }

    fn stamp(&self, now: Instant) -> Stamp {
        Stamp {
            us: self.shift_us.saturating_add(now.as_us()),
        }
    }
}

/// A point in time as the server is told it.
#[derive(Clone, Copy)]
struct Stamp {
    us: u64,
}

impl NtpTimestampGenerator for Stamp {
    fn init(&mut self) {}

    fn timestamp_sec(&self) -> u64 {
        self.us / US_PER_S
    }

    fn timestamp_subsec_micros(&self) -> u32 {
        u32::try_from(self.us % US_PER_S).unwrap_or(0)
    }
}

/// What `sntpc` sends and receives through: memory.
struct Wire<'w> {
    sent: Cell<[u8; REQUEST_LEN]>,
    received: &'w [u8],
}

impl<'w> Wire<'w> {
    fn of(received: &'w [u8]) -> Self {
        Self {
            sent: Cell::new([0; REQUEST_LEN]),
            received,
        }
    }
}

impl NtpUdpSocket for Wire<'_> {
    async fn send_to(&self, buf: &[u8], _addr: SocketAddr) -> sntpc::Result<usize> {
        let request = buf.try_into().map_err(|_| sntpc::Error::Network)?;
        self.sent.set(request);
        Ok(buf.len())
    }

    async fn recv_from(&self, buf: &mut [u8]) -> sntpc::Result<(usize, SocketAddr)> {
        for (to, byte) in buf.iter_mut().zip(self.received) {
            *to = *byte;
        }
        Ok((self.received.len(), SERVER))
    }
}

/// The result of what never waits.
fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => Some(result),
        Poll::Pending => None,
    }
}
