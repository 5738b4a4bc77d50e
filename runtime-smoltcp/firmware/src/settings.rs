//! The settings: a line of `key=value` words, from the debugger (QEMU: `-semihosting-config arg=…`) or from the last page
//! of flash. Owns their names and defaults.
//!
//! | key | value | without it |
//! |---|---|---|
//! | `name` | the user's name | the board halts |
//! | `seed` | 64 hexadecimal digits, secret: the keys follow from it | the board halts |
//! | `addr` | own IPv4 address and prefix, `10.0.0.7/24` | the board halts |
//! | `router` | IPv4 address | only the own network is reached |
//! | `join` | address and port of a node, up to twice | it waits to be joined |
//! | `mac` | 12 hexadecimal digits | the one in the chip, else made from the seed |
//! | `ntp` | address and port of a time server | no date |
//! | `net` | the network's name | `strandline` |
//! | `port` | UDP and TCP | 7827 |
//! | `holders` | how many must hold a post before it counts | 1 |
//! | `new` | `1`: this user has never posted; take it away after the first start | numbers are asked for first |

use core::net::{Ipv4Addr, SocketAddrV4};

/// Longest line of settings in bytes.
pub const LINE_LEN_MAX: usize = 400;
/// The port where none is given.
const PORT: u16 = 7827;
/// Nodes to join through.
pub const JOINS: usize = 2;

/// What the board was told.
#[derive(Clone, Copy)]
pub struct Settings<'s> {
    pub name: &'s str,
    pub seed: [u8; 32],
    pub addr: (Ipv4Addr, u8),
    pub router: Option<Ipv4Addr>,
    pub joins: [Option<SocketAddrV4>; JOINS],
    pub mac: Option<[u8; 6]>,
    pub ntp: Option<SocketAddrV4>,
    pub network: &'s str,
    pub port: u16,
    pub holders: u8,
    pub new: bool,
    /// How often the board was started since the power came on; no key sets it.
    pub starts: u32,
}

impl<'s> Settings<'s> {
    /// Nothing was said.
    pub const UNTOLD: Self = Self {
        name: "",
        seed: [0; 32],
        addr: (Ipv4Addr::UNSPECIFIED, 0),
        router: None,
        joins: [None; JOINS],
        mac: None,
        ntp: None,
        network: "strandline",
        port: PORT,
        holders: 1,
        new: false,
        starts: 0,
    };

    /// Reads a line; `Err` is the key that is missing or whose value cannot be read.
    pub fn read(&mut self, line: &'s str) -> Result<(), &'s str> {
        for word in line.split_ascii_whitespace() {
            // The emulator's first word is the program.
            if let Some((key, value)) = cut(word, b'=') {
                set(self, key, value).ok_or(key)?;
            }
        }
        match self {
            Self { name: "", .. } => Err("name"),
            Self { seed, .. } if *seed == [0; 32] => Err("seed"),
            Self { addr: (ip, _), .. } if ip.is_unspecified() => Err("addr"),
            _ => Ok(()),
        }
    }
}

fn set<'s>(settings: &mut Settings<'s>, key: &str, value: &'s str) -> Option<()> {
    match key {
        "name" => settings.name = value,
        "seed" => hex(value, &mut settings.seed)?,
        "addr" => {
            let (address, bits) = cut(value, b'/')?;
            let bits = number(bits.as_bytes()).filter(|bits| *bits <= 32)?;
            settings.addr = (ip(address)?, u8::try_from(bits).ok()?);
        }
        "router" => settings.router = Some(ip(value)?),
        "join" => *settings.joins.iter_mut().find(|join| join.is_none())? = Some(socket(value)?),
        "mac" => hex(value, settings.mac.insert([0; 6]))?,
        "ntp" => settings.ntp = Some(socket(value)?),
        "net" => settings.network = value,
        "port" => settings.port = u16::try_from(number(value.as_bytes())?).ok()?,
        "holders" => settings.holders = u8::try_from(number(value.as_bytes())?).ok()?,
        "new" => settings.new = value == "1",
        _ => return None,
    }
    Some(())
}

/// What stands before and behind the first `mark`.
///
/// This and what follows is written out, since the library's searching and its parser of addresses take 1.5 KB of flash.
pub fn cut(text: &str, mark: u8) -> Option<(&str, &str)> {
    let at = text.bytes().position(|byte| byte == mark)?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

fn ip(text: &str) -> Option<Ipv4Addr> {
    let mut parts = text.as_bytes().split(|byte| *byte == b'.');
    let mut octets = [0; 4];
    for octet in &mut octets {
        *octet = u8::try_from(number(parts.next()?)?).ok()?;
    }
    parts.next().is_none().then(|| octets.into())
}

fn socket(text: &str) -> Option<SocketAddrV4> {
    let (address, port) = cut(text, b':')?;
    let port = u16::try_from(number(port.as_bytes())?).ok()?;
    Some(SocketAddrV4::new(ip(address)?, port))
}

fn number(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u32, |sum, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
        sum.checked_mul(10)?.checked_add(digit.into())
    })
}

fn hex(text: &str, bytes: &mut [u8]) -> Option<()> {
    let digits = text.as_bytes();
    if digits.len() != 2 * bytes.len() {
        return None;
    }
    for (place, digit) in digits.iter().enumerate() {
        let digit = u8::try_from(char::from(*digit).to_digit(16)?).ok()?;
        let byte = bytes.get_mut(place / 2)?;
        *byte = *byte << 4 | digit;
    }
    Some(())
}

/// The line of settings, into `room`: the debugger's if there is one, else flash.
pub fn line(room: &mut [u8; LINE_LEN_MAX]) -> &str {
    #[cfg(feature = "semihosting")]
    let len = from_debugger(room);
    #[cfg(not(feature = "semihosting"))]
    let len = from_flash(room);
    let line = room.get(..len).unwrap_or_default();
    core::str::from_utf8(line).unwrap_or_default()
}

/// What stands on the last page of flash, up to the first byte that is no text.
#[cfg(not(feature = "semihosting"))]
fn from_flash(room: &mut [u8; LINE_LEN_MAX]) -> usize {
    unsafe extern "C" {
        static SETTINGS_PAGE: [u8; LINE_LEN_MAX];
    }
    // SAFETY: the linker script puts it on a page of flash that is longer and belongs to nothing else.
    let page = unsafe { &*core::ptr::addr_of!(SETTINGS_PAGE) };
    room.copy_from_slice(page);
    room.iter()
        .position(|byte| !byte.is_ascii() || *byte == 0)
        .unwrap_or(room.len())
}

#[cfg(feature = "semihosting")]
fn from_debugger(room: &mut [u8; LINE_LEN_MAX]) -> usize {
    /// What the call reads and writes.
    #[repr(C)]
    struct Block {
        line: *mut u8,
        len: usize,
    }
    let mut block = Block {
        line: room.as_mut_ptr(),
        len: room.len(),
    };
    let number = cortex_m_semihosting::nr::GET_CMDLINE;
    // SAFETY: the block names memory that is borrowed for the call, with its length, as SYS_GET_CMDLINE wants it; the
    // debugger writes both it and the line, so the address is given of something that may change.
    let result = unsafe { cortex_m_semihosting::syscall1(number, (&raw mut block) as usize) };
    if result == 0 {
        block.len.min(room.len())
    } else {
        0
    }
}
