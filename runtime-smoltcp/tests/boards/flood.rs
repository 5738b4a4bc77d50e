//! Floods of frames that no honest station sends, at a rate, by a station that is on the namespace's bridge.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use smoltcp::phy::{ChecksumCapabilities, Device, Medium, TunTapInterface, TxToken};
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol,
    EthernetRepr, IpProtocol, Ipv4Address, Ipv4Packet, Ipv4Repr, TcpControl, TcpPacket, TcpRepr,
    TcpSeqNumber, UdpPacket, UdpRepr,
};
use strandline_core::crypto::Ed25519;
use strandline_core::wire::{NetworkId, VERSION};

use crate::namespace::Namespace;

/// Where the board listens.
const PORT: u16 = 7827;
const HEADER_LEN: usize = 14;
/// How often frames are sent: as many at a time as the rate asks for.
const TICK: Duration = Duration::from_millis(1);

/// What a flood is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Datagrams to the node that are none of the protocol.
    Junk,
    /// First segments of handshakes that do not go on.
    Syn,
    /// Frames longer than the board has room for.
    Overlong,
    /// Pieces of datagrams that are never whole.
    Fragments,
    /// Questions for the board's hardware address, each by somebody else.
    Arp,
}

/// A flood under way. Dropping it ends it.
pub struct Flood {
    goes_on: Arc<AtomicBool>,
    pace: Arc<AtomicU64>,
    sent: Arc<AtomicU64>,
    stalled_ms: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Flood {
    /// Sends each of these kinds to the board at so many frames a second.
    pub fn new(network: &Namespace, kinds: &[(Kind, u64)]) -> Self {
        let goes_on = Arc::new(AtomicBool::new(true));
        let sent = Arc::new(AtomicU64::new(0));
        let pace = Arc::new(AtomicU64::new(1_000));
        let stalled_ms = Arc::new(AtomicU64::new(0));
        let name = format!("flood{}", std::process::id());
        let (made, is_made) = channel();
        let (placed, is_placed) = channel();
        let thread = thread::spawn({
            let (goes_on, pace) = (Arc::clone(&goes_on), Arc::clone(&pace));
            let (sent, name, kinds) = (Arc::clone(&sent), name.clone(), kinds.to_vec());
            let stalled_ms = Arc::clone(&stalled_ms);
            move || {
                let mut device = TunTapInterface::new(&name, Medium::Ethernet).unwrap();
                made.send(()).unwrap();
                is_placed.recv().unwrap();
                send(&mut device, &kinds, &goes_on, &pace, &sent, &stalled_ms);
            }
        });
        // Whoever has opened it keeps it when it is moved.
        is_made.recv().unwrap();
        network.take_in(&name);
        placed.send(()).unwrap();
        Self {
            goes_on,
            pace,
            sent,
            stalled_ms,
            thread: Some(thread),
        }
    }

    /// The board's clock advances by so many thousandths of the time that passes, more than all of it when it catches up: so do
    /// the rates.
    pub fn keep_pace(&self, permille: u64) {
        self.pace.store(permille, Ordering::Relaxed);
    }

    /// For how long this machine let the flood stand still at most, and so the emulator too, perhaps.
    pub fn stalled_ms(&self) -> u64 {
        self.stalled_ms.load(Ordering::Relaxed)
    }

    /// Frames sent so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.goes_on.store(false, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn send(
    device: &mut TunTapInterface,
    kinds: &[(Kind, u64)],
    goes_on: &AtomicBool,
    pace: &AtomicU64,
    sent: &AtomicU64,
    stalled_ms: &AtomicU64,
) {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut passed_ns, mut last) = (0, Instant::now());
    let mut done = vec![0_u64; kinds.len()];
    while goes_on.load(Ordering::Relaxed) {
        let now = Instant::now();
        let ns = u64::try_from((now - last).as_nanos()).unwrap();
        stalled_ms.fetch_max(ns / 1_000_000, Ordering::Relaxed);
        passed_ns += ns * pace.load(Ordering::Relaxed) / 1_000;
        last = now;
        for (done, (kind, rate)) in done.iter_mut().zip(kinds) {
            let due = rate * (passed_ns / 1_000) / 1_000_000;
            for _ in *done..due {
                let frame = frame(*kind, &mut random);
                let token = device.transmit(smoltcp::time::Instant::ZERO).unwrap();
                token.consume(frame.len(), |place| place.copy_from_slice(&frame));
            }
            sent.fetch_add(due - *done, Ordering::Relaxed);
            *done = due;
        }
        thread::sleep(TICK);
    }
}

/// Marsaglia's xorshift64.
struct Random(u64);

impl Random {
    fn bytes(&mut self) -> [u8; 8] {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.to_le_bytes()
    }

