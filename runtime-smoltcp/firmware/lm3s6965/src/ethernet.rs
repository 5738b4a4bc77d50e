//! The chip's Ethernet controller as a smoltcp device. Owns its registers and one frame of memory in each direction.
//! Invariant: what is in the controller's FIFO is always read or written to the end of a frame, since it cannot be
//! rewound.

use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;

mod mac {
    strandline_firmware::registers! { 0x4004_8000:
        /// Which interrupts there are; written: clears them.
        RIS_IACK = 0x00,
        /// Which interrupts count.
        IM = 0x04,
        /// Receiver.
        RCTL = 0x08,
        /// Transmitter.
        TCTL = 0x0c,
        /// The FIFOs.
        DATA = 0x10,
        /// Own address, bytes 0 to 3.
        IA0 = 0x14,
        /// Own address, bytes 4 and 5.
        IA1 = 0x18,
        /// How full the FIFO is when sending begins; 63: when told to.
        THR = 0x1c,
        /// Frames received.
        NP = 0x34,
        /// Bit 0: sends; set until it is done.
        TR = 0x38,
    }
}

/// The one interrupt that is acknowledged. Acknowledging the transmitter's error would reset its FIFO in mid-frame.
const RECEIVED: u32 = 1;
/// Room for a frame: one with the longest datagram of the protocol, and more than a whole frame of a stream needs.
pub const FRAME_LEN_MAX: usize = 1_278;
/// The longest frame and its length, in whole words.
const FRAME_ROOM: usize = 2 + FRAME_LEN_MAX;
const HEADER_LEN: usize = 14;
/// The receiver counts its own two bytes and the checksum as well.
const LEN_BESIDE: usize = 6;
/// How long the transmitter may take for the frame before, in looks at it: 1.3 ms at 10 Mbit/s.
const SEND_LOOKS: u32 = 100_000;

const _: () = assert!(FRAME_ROOM.is_multiple_of(4));
const _: () = assert!(HEADER_LEN + 28 + strandline_core::wire::DATAGRAM_LEN_MAX <= FRAME_LEN_MAX);

/// The controller.
pub struct Ethernet {
    received: [u8; FRAME_ROOM],
    sent: [u8; FRAME_ROOM],
    /// Frames thrown away, being too long.
    overlong: u32,
}

impl Ethernet {
    /// Memory for it: for a `static`.
    pub const OFF: Self = Self {
        received: [0; FRAME_ROOM],
        sent: [0; FRAME_ROOM],
        overlong: 0,
    };

    /// Takes a frame out of the controller, and its length. One that is too long is empty: as long as there are frames, none
    /// is passed over in silence, since only the next one to come would wake the board for those that are there.
    fn take(&mut self) -> Option<usize> {
        mac::RIS_IACK.write(RECEIVED);
        if mac::NP.read() == 0 {
            return None;
        }
        let first = mac::DATA.read().to_le_bytes();
        let [low, high, ..] = first;
        let total = usize::from(u16::from_le_bytes([low, high]));
        let words = total.div_ceil(4);
        let mut room = self.received.chunks_exact_mut(4);
        let mut word = first;
        for left in (0..words).rev() {
            if let Some(place) = room.next() {
                place.copy_from_slice(&word);
            }
            if left > 0 {
                word = mac::DATA.read().to_le_bytes();
            }
        }
        let len = total.saturating_sub(LEN_BESIDE);
        if len <= FRAME_LEN_MAX {
            return Some(len);
        }
        self.overlong = self.overlong.wrapping_add(1);
        Some(0)
    }
}

impl strandline_firmware::Ethernet for Ethernet {
    fn start(&mut self, [a, b, c, d, e, f]: [u8; 6]) {
        mac::IM.write(0);
        mac::IA0.write(u32::from_le_bytes([a, b, c, d]));
        mac::IA1.write(u32::from_le_bytes([e, f, 0, 0]));
        mac::THR.write(63);
        // Empties the receiver, which then drops bad checksums and is on.
        mac::RCTL.write(1 << 4);
        mac::RCTL.write(1 << 3 | 1);
        // Full duplex, checksums, padding, on.
        mac::TCTL.write(1 << 4 | 1 << 2 | 1 << 1 | 1);
        mac::RIS_IACK.write(RECEIVED);
        mac::IM.write(RECEIVED);
    }

    fn overlong(&self) -> u32 {
        self.overlong
    }
}

/// A frame that was received.
pub struct Received<'a>(&'a [u8]);

/// Room for a frame to be sent.
pub struct Sent<'a>(&'a mut [u8; FRAME_ROOM]);

impl Device for Ethernet {
    type RxToken<'a> = Received<'a>;
    type TxToken<'a> = Sent<'a>;

    fn receive(&mut self, _now: Instant) -> Option<(Received<'_>, Sent<'_>)> {
        let len = self.take()?;
        let frame = self.received.get(2..2 + len)?;
        Some((Received(frame), Sent(&mut self.sent)))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Sent<'_>> {
        Some(Sent(&mut self.sent))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = FRAME_LEN_MAX;
        capabilities.max_burst_size = Some(1);
        capabilities
    }
}

impl RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

impl TxToken for Sent<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let ([low, high], frame) = match self.0.split_first_chunk_mut::<2>() {
            Some((prefix, rest)) => (prefix, rest.get_mut(..len).unwrap_or_default()),
            None => return f(&mut []),
        };
        let payload = u16::try_from(frame.len().saturating_sub(HEADER_LEN)).unwrap_or(0);
        [*low, *high] = payload.to_le_bytes();
        let result = f(frame);
        for _ in 0..SEND_LOOKS {
            if mac::TR.read() == 0 {
                break;
            }
        }
        for word in self.0.chunks_exact(4).take((2 + len).div_ceil(4)) {
            if let Ok(word) = word.try_into() {
                mac::DATA.write(u32::from_le_bytes(word));
            }
        }
        mac::TR.write(1);
        result
    }
}
