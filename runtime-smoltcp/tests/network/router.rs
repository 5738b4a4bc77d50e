//! A router between all networks, made of nothing but what it answers and passes on. It has an address in each of them.

use std::net::IpAddr;

use smoltcp::phy::Medium;
use smoltcp::wire::{EthernetAddress, EthernetFrame};

use crate::frames;

const HARDWARE: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 0xfe]);
/// The last byte of each of its addresses.
pub const HOST: u8 = 0xfe;

/// What it answers to a frame, if the frame is for it.
pub fn answer(frame: &[u8]) -> Option<Vec<u8>> {
    frames::is_at(frame, HARDWARE, is_own)
}

/// Where a frame goes on to, if the router is to pass it on.
pub fn passes_to(frame: &[u8]) -> Option<IpAddr> {
    let is_given = EthernetFrame::new_checked(frame).ok()?.dst_addr() == HARDWARE;
    let (_, to) = frames::ends(Medium::Ethernet, frame)?;
    (is_given && !is_own(to)).then_some(to)
}

/// The frame by which it passes this one on to a station.
pub fn passed_on(frame: &[u8], to: EthernetAddress) -> Vec<u8> {
    let mut bytes = frame.to_vec();
    let mut frame = EthernetFrame::new_unchecked(&mut bytes);
    frame.set_src_addr(HARDWARE);
    frame.set_dst_addr(to);
    bytes
}

fn is_own(ip: IpAddr) -> bool {
    let host = match ip {
        IpAddr::V4(ip) => ip.octets()[3],
        IpAddr::V6(ip) => ip.octets()[15],
    };
    host == HOST
}
