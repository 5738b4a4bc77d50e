//! Frames that no honest station sends.

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol,
    EthernetRepr, IpProtocol, Ipv4Packet, Ipv4Repr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber,
};

use crate::station::{PORT, hardware, ip_of};

/// The station that a segment of a stream is for, and whether it asks for a stream; `None`: the frame is none.
pub fn segment(frame: &[u8]) -> Option<(usize, bool)> {
    let frame = EthernetFrame::new_checked(frame).ok()?;
    let packet = Ipv4Packet::new_checked(frame.payload()).ok()?;
    if frame.ethertype() != EthernetProtocol::Ipv4 || packet.next_header() != IpProtocol::Tcp {
        return None;
    }
    let segment = TcpPacket::new_checked(packet.payload()).ok()?;
    let [.., host] = packet.dst_addr().octets();
    let to = usize::from(host).checked_sub(1)?;
    Some((to, segment.syn() && !segment.ack()))
}

/// The first segment of a handshake that will not go on, from a station that does not exist.
pub fn syn(from: usize, to: usize) -> Vec<u8> {
    let tcp = TcpRepr {
        src_port: 50_000,
        dst_port: PORT,
        control: TcpControl::Syn,
        seq_number: TcpSeqNumber(7),
        ack_number: None,
        window_len: 1_000,
        window_scale: None,
        max_seg_size: Some(1_000),
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    };
    let ip = Ipv4Repr {
        src_addr: ip_of(from),
        dst_addr: ip_of(to),
        next_header: IpProtocol::Tcp,
        payload_len: tcp.buffer_len(),
        hop_limit: 64,
    };
    let mut bytes = vec![0; 14 + ip.buffer_len() + tcp.buffer_len()];
    let mut frame = EthernetFrame::new_unchecked(&mut bytes);
    EthernetRepr {
        src_addr: EthernetAddress([2, 0, 0, 0, 1, 1]),
        dst_addr: hardware(to),
        ethertype: EthernetProtocol::Ipv4,
    }
    .emit(&mut frame);
    let sums = ChecksumCapabilities::default();
    let mut packet = Ipv4Packet::new_unchecked(frame.payload_mut());
    ip.emit(&mut packet, &sums);
    let mut segment = TcpPacket::new_unchecked(packet.payload_mut());
    tcp.emit(
        &mut segment,
        &ip.src_addr.into(),
        &ip.dst_addr.into(),
        &sums,
    );
    bytes
}

/// A question for a station's hardware address, from a station that does not exist.
pub fn who_has(from: usize, to: usize) -> Vec<u8> {
    let from_hardware = EthernetAddress([2, 0, 0, 0, 2, u8::try_from(from).unwrap()]);
    let arp = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Request,
        source_hardware_addr: from_hardware,
        source_protocol_addr: ip_of(from),
        target_hardware_addr: EthernetAddress([0; 6]),
        target_protocol_addr: ip_of(to),
    };
    let mut bytes = vec![0; 14 + arp.buffer_len()];
    let mut frame = EthernetFrame::new_unchecked(&mut bytes);
    EthernetRepr {
        src_addr: from_hardware,
        dst_addr: EthernetAddress::BROADCAST,
        ethertype: EthernetProtocol::Arp,
    }
    .emit(&mut frame);
    arp.emit(&mut ArpPacket::new_unchecked(frame.payload_mut()));
    bytes
}

/// The `n`th piece of junk: a frame of random length and content, or a SYN that was tampered with.
pub fn junk(n: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(n as u64 + 1);
    let mut draw = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut frame = if n.is_multiple_of(2) {
        syn(100 + n % 50, 0)
    } else {
        vec![0; n % 1_514]
    };
    if n.is_multiple_of(2) {
        let [at, value, cut, ..] = draw();
        let at = usize::from(at) % frame.len();
        frame[at] = value;
        if cut.is_multiple_of(4) {
            frame.truncate(usize::from(cut) % 60);
        }
    } else {
        for byte in &mut frame {
            [*byte, ..] = draw();
        }
    }
    if let Some(to) = frame.first_chunk_mut::<6>()
        && !n.is_multiple_of(5)
    {
        *to = hardware(0).0;
    }
    frame
}
