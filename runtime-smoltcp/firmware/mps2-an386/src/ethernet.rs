//! The board's Ethernet controller, a LAN9220, as a smoltcp device (data sheet DS00002270; the LAN9118 has the same
//! registers). Owns its registers and one frame of memory in each direction. Invariant: what is in the controller's FIFO is
//! always read or written to the end of a frame.

use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;

mod mac {
    strandline_firmware::registers! { 0x4020_0000:
        /// Frames that came, word by word.
        RX_DATA = 0x00,
        /// Frames to be sent, word by word.
        TX_DATA = 0x20,
        /// What is known about the next frame that came.
        RX_STATUS = 0x40,
        /// How the interrupt's line is driven.
        IRQ_CFG = 0x54,
        /// Which interrupts there are; written: clears them.
        INT_STS = 0x58,
        /// Which interrupts count.
        INT_EN = 0x5c,
        /// How many frames make an interrupt.
        FIFO_INT = 0x68,
        /// How frames lie in the FIFO that receives.
        RX_CFG = 0x6c,
        /// Transmitter.
        TX_CFG = 0x70,
        /// Bit 0: resets, and is set until that is done.
        HW_CFG = 0x74,
        /// Bits 23 to 16: frames that came.
        RX_FIFO_INF = 0x7c,
        /// Bits 15 to 0: bytes that there is room for.
        TX_FIFO_INF = 0x80,
        /// Names a register of the inner bus, and whether it is read; bit 31: set until that is done.
        CSR_CMD = 0xa4,
        /// What is in it.
        CSR_DATA = 0xa8,
    }
}

/// Registers of the inner bus.
mod inner {
    /// Receiver and transmitter.
    pub const CONTROL: u32 = 1;
    /// Own address, bytes 4 and 5.
    pub const ADDRESS_HIGH: u32 = 2;
    /// Own address, bytes 0 to 3.
    pub const ADDRESS_LOW: u32 = 3;
    /// Names a register of the line's end (PHY).
    pub const MII_ACCESS: u32 = 6;
    /// What is in it.
    pub const MII_DATA: u32 = 7;
}

const BUSY: u32 = 1 << 31;
/// Of `INT_STS`: a frame came.
const CAME: u32 = 1 << 3;
/// Of `RX_STATUS`: the frame is damaged.
const DAMAGED: u32 = 1 << 15;
/// The longest frame, without its checksum.
const FRAME_LEN_MAX: usize = 1_514;
/// A frame and its checksum, in whole words.
const FRAME_ROOM: usize = 1_520;
const CHECKSUM_LEN: usize = 4;
/// What goes before a frame that is sent: two words.
const COMMANDS_LEN: u32 = 8;
/// How long the controller may take for anything, in looks at it.
const LOOKS: u32 = 100_000;

const _: () = assert!(FRAME_ROOM.is_multiple_of(4) && FRAME_LEN_MAX + CHECKSUM_LEN <= FRAME_ROOM);

/// The controller.
pub struct Ethernet {
    received: [u8; FRAME_ROOM],
    sent: [u8; FRAME_ROOM],
    /// Frames thrown away.
    overlong: u32,
}

impl Ethernet {
    /// Memory for it: for a `static`.
    pub const OFF: Self = Self {
        received: [0; FRAME_ROOM],
        sent: [0; FRAME_ROOM],
        overlong: 0,
    };

    /// Takes a frame out of the controller, and its length. One that is too long or damaged is empty: as long as there are
    /// frames, none is passed over in silence, since only the next one to come would wake the board for those that are there.
    fn take(&mut self) -> Option<usize> {
        mac::INT_STS.write(CAME);
        if mac::RX_FIFO_INF.read() >> 16 & 0xff == 0 {
            return None;
        }
        let status = mac::RX_STATUS.read();
        // 14 bits.
        let total = usize::try_from(status >> 16 & 0x3fff).unwrap_or_default();
        let mut room = self.received.chunks_exact_mut(4);
        for _ in 0..total.div_ceil(4) {
            let word = mac::RX_DATA.read().to_le_bytes();
            if let Some(place) = room.next() {
                place.copy_from_slice(&word);
            }
        }
        let len = total.saturating_sub(CHECKSUM_LEN);
        if len <= FRAME_LEN_MAX && status & DAMAGED == 0 {
            return Some(len);
        }
        self.overlong = self.overlong.wrapping_add(1);
        Some(0)
    }
}

