//! Time servers: one thread asks each of them, at the start and every minute, and the median of what they say is taken.
//! Owns the schedule, the sampling (SNTP by `sntpc`) and the median; what becomes of it is [`crate::clock`]'s business.
//! Invariant: a minority of lying servers moves the result no further than honest ones disagree.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use mio::Waker;
use sntpc::{NtpContext, NtpTimestampGenerator, NtpUdpSocket};
use strandline_core::time::Instant;

use crate::clock::Timebase;
use crate::resolve::{addresses_of, split_host_port};

/// The port of NTP.
pub const PORT: u16 = 123;
/// Most servers that are asked.
pub const SERVERS_MAX: usize = 8;
/// How long to wait for an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// How often a server is asked: RFC 4330, section 10, allows no more than once in a minute.
const EVERY: Duration = Duration::from_secs(60);
/// The schedule is stretched by up to this much, so that nodes do not ask in step.
const JITTER_MS_MAX: u64 = 4_000;
/// How long to wait after the first failure; it doubles up to [`EVERY`].
const RETRY_AFTER: Duration = Duration::from_secs(15);
/// Samples older than this no longer count, in ms: three were missed.
const SAMPLE_AGE_MS_MAX: u64 = 200_000;

/// What one server said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Sample {
    /// What to add to the timebase to have its time, in µs.
    offset_us: i64,
    /// How far off that may be: half of the time that the answer took, and what the server says about itself.
    uncertainty_us: u64,
    at: Instant,
}

/// What all servers together say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Estimate {
    /// What to add to [`Timebase::unix_us`] to have the time, in µs.
    pub offset_us: i64,
    /// How far off that may be, in µs.
    pub uncertainty_us: u64,
    /// How many servers it rests on.
    pub servers: usize,
}

/// The servers and their last answers.
#[derive(Debug)]
pub struct TimeServers {
    samples: Vec<Option<Sample>>,
    answers: Receiver<(usize, Sample)>,
    /// Dropping them ends the threads.
    _alive: Vec<Sender<()>>,
}

impl TimeServers {
    /// Starts asking, at most [`SERVERS_MAX`] servers; the loop is woken at each answer.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn start(servers: &[String], timebase: Timebase, waker: &Arc<Waker>) -> io::Result<Self> {
        let (answer, answers) = channel();
        let servers = servers.get(..SERVERS_MAX).unwrap_or(servers);
        let mut alive = Vec::new();
        for (index, server) in servers.iter().enumerate() {
            let (stop, stopped) = channel();
            let (server, answer, waker) = (server.clone(), answer.clone(), Arc::clone(waker));
            thread::Builder::new().name("ntp".into()).spawn(move || {
                ask_forever(&server, timebase, &stopped, |sample| {
                    answer.send((index, sample)).is_ok() && waker.wake().is_ok()
                });
            })?;
            alive.push(stop);
        }
        Ok(Self {
            samples: vec![None; servers.len()],
            answers,
            _alive: alive,
        })
    }

    /// Takes the answers that have come; an estimate if there were any.
    pub fn poll(&mut self, now: Instant) -> Option<Estimate> {
        let mut news = false;
        while let Ok((index, sample)) = self.answers.try_recv() {
            if let Some(last) = self.samples.get_mut(index) {
                *last = Some(sample);
                news = true;
            }
        }
        let fresh = |sample: &Sample| now.since_ms(sample.at) <= SAMPLE_AGE_MS_MAX;
        let samples: Vec<Sample> = self.samples.iter().flatten().copied().collect();
        news.then(|| estimate(samples.into_iter().filter(fresh).collect()))
            .flatten()
    }
}

/// The median offset, as uncertain as that sample and as the distance that half of the samples have from it.
fn estimate(mut samples: Vec<Sample>) -> Option<Estimate> {
    samples.sort_unstable_by_key(|sample| (sample.offset_us, sample.uncertainty_us));
    let middle = *samples.get(samples.len().checked_sub(1)? / 2)?;
    let mut distances: Vec<u64> = samples
        .iter()
        .map(|sample| sample.offset_us.abs_diff(middle.offset_us))
        .collect();
    distances.sort_unstable();
    // With an even number, the larger of the two in the middle: nobody can say which half is right.
    let spread_us = distances.get(distances.len() / 2).copied().unwrap_or(0);
    Some(Estimate {
        offset_us: middle.offset_us,
        uncertainty_us: middle.uncertainty_us.saturating_add(spread_us),
        servers: samples.len(),
    })
}

