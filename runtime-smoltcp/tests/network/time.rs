//! A time server that is made of nothing but its answers.

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, IpProtocol,
    Ipv4Packet, Ipv4Repr, UdpPacket, UdpRepr,
};

use crate::station::ip_of;

/// Its place on the network.
pub const INDEX: usize = 120;
const HARDWARE: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 121]);
/// Seconds from 1900 to 1970.
const NTP_EPOCH_S: u64 = 2_208_988_800;

/// What it answers to a frame, if the frame is for it; whether it was asked for the time.
pub fn answer(frame: &[u8], unix_us: u64) -> Option<(Vec<u8>, bool)> {
    let frame = EthernetFrame::new_checked(frame).ok()?;
    let mut reply = frame.as_ref().to_vec();
    let mut to = EthernetFrame::new_unchecked(&mut reply);
    to.set_dst_addr(frame.src_addr());
    to.set_src_addr(HARDWARE);
    if frame.ethertype() == EthernetProtocol::Arp {
        let asked = ArpRepr::parse(&ArpPacket::new_checked(frame.payload()).ok()?).ok()?;
        let ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Request,
            source_hardware_addr,
            source_protocol_addr,
            target_protocol_addr,
            ..
        } = asked
        else {
            return None;
        };
        if target_protocol_addr != ip_of(INDEX) {
            return None;
        }
        ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Reply,
            source_hardware_addr: HARDWARE,
            source_protocol_addr: target_protocol_addr,
            target_hardware_addr: source_hardware_addr,
            target_protocol_addr: source_protocol_addr,
        }
        .emit(&mut ArpPacket::new_unchecked(to.payload_mut()));
        return Some((reply, false));
    }
    let packet = Ipv4Packet::new_checked(frame.payload()).ok()?;
    if packet.dst_addr() != ip_of(INDEX) || packet.next_header() != IpProtocol::Udp {
        return None;
    }
    let asked = UdpPacket::new_checked(packet.payload()).ok()?;
    let request: [u8; 48] = asked.payload().try_into().ok()?;
    let sums = ChecksumCapabilities::default();
    let ip = Ipv4Repr {
        src_addr: packet.dst_addr(),
        dst_addr: packet.src_addr(),
        next_header: IpProtocol::Udp,
        payload_len: 8 + request.len(),
        hop_limit: 64,
    };
    let udp = UdpRepr {
        src_port: asked.dst_port(),
        dst_port: asked.src_port(),
    };
    let mut packet = Ipv4Packet::new_unchecked(to.payload_mut());
    ip.emit(&mut packet, &sums);
    udp.emit(
        &mut UdpPacket::new_unchecked(packet.payload_mut()),
        &ip.src_addr.into(),
        &ip.dst_addr.into(),
        request.len(),
        |payload| payload.copy_from_slice(&of(&request, unix_us)),
        &sums,
    );
    Some((reply, true))
}

/// An answer of stratum 2.
fn of(request: &[u8; 48], unix_us: u64) -> [u8; 48] {
    let seconds = (unix_us / 1_000_000 + NTP_EPOCH_S) << 32;
    let stamp = (seconds | (((unix_us % 1_000_000) << 32) / 1_000_000)).to_be_bytes();
    let mut bytes = [0; 48];
    // No leap second, version 4, mode server; stratum; poll; precision.
    bytes[..4].copy_from_slice(&[0b00_100_100, 2, 6, 0xec]);
    // Root delay 10 ms, root dispersion 5 ms.
    bytes[4..8].copy_from_slice(&655_u32.to_be_bytes());
    bytes[8..12].copy_from_slice(&328_u32.to_be_bytes());
    bytes[24..32].copy_from_slice(&request[40..48]);
    bytes[32..40].copy_from_slice(&stamp);
    bytes[40..48].copy_from_slice(&stamp);
    bytes
}