impl strandline_firmware::Ethernet for Ethernet {
    fn start(&mut self, [a, b, c, d, e, f]: [u8; 6]) {
        const FULL_DUPLEX: u32 = 1 << 20;
        mac::HW_CFG.write(1);
        wait(|| mac::HW_CFG.read() & 1 == 0);
        // Whole frames are sent, from 5 KiB of FIFO.
        mac::HW_CFG.write(1 << 20 | 5 << 16);
        mac::RX_CFG.write(0);
        set(inner::ADDRESS_LOW, u32::from_le_bytes([a, b, c, d]));
        set(inner::ADDRESS_HIGH, u32::from_le_bytes([e, f, 0, 0]));
        // It offers full duplex only, so that the controller knows what was agreed on; then it negotiates.
        set_line(4, 1 << 8 | 1 << 6 | 1);
        set_line(0, 1 << 12 | 1 << 9);
        // Each frame interrupts, by a line that is driven, and high.
        mac::FIFO_INT.write(0x48 << 24);
        mac::INT_STS.write(u32::MAX);
        mac::INT_EN.write(CAME);
        mac::IRQ_CFG.write(1 << 8 | 1 << 4 | 1);
        // On; nobody reads what became of frames that were sent.
        mac::TX_CFG.write(1 << 2 | 1 << 1);
        set(inner::CONTROL, FULL_DUPLEX | 1 << 3 | 1 << 2);
    }

    fn overlong(&self) -> u32 {
        self.overlong
    }
}

/// The hardware address that the controller was given, if it was.
pub fn hardware_address() -> Option<[u8; 6]> {
    let (low, high) = (get(inner::ADDRESS_LOW), get(inner::ADDRESS_HIGH));
    let ([a, b, c, d], [e, f, ..]) = (low.to_le_bytes(), high.to_le_bytes());
    let given = low != u32::MAX && (low, high) != (0, 0);
    (given && a & 1 == 0).then_some([a, b, c, d, e, f])
}

fn wait(until: impl Fn() -> bool) {
    for _ in 0..LOOKS {
        if until() {
            break;
        }
    }
}

fn get(register: u32) -> u32 {
    mac::CSR_CMD.write(BUSY | 1 << 30 | register);
    wait(|| mac::CSR_CMD.read() & BUSY == 0);
    mac::CSR_DATA.read()
}

fn set(register: u32, value: u32) {
    mac::CSR_DATA.write(value);
    mac::CSR_CMD.write(BUSY | register);
    wait(|| mac::CSR_CMD.read() & BUSY == 0);
}

/// Sets a register of the line's end, which has number 1.
fn set_line(register: u32, value: u32) {
    set(inner::MII_DATA, value);
    set(inner::MII_ACCESS, 1 << 11 | register << 6 | 0b11);
    wait(|| get(inner::MII_ACCESS) & 1 == 0);
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
        Some((Received(self.received.get(..len)?), Sent(&mut self.sent)))
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
        /// The first of a frame's buffers, and the last.
        const WHOLE: u32 = 1 << 13 | 1 << 12;
        let frame = self.0.get_mut(..len).unwrap_or_default();
        // At most 1,514.
        let bytes = u32::try_from(frame.len()).unwrap_or_default();
        let result = f(frame);
        wait(|| mac::TX_FIFO_INF.read() & 0xffff >= bytes + COMMANDS_LEN);
        mac::TX_DATA.write(WHOLE | bytes);
        mac::TX_DATA.write(bytes);
        for word in self.0.chunks_exact(4).take(len.div_ceil(4)) {
            if let Ok(word) = word.try_into() {
                mac::TX_DATA.write(u32::from_le_bytes(word));
            }
        }
        result
    }
}