    fn below(&mut self, end: usize) -> usize {
        let [a, b, ..] = self.bytes();
        usize::from(u16::from_le_bytes([a, b])) % end
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            [*byte, ..] = self.bytes();
        }
    }

    /// A station of the board's network that does not exist.
    fn nobody(&mut self) -> (EthernetAddress, Ipv4Address) {
        let [a, b, c, d, ..] = self.bytes();
        let ip = Ipv4Address::new(10, 0, 0, 120 + d % 130);
        (EthernetAddress([2, 1, a, b, c, d]), ip)
    }
}

fn board() -> (EthernetAddress, Ipv4Address) {
    let mac = [0x52, 0x54, 0, 0x57, 0x4c, 0];
    (EthernetAddress(mac), Ipv4Address::new(10, 0, 0, 1))
}

fn frame(kind: Kind, random: &mut Random) -> Vec<u8> {
    let (len, head_len) = (random.below(200), random.below(40));
    match kind {
        Kind::Junk => datagram(random, len, head_len),
        Kind::Overlong => datagram(random, 1_290 + len % 150, head_len),
        Kind::Fragments => {
            let mut frame = datagram(random, 8 * (1 + head_len), head_len);
            let mut packet = Ipv4Packet::new_unchecked(&mut frame[HEADER_LEN..]);
            // The first piece of one, or a later one of which more come.
            packet.set_more_frags(true);
            packet.set_frag_offset(if head_len % 2 == 0 { 0 } else { 1_480 });
            packet.fill_checksum();
            frame
        }
        Kind::Syn => syn(random),
        Kind::Arp => arp(random),
    }
}

/// A datagram of random bytes to the node, behind a preamble that is right in every other of them.
fn datagram(random: &mut Random, len: usize, head_len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    random.fill(&mut bytes);
    if head_len.is_multiple_of(2) {
        let NetworkId([a, b, c, d]) = NetworkId::of_name::<Ed25519>("strandline");
        for (byte, right) in bytes.iter_mut().zip([VERSION, a, b, c, d]) {
            *byte = right;
        }
    }
    let udp = UdpRepr {
        src_port: PORT,
        dst_port: PORT,
    };
    let sums = ChecksumCapabilities::default();
    packet(
        random,
        IpProtocol::Udp,
        udp.header_len() + len,
        |packet, from, to| {
            let fill = |payload: &mut [u8]| payload.copy_from_slice(&bytes);
            udp.emit(
                &mut UdpPacket::new_unchecked(packet),
                &from.into(),
                &to.into(),
                len,
                fill,
                &sums,
            );
        },
    )
}

fn syn(random: &mut Random) -> Vec<u8> {
    let [a, b, c, d, e, f, ..] = random.bytes();
    let tcp = TcpRepr {
        src_port: u16::from_le_bytes([a, b]) | 1_024,
        dst_port: PORT,
        control: TcpControl::Syn,
        seq_number: TcpSeqNumber(i32::from_le_bytes([c, d, e, f])),
        ack_number: None,
        window_len: 1_000,
        window_scale: None,
        max_seg_size: Some(1_000),
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    };
    let sums = ChecksumCapabilities::default();
    packet(
        random,
        IpProtocol::Tcp,
        tcp.buffer_len(),
        |packet, from, to| {
            tcp.emit(
                &mut TcpPacket::new_unchecked(packet),
                &from.into(),
                &to.into(),
                &sums,
            );
        },
    )
}

/// A packet to the board from nobody.
fn packet(
    random: &mut Random,
    next_header: IpProtocol,
    payload_len: usize,
    fill: impl FnOnce(&mut [u8], Ipv4Address, Ipv4Address),
) -> Vec<u8> {
    let ((from_mac, from), (to_mac, to)) = (random.nobody(), board());
    let ip = Ipv4Repr {
        src_addr: from,
        dst_addr: to,
        next_header,
        payload_len,
        hop_limit: 64,
    };
    let mut bytes = vec![0; HEADER_LEN + ip.buffer_len() + payload_len];
    let mut frame = EthernetFrame::new_unchecked(&mut bytes);
    let head = EthernetRepr {
        src_addr: from_mac,
        dst_addr: to_mac,
        ethertype: EthernetProtocol::Ipv4,
    };
    head.emit(&mut frame);
    let mut packet = Ipv4Packet::new_unchecked(frame.payload_mut());
    ip.emit(&mut packet, &ChecksumCapabilities::default());
    fill(packet.payload_mut(), from, to);
    bytes
}

fn arp(random: &mut Random) -> Vec<u8> {
    let ((from_mac, from), (_, to)) = (random.nobody(), board());
    let arp = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Request,
        source_hardware_addr: from_mac,
        source_protocol_addr: from,
        target_hardware_addr: EthernetAddress([0; 6]),
        target_protocol_addr: to,
    };
    let mut bytes = vec![0; HEADER_LEN + arp.buffer_len()];
    let mut frame = EthernetFrame::new_unchecked(&mut bytes);
    let head = EthernetRepr {
        src_addr: from_mac,
        dst_addr: EthernetAddress::BROADCAST,
        ethertype: EthernetProtocol::Arp,
    };
    head.emit(&mut frame);
    arp.emit(&mut ArpPacket::new_unchecked(frame.payload_mut()));
    bytes
}
