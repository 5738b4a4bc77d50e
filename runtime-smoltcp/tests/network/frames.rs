//! Frames: what is in them, and such as no station of the world sends.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4};

use smoltcp::phy::{ChecksumCapabilities, Medium};
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol,
    EthernetRepr, Icmpv6Packet, Icmpv6Repr, IpProtocol, IpVersion, Ipv4Packet, Ipv4Repr,
    Ipv6Packet, Ipv6Repr, NdiscNeighborFlags, NdiscRepr, TcpControl, TcpPacket, TcpRepr,
    TcpSeqNumber, UdpPacket, UdpRepr,
};

use crate::station::{PORT, hardware, ip_of, ip6_of};

/// Where an IP packet comes from and goes to; `None`: the frame has none.
pub fn ends(medium: Medium, frame: &[u8]) -> Option<(IpAddr, IpAddr)> {
    let packet = match medium {
        Medium::Ip => frame,
        Medium::Ethernet => {
            let frame = EthernetFrame::new_checked(frame).ok()?;
            let is_ip = matches!(
                frame.ethertype(),
                EthernetProtocol::Ipv4 | EthernetProtocol::Ipv6
            );
            is_ip.then(|| frame.payload())?
        }
    };
    Some(match IpVersion::of_packet(packet).ok()? {
        IpVersion::Ipv4 => {
            let packet = Ipv4Packet::new_checked(packet).ok()?;
            (packet.src_addr().into(), packet.dst_addr().into())
        }
        IpVersion::Ipv6 => {
            let packet = Ipv6Packet::new_checked(packet).ok()?;
            (packet.src_addr().into(), packet.dst_addr().into())
        }
    })
}

/// The datagram in an IPv4 packet: from where to where, and what it says.
pub fn datagram_in(frame: &[u8]) -> Option<(SocketAddrV4, SocketAddrV4, &[u8])> {
    let frame = EthernetFrame::new_checked(frame).ok()?;
    let packet = Ipv4Packet::new_checked(frame.payload()).ok()?;
    if frame.ethertype() != EthernetProtocol::Ipv4 || packet.next_header() != IpProtocol::Udp {
        return None;
    }
    let datagram = UdpPacket::new_checked(packet.payload()).ok()?;
    let from = SocketAddrV4::new(packet.src_addr(), datagram.src_port());
    let to = SocketAddrV4::new(packet.dst_addr(), datagram.dst_port());
    Some((from, to, datagram.payload()))
}

/// A frame with a datagram.
pub fn datagram(
    (from_hardware, from): (EthernetAddress, SocketAddrV4),
    (to_hardware, to): (EthernetAddress, SocketAddrV4),
    payload: &[u8],
) -> Vec<u8> {
    let udp = UdpRepr {
        src_port: from.port(),
        dst_port: to.port(),
    };
    let ip = Ipv4Repr {
        src_addr: *from.ip(),
        dst_addr: *to.ip(),
        next_header: IpProtocol::Udp,
        payload_len: udp.header_len() + payload.len(),
        hop_limit: 64,
    };
    let mut bytes = vec![0; 14 + ip.buffer_len() + ip.payload_len];
    let mut frame = EthernetFrame::new_unchecked(&mut bytes);
    EthernetRepr {
        src_addr: from_hardware,
        dst_addr: to_hardware,
        ethertype: EthernetProtocol::Ipv4,
    }
    .emit(&mut frame);
    let sums = ChecksumCapabilities::default();
    let mut packet = Ipv4Packet::new_unchecked(frame.payload_mut());
    ip.emit(&mut packet, &sums);
    udp.emit(
        &mut UdpPacket::new_unchecked(packet.payload_mut()),
        &ip.src_addr.into(),
        &ip.dst_addr.into(),
        payload.len(),
        |room| room.copy_from_slice(payload),
        &sums,
    );
    bytes
}

/// The answer to a frame that asks for the hardware address of one of those that are at `own`.
pub fn is_at(frame: &[u8], own: EthernetAddress, has: impl Fn(IpAddr) -> bool) -> Option<Vec<u8>> {
    let frame = EthernetFrame::new_checked(frame).ok()?;
    match frame.ethertype() {
        EthernetProtocol::Arp => {
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
            let told = ArpRepr::EthernetIpv4 {
                operation: ArpOperation::Reply,
                source_hardware_addr: own,
                source_protocol_addr: target_protocol_addr,
                target_hardware_addr: source_hardware_addr,
                target_protocol_addr: source_protocol_addr,
            };
            has(target_protocol_addr.into()).then(|| arp(own, source_hardware_addr, told))
        }
        EthernetProtocol::Ipv6 => {
            let packet = Ipv6Packet::new_checked(frame.payload()).ok()?;
            let (from, to) = (packet.src_addr(), packet.dst_addr());
            let sums = ChecksumCapabilities::default();
            let asked = Icmpv6Packet::new_checked(packet.payload()).ok()?;
            let Ok(Icmpv6Repr::Ndisc(NdiscRepr::NeighborSolicit { target_addr, .. })) =
                Icmpv6Repr::parse(&from, &to, &asked, &sums)
            else {
                return None;
            };
            let told = NdiscRepr::NeighborAdvert {
                flags: NdiscNeighborFlags::SOLICITED,
                target_addr,
                lladdr: Some(own.into()),
            };
            has(target_addr.into())
                .then(|| neighbour(&told, (own, target_addr), (frame.src_addr(), from)))
        }
        _ => None,
    }
}

