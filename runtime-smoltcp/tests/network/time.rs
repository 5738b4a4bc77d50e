//! A time server that is made of nothing but its answers.

use smoltcp::wire::{EthernetAddress, EthernetFrame};

use crate::frames;
use crate::station::ip_of;

/// Its place on the network.
pub const INDEX: usize = 120;
const HARDWARE: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 121]);
/// Seconds from 1900 to 1970.
const NTP_EPOCH_S: u64 = 2_208_988_800;

/// What it answers to a frame, if the frame is for it; whether it was asked for the time.
pub fn answer(frame: &[u8], unix_us: u64) -> Option<(Vec<u8>, bool)> {
    if let Some(reply) = frames::is_at(frame, HARDWARE, |ip| ip == ip_of(INDEX)) {
        return Some((reply, false));
    }
    let (from, to, request) = frames::datagram_in(frame)?;
    if *to.ip() != ip_of(INDEX) {
        return None;
    }
    let asker = EthernetFrame::new_checked(frame).ok()?.src_addr();
    let told = of(request.try_into().ok()?, unix_us);
    Some((frames::datagram((HARDWARE, to), (asker, from), &told), true))
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