/// Asks one server until nobody listens any more.
fn ask_forever(
    server: &str,
    timebase: Timebase,
    stopped: &Receiver<()>,
    mut tell: impl FnMut(Sample) -> bool,
) {
    // A name is resolved once and kept while its address answers: pools ask for that.
    let mut known = None;
    let mut retry = RETRY_AFTER;
    loop {
        let asked = known
            .map_or_else(|| address_of(server), Ok)
            .and_then(|addr| Ok((addr, sample(addr, timebase)?)));
        let pause = match asked {
            Ok((addr, sample)) => {
                log::debug!("time server {server}: {sample:?}");
                (known, retry) = (Some(addr), RETRY_AFTER);
                if !tell(sample) {
                    return;
                }
                EVERY + jitter()
            }
            Err(error) => {
                // Said once loudly; a machine without a network need not hear it every minute.
                if retry == RETRY_AFTER {
                    log::warn!(
                        "no time from {server}: {error}; without any server the system's clock serves"
                    );
                }
                known = None;
                let pause = retry;
                retry = retry.saturating_mul(2).min(EVERY);
                pause
            }
        };
        if stopped.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}

fn jitter() -> Duration {
    let random = getrandom::u64().unwrap_or(0);
    Duration::from_millis(random % JITTER_MS_MAX)
}

fn address_of(server: &str) -> io::Result<SocketAddr> {
    let (host, port) = split_host_port(server, Some(PORT))
        .ok_or_else(|| io::Error::other("it is not HOST or HOST:PORT"))?;
    let first = addresses_of(&host, port)?.into_iter().next();
    first.ok_or_else(|| io::Error::other("it has no address"))
}

/// Asks the server at `addr` once.
fn sample(addr: SocketAddr, timebase: Timebase) -> io::Result<Sample> {
    let any: SocketAddr = if addr.is_ipv4() {
        "0.0.0.0:0".parse().map_err(io::Error::other)?
    } else {
        "[::]:0".parse().map_err(io::Error::other)?
    };
    let socket = UdpSocket::bind(any)?;
    // Connected, the system itself drops what comes from anybody else.
    socket.connect(addr)?;
    socket.set_read_timeout(Some(ANSWER_WITHIN))?;
    let context = NtpContext::new(Stamp { timebase, us: 0 });
    let sent = timebase.now();
    let answer = sntpc::sync::get_time(addr, &Link { socket, addr }, context)
        .map_err(|error| io::Error::other(format!("{error:?}")))?;
    let at = timebase.now();
    // Not the round trip that the answer implies: a server could make that as short as it likes.
    let halfway_us = at.since_us(sent) / 2;
    let root = u64::from(answer.root_delay() / 2) + u64::from(answer.root_dispersion());
    Ok(Sample {
        offset_us: answer.offset(),
        uncertainty_us: halfway_us + ntp_short_us(root),
        at,
    })
}

/// µs of a duration in NTP's short format, 1/65536 s.
const fn ntp_short_us(short: u64) -> u64 {
    short * 1_000_000 / 65_536
}

/// The timebase, as `sntpc` reads it.
#[derive(Clone, Copy)]
struct Stamp {
    timebase: Timebase,
    us: u64,
}

impl NtpTimestampGenerator for Stamp {
    fn init(&mut self) {
        self.us = self.timebase.unix_us(self.timebase.now());
    }

    fn timestamp_sec(&self) -> u64 {
        self.us / 1_000_000
    }

    fn timestamp_subsec_micros(&self) -> u32 {
        u32::try_from(self.us % 1_000_000).unwrap_or(0)
    }
}

/// A connected socket, as `sntpc` uses it. It blocks.
struct Link {
    socket: UdpSocket,
    addr: SocketAddr,
}

impl NtpUdpSocket for Link {
    async fn send_to(&self, buf: &[u8], _addr: SocketAddr) -> sntpc::Result<usize> {
        self.socket.send(buf).map_err(|_| sntpc::Error::Network)
    }

    async fn recv_from(&self, buf: &mut [u8]) -> sntpc::Result<(usize, SocketAddr)> {
        let len = self.socket.recv(buf).map_err(|_| sntpc::Error::Network)?;
        Ok((len, self.addr))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]

    use std::time::Instant as Time;

    use mio::{Events, Poll, Token};

    use super::*;

    /// Seconds from 1900 to 1970.
    const NTP_EPOCH_S: u64 = 2_208_988_800;

    /// What a server does with a request: 48 bytes, or silence.
    type Reply = fn(timebase: Timebase, request: &[u8; 48]) -> Option<[u8; 48]>;

    fn stamp(unix_us: u64) -> [u8; 8] {
        let seconds = (unix_us / 1_000_000 + NTP_EPOCH_S) << 32;
        let fraction = ((unix_us % 1_000_000) << 32) / 1_000_000;
        (seconds | fraction).to_be_bytes()
    }

    /// An answer of stratum 2 whose clock is `ahead_us` ahead of the timebase.
    fn answer(timebase: Timebase, request: &[u8; 48], ahead_us: i64) -> [u8; 48] {
        let us = timebase.unix_us(timebase.now());
        let theirs = stamp(us.saturating_add_signed(ahead_us));
        let mut bytes = [0; 48];
        // No leap second, version 4, mode server; stratum; poll; precision.
        bytes[..4].copy_from_slice(&[0b00_100_100, 2, 6, 0xec]);
        // Root delay 10 ms, root dispersion 5 ms.
        bytes[4..8].copy_from_slice(&655u32.to_be_bytes());
        bytes[8..12].copy_from_slice(&328u32.to_be_bytes());
        bytes[24..32].copy_from_slice(&request[40..48]);
        bytes[32..40].copy_from_slice(&theirs);
        bytes[40..48].copy_from_slice(&theirs);
        bytes
    }

    fn serve(timebase: Timebase, reply: Reply) -> String {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let addr = socket.local_addr().unwrap();
        thread::spawn(move || {
            let mut request = [0; 48];
            while let Ok((48, from)) = socket.recv_from(&mut request) {
                if let Some(bytes) = reply(timebase, &request) {
                    socket.send_to(&bytes, from).unwrap();
                }
            }
        });
        addr.to_string()
    }

    fn honest(timebase: Timebase, request: &[u8; 48]) -> Option<[u8; 48]> {
        Some(answer(timebase, request, 7_000_000))
    }

    fn lying(timebase: Timebase, request: &[u8; 48]) -> Option<[u8; 48]> {
        Some(answer(timebase, request, -86_400_000_000))
    }

    /// Asks until so many servers have answered.
    fn estimate_of(servers: &[String], timebase: Timebase, wanted: usize) -> Estimate {
        let mut poll = Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), Token(0)).unwrap());
        let mut servers = TimeServers::start(servers, timebase, &waker).unwrap();
        let end = Time::now() + Duration::from_secs(10);
        loop {
            let estimate = servers.poll(timebase.now());
            if let Some(estimate) = estimate.filter(|estimate| estimate.servers == wanted) {
                return estimate;
            }
            let left = end.checked_duration_since(Time::now()).unwrap();
            poll.poll(&mut Events::with_capacity(4), Some(left))
                .unwrap();
        }
    }

    #[test]
    fn the_median_of_several_servers_is_taken_and_a_liar_changes_little() {
        let timebase = Timebase::start();
        let servers = [honest, lying, honest].map(|reply: Reply| serve(timebase, reply));
        let estimate = estimate_of(&servers, timebase, 3);
        assert!(estimate.offset_us.abs_diff(7_000_000) < 1_000_000);
        assert!(
            (10_000..2_000_000).contains(&estimate.uncertainty_us),
            "{estimate:?}"
        );
    }

    #[test]
    fn answers_that_break_the_protocol_are_not_believed() {
        let timebase = Timebase::start();
        let replies: [Reply; 6] = [
            |_, _| Some([0xff; 48]),
            // Not an answer to this question.
            |t, request| {
                Some(answer(t, request, 0)).map(|mut a| {
                    a[24] ^= 1;
                    a
                })
            },
            // A kiss of death.
            |t, request| {
                Some(answer(t, request, 0)).map(|mut a| {
                    a[1] = 0;
                    a
                })
            },
            // A server that knows no time itself.
            |t, request| {
                Some(answer(t, request, 0)).map(|mut a| {
                    a[0] |= 0xc0;
                    a
                })
            },
            // A client.
            |t, request| {
                Some(answer(t, request, 0)).map(|mut a| {
                    a[0] ^= 7;
                    a
                })
            },
            |_, _| None,
        ];
        for (index, reply) in replies.into_iter().enumerate() {
            let addr = serve(timebase, reply).parse().unwrap();
            assert!(sample(addr, timebase).is_err(), "reply {index}");
        }
        let addr = serve(timebase, honest).parse().unwrap();
        assert!(sample(addr, timebase).is_ok());
    }

    fn of(offsets_us: &[i64]) -> Option<Estimate> {
        let sample = |offset_us: &i64| Sample {
            offset_us: *offset_us,
            uncertainty_us: 10,
            at: Instant::ZERO,
        };
        estimate(offsets_us.iter().map(sample).collect())
    }

    #[test]
    fn the_median_says_how_far_the_others_are() {
        let expected = |offset_us, uncertainty_us, servers| Estimate {
            offset_us,
            uncertainty_us,
            servers,
        };
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[5]), Some(expected(5, 10, 1)));
        assert_eq!(of(&[5, 9]), Some(expected(5, 14, 2)));
        assert_eq!(of(&[i64::MAX, 5, 6]), Some(expected(6, 11, 3)));
        assert_eq!(of(&[i64::MIN, 5, 6]), Some(expected(5, 11, 3)));
        assert_eq!(of(&[-100, 1, 2, 3, 100]), Some(expected(2, 11, 5)));
    }

    #[test]
    fn a_server_that_fell_silent_counts_no_more() {
        let (answer, answers) = channel();
        let mut servers = TimeServers {
            samples: vec![None; 2],
            answers,
            _alive: Vec::new(),
        };
        let sample = |offset_us, at| Sample {
            offset_us,
            uncertainty_us: 0,
            at,
        };
        assert_eq!(servers.poll(Instant::ZERO), None);
        answer.send((0, sample(100, Instant::ZERO))).unwrap();
        let late = Instant::from_ms(SAMPLE_AGE_MS_MAX + 1);
        answer.send((1, sample(900, late))).unwrap();
        let estimate = servers.poll(late).unwrap();
        assert_eq!((estimate.offset_us, estimate.servers), (900, 1));
        assert_eq!(servers.poll(late), None, "nothing new");
    }
}