/// A frame of IPv6's neighbour discovery.
fn neighbour(
    told: &NdiscRepr<'_>,
    (from_hardware, from): (EthernetAddress, Ipv6Addr),
    (to_hardware, to): (EthernetAddress, Ipv6Addr),
) -> Vec<u8> {
    let icmp = Icmpv6Repr::Ndisc(*told);
    let ip = Ipv6Repr {
        src_addr: from,
        dst_addr: to,
        next_header: IpProtocol::Icmpv6,
        payload_len: icmp.buffer_len(),
        hop_limit: 255,
    };
    let mut bytes = vec![0; 14 + ip.buffer_len() + ip.payload_len];
    let mut frame = EthernetFrame::new_unchecked(&mut bytes);
    EthernetRepr {
        src_addr: from_hardware,
        dst_addr: to_hardware,
        ethertype: EthernetProtocol::Ipv6,
    }
    .emit(&mut frame);
    let mut packet = Ipv6Packet::new_unchecked(frame.payload_mut());
    ip.emit(&mut packet);
    let mut packet = Icmpv6Packet::new_unchecked(packet.payload_mut());
    icmp.emit(&from, &to, &mut packet, &ChecksumCapabilities::default());
    bytes
}

fn arp(from: EthernetAddress, to: EthernetAddress, arp: ArpRepr) -> Vec<u8> {
    let mut bytes = vec![0; 14 + arp.buffer_len()];
    let mut frame = EthernetFrame::new_unchecked(&mut bytes);
    EthernetRepr {
        src_addr: from,
        dst_addr: to,
        ethertype: EthernetProtocol::Arp,
    }
    .emit(&mut frame);
    arp.emit(&mut ArpPacket::new_unchecked(frame.payload_mut()));
    bytes
}

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
    syn_from(ip_of(from), 7, to)
}

/// As [`syn`], from any address, with any sequence number.
pub fn syn_from(from: Ipv4Addr, number: i32, to: usize) -> Vec<u8> {
    let tcp = TcpRepr {
        src_port: 50_000,
        dst_port: PORT,
        control: TcpControl::Syn,
        seq_number: TcpSeqNumber(number),
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
        src_addr: from,
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
    let from_hardware = stranger(from);
    let asked = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Request,
        source_hardware_addr: from_hardware,
        source_protocol_addr: ip_of(from),
        target_hardware_addr: EthernetAddress([0; 6]),
        target_protocol_addr: ip_of(to),
    };
    arp(from_hardware, EthernetAddress::BROADCAST, asked)
}

/// As [`who_has`], under IPv6.
pub fn who_has6(from: usize, to: usize) -> Vec<u8> {
    let asked = NdiscRepr::NeighborSolicit {
        target_addr: ip6_of(to),
        lladdr: Some(stranger(from).into()),
    };
    // The group of all whose addresses end like this (RFC 4291, section 2.7.1).
    let [.., last] = ip6_of(to).segments();
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, last);
    let group_hardware = EthernetAddress([0x33, 0x33, 0xff, 0, 0, hardware(to).0[5]]);
    neighbour(
        &asked,
        (stranger(from), ip6_of(from)),
        (group_hardware, group),
    )
}

/// The hardware address of a station that does not exist.
fn stranger(index: usize) -> EthernetAddress {
    EthernetAddress([2, 0, 0, 0, 2, u8::try_from(index).unwrap()])
}

/// The `n`th piece of junk: a frame of random length and content, or one of `honest` that was tampered with.
pub fn junk(n: usize, honest: impl Fn(usize) -> Vec<u8>) -> Vec<u8> {
    let mut draw = draws(n);
    let mut frame = if n.is_multiple_of(2) {
        honest(100 + n % 50)
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

/// Random bytes, another sequence of them for each `n`.
pub fn draws(n: usize) -> impl FnMut() -> [u8; 8] {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(n as u64 + 1);
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    }
}
