//! Network addresses: [`PackedAddr`], the 18-byte form for memory and wire; which addresses are worth
//! contacting; and the units by which quotas count, [`Source`] and [`Subnet`]. Nothing here resolves or
//! remembers an address. The invariant: an IPv4 address and its IPv6-mapped form are one address, so
//! that nobody gets a second quota by spelling.

use core::fmt;
use core::net::{IpAddr, Ipv6Addr, SocketAddr};

/// The length of a packed address in bytes.
pub const PACKED_ADDR_BYTES: usize = 18;

/// An IP address and port in 18 bytes: the IPv6 address, or the IPv4-mapped one (RFC 4291, section
/// 2.5.5.2), then the port, all big-endian. All zero is no address.
///
/// The flow label and the scope of an IPv6 address are dropped. On the wire it is the 18 bytes and
/// nothing else; every value decodes, so check [`is_usable_contact`] before use.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackedAddr([u8; PACKED_ADDR_BYTES]);

impl PackedAddr {
    /// No address; all bytes zero.
    pub const NONE: Self = Self([0; PACKED_ADDR_BYTES]);

    /// Takes 18 bytes as a packed address.
    pub const fn from_bytes(bytes: [u8; PACKED_ADDR_BYTES]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes.
    pub const fn as_bytes(&self) -> &[u8; PACKED_ADDR_BYTES] {
        &self.0
    }

    /// Tells whether this is no address.
    pub fn is_none(&self) -> bool {
        *self == Self::NONE
    }

    /// Unpacks the address; `None` if all bytes are zero. A mapped IPv4 address comes back as IPv4.
    pub fn to_socket_addr(&self) -> Option<SocketAddr> {
        if self.is_none() {
            return None;
        }
        let [ip @ .., port_high, port_low] = self.0;
        let ip = match self.v4() {
            Some(v4) => IpAddr::from(v4),
            None => IpAddr::from(ip),
        };
        Some(SocketAddr::new(
            ip,
            u16::from_be_bytes([port_high, port_low]),
        ))
    }

    /// The IPv4 address, if it is one.
    fn v4(&self) -> Option<[u8; 4]> {
        let [prefix @ .., a, b, c, d, _, _] = self.0;
        (prefix == V4_PREFIX).then_some([a, b, c, d])
    }
}

/// What an IPv6 address begins with that is a mapped IPv4 address.
const V4_PREFIX: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

impl From<SocketAddr> for PackedAddr {
    fn from(addr: SocketAddr) -> Self {
        let ip = match addr.ip() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        let mut bytes = [0; PACKED_ADDR_BYTES];
        let [first @ .., port_high, port_low] = &mut bytes;
        *first = ip.octets();
        [*port_high, *port_low] = addr.port().to_be_bytes();
        Self(bytes)
    }
}

impl fmt::Debug for PackedAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_socket_addr() {
            Some(addr) => write!(f, "PackedAddr({addr})"),
            None => f.write_str("PackedAddr(none)"),
        }
    }
}

/// Tells whether a datagram to this address, as a stranger named it, may go to one node.
///
/// Refused are port 0; "this network" 0.0.0.0/8 and `::`; multicast; the IPv4 broadcast; the ranges for
/// documentation (RFC 5737, RFC 3849, RFC 9637), which must not appear on a wire; and IPv6 link-local
/// addresses, which mean nothing without the scope that a [`PackedAddr`] drops. Whether a local address
/// ([`is_local`]) is welcome is for the node's configuration to say.
pub fn is_usable_contact(addr: SocketAddr) -> bool {
    let usable_ip = match addr.ip().to_canonical() {
        IpAddr::V4(v4) => {
            let this_network = v4.octets().first() == Some(&0);
            !(this_network || v4.is_multicast() || v4.is_broadcast() || v4.is_documentation())
        }
        IpAddr::V6(v6) => {
            !(v6.is_unspecified()
                || v6.is_multicast()
                || v6.is_unicast_link_local()
                || is_documentation_v6(v6))
        }
    };
    usable_ip && addr.port() != 0
}

/// Tells whether an address belongs to this machine or a private network: loopback, RFC 1918,
/// link-local (RFC 3927, RFC 4291) or unique local (fc00::/7, RFC 4193).
pub fn is_local(addr: SocketAddr) -> bool {
    match addr.ip().to_canonical() {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unicast_link_local() || v6.is_unique_local(),
    }
}

/// 2001:db8::/32 and 3fff::/20.
fn is_documentation_v6(v6: Ipv6Addr) -> bool {
    let [first, second, ..] = v6.segments();
    (first, second) == (0x2001, 0x0db8) || (first == 0x3fff && second < 0x1000)
}

/// The unit by which quotas count: who can be told apart from whom for free.
///
/// An IPv4 address; of an IPv6 address the /64, since a host commonly has one to itself; on loopback the
/// address and the port, since whole networks run there. The default value, all zero, is nobody's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source([u8; 9]);

/// A neighbourhood of addresses that one owner likely has: an IPv4 /24 or an IPv6 /48.
///
/// The default value, all zero, is nobody's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subnet([u8; 7]);

impl Source {
    /// Returns the packed bytes, for a hash. Strangers choose them: mix in a secret.
    pub const fn as_bytes(&self) -> &[u8; 9] {
        &self.0
    }
}

impl Subnet {
    /// Returns the packed bytes, for a hash. Strangers choose them: mix in a secret.
    pub const fn as_bytes(&self) -> &[u8; 7] {
        &self.0
    }

    /// Returns 16 bits that mostly tell it from others, for counting where room is short (FNV-1a, folded).
    pub fn tag(&self) -> u16 {
        let mut hash = 0x811c_9dc5_u32;
        for byte in self.0 {
            hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
        }
        let [a, b, c, d] = hash.to_be_bytes();
        u16::from_be_bytes([a ^ c, b ^ d])
    }
}

/// The first byte of a [`Source`] or [`Subnet`], so that no two families share a value.
const TAG_V4: u8 = 4;
const TAG_V6: u8 = 6;
const TAG_V6_LOOPBACK: u8 = 1;

/// Returns the unit by which to count what comes from an address.
pub fn source_of(addr: SocketAddr) -> Source {
    let packed = PackedAddr::from(addr);
    let [ip @ .., port_high, port_low] = packed.0;
    match packed.v4() {
        Some([127, b, c, d]) => Source([TAG_V4, 127, b, c, d, port_high, port_low, 0, 0]),
        Some([a, b, c, d]) => Source([TAG_V4, a, b, c, d, 0, 0, 0, 0]),
        None if ip == Ipv6Addr::LOCALHOST.octets() => {
            Source([TAG_V6_LOOPBACK, port_high, port_low, 0, 0, 0, 0, 0, 0])
        }
        None => {
            let [net @ .., _, _, _, _, _, _, _, _] = ip;
            let mut source = [TAG_V6; 9];
            let [_, bytes @ ..] = &mut source;
            *bytes = net;
            Source(source)
        }
    }
}

/// Returns the neighbourhood of an address.
pub fn subnet_of(addr: SocketAddr) -> Subnet {
    let packed = PackedAddr::from(addr);
    let [a, b, c, d, e, f, ..] = packed.0;
    match packed.v4() {
        Some([a, b, c, _]) => Subnet([TAG_V4, a, b, c, 0, 0, 0]),
        None => Subnet([TAG_V6, a, b, c, d, e, f]),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]

    extern crate alloc;

    use alloc::format;

    use super::*;
    use crate::wire::codec;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn neighbourhoods_rarely_share_a_tag() {
        let subnet = |n: u32| {
            let [a, b, c, _] = (n << 8).to_be_bytes();
            subnet_of(SocketAddr::from(([a, b, c, 1], 7827)))
        };
        let mut seen = [false; 1 << 16];
        for n in 0x10_0000..0x10_4000 {
            *seen.get_mut(usize::from(subnet(n).tag())).unwrap() = true;
        }
        // 16,384 at random out of 65,536 would give 14,500.
        let tags = seen.iter().filter(|&&seen| seen).count();
        assert!(tags > 13_500, "{tags}");
        let (here, neighbour) = (addr("16.0.0.1:1"), addr("16.0.0.9:2"));
        assert_eq!(subnet_of(here).tag(), subnet_of(neighbour).tag());
    }

    #[test]
    fn packing_has_the_documented_layout() {
        assert_eq!(
            PackedAddr::from(addr("192.168.1.2:258")).as_bytes(),
            &[
                0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 168, 1, 2, 1, 2
            ]
        );
        assert_eq!(
            PackedAddr::from(addr("[2001:db9::5]:65535")).as_bytes(),
            &[
                0x20, 1, 0x0d, 0xb9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0xff, 0xff
            ]
        );
    }

    #[test]
    fn an_address_comes_back_as_it_was_packed() {
        for text in [
            "1.2.3.4:5",
            "0.0.0.0:0",
            "127.0.0.1:65535",
            "[::1]:9",
            "[2a00::7:8]:1",
        ] {
            let packed = PackedAddr::from(addr(text));
            assert_eq!(packed.to_socket_addr(), Some(addr(text)));
            assert_eq!(PackedAddr::from_bytes(*packed.as_bytes()), packed);
        }
    }

    #[test]
    fn all_zero_is_no_address() {
        assert!(PackedAddr::NONE.is_none());
        assert_eq!(PackedAddr::NONE.to_socket_addr(), None);
        assert_eq!(PackedAddr::from(addr("[::]:0")), PackedAddr::NONE);
        assert_eq!(PackedAddr::default(), PackedAddr::NONE);
    }

    #[test]
    fn a_mapped_address_is_the_ipv4_address() {
        let (mapped, plain) = (addr("[::ffff:1.2.3.4]:5"), addr("1.2.3.4:5"));
        assert_eq!(PackedAddr::from(mapped), PackedAddr::from(plain));
        assert_eq!(PackedAddr::from(mapped).to_socket_addr(), Some(plain));
        assert_eq!(source_of(mapped), source_of(plain));
        assert_eq!(subnet_of(mapped), subnet_of(plain));
        assert!(is_local(addr("[::ffff:127.0.0.1]:5")));
        assert!(!is_usable_contact(addr("[::ffff:224.0.0.1]:5")));
    }

    #[test]
    fn scope_and_flow_label_are_dropped() {
        let ip = "fe80::1".parse().unwrap();
        let scoped = SocketAddr::V6(core::net::SocketAddrV6::new(ip, 7, 3, 4));
        assert_eq!(
            PackedAddr::from(scoped).to_socket_addr(),
            Some(addr("[fe80::1]:7"))
        );
    }

    #[test]
    fn an_address_is_18_raw_bytes_on_the_wire() {
        let packed = PackedAddr::from(addr("1.2.3.4:5"));
        let mut buf = [0; 20];
        assert_eq!(codec::encode(&packed, &mut buf), Some(18));
        assert_eq!(&buf[..18], packed.as_bytes());
        assert_eq!(codec::decode(&buf), Some((packed, &[0; 2][..])));
        assert_eq!(codec::decode::<PackedAddr>(&[0; 17]), None);
    }

    #[test]
    fn only_addresses_of_one_node_are_contacted() {
        for text in [
            "8.8.8.8:1",
            "127.0.0.1:1",
            "10.0.0.255:65535",
            "169.254.1.1:1",
            "1.0.0.0:1",
            "223.255.255.255:1",
            "192.0.3.1:1",
            "[::1]:1",
            "[2a00::1]:1",
            "[fc00::1]:1",
            "[2001:db9::1]:1",
            "[3fff:1000::1]:1",
        ] {
            assert!(is_usable_contact(addr(text)), "{text}");
        }
        for text in [
            "8.8.8.8:0",
            "0.0.0.0:1",
            "0.1.2.3:1",
            "224.0.0.1:1",
            "239.255.255.255:1",
            "255.255.255.255:1",
            "192.0.2.1:1",
            "198.51.100.1:1",
            "203.0.113.1:1",
            "[2a00::1]:0",
            "[::]:1",
            "[ff02::1]:1",
            "[fe80::1]:1",
            "[2001:db8::1]:1",
            "[3fff:fff::1]:1",
        ] {
            assert!(!is_usable_contact(addr(text)), "{text}");
        }
    }

    #[test]
    fn local_addresses_are_told_from_public_ones() {
        for text in [
            "127.255.0.1:1",
            "10.1.1.1:1",
            "172.16.0.1:1",
            "172.31.255.255:1",
            "192.168.0.1:1",
            "169.254.0.1:1",
            "[::1]:1",
            "[fe80::1]:1",
            "[fc00::1]:1",
            "[fdff::1]:1",
        ] {
            assert!(is_local(addr(text)), "{text}");
        }
        for text in [
            "128.0.0.1:1",
            "11.0.0.1:1",
            "172.32.0.1:1",
            "[2a00::1]:1",
            "[fe00::1]:1",
        ] {
            assert!(!is_local(addr(text)), "{text}");
        }
    }

    #[test]
    fn a_source_is_a_host_and_on_loopback_a_port() {
        let same = |a, b| source_of(addr(a)) == source_of(addr(b));
        assert!(same("8.8.8.8:1", "8.8.8.8:2"));
        assert!(!same("8.8.8.8:1", "8.8.8.9:1"));
        assert!(same("[2a00:1:2:3::1]:1", "[2a00:1:2:3:ffff::]:2"));
        assert!(!same("[2a00:1:2:3::1]:1", "[2a00:1:2:4::1]:1"));
        assert!(!same("127.0.0.1:1", "127.0.0.1:2"));
        assert!(!same("127.0.0.1:1", "127.0.0.2:1"));
        assert!(!same("[::1]:1", "[::1]:256"));
        assert!(!same("[::1]:1", "127.0.0.1:1"));
        // A /64 that looks like a tagged IPv4 address is none.
        assert!(!same("1.2.3.4:5", "[102:304::]:5"));
        assert_ne!(source_of(addr("0.0.0.0:0")), Source::default());
    }

    #[test]
    fn a_subnet_is_a_24_or_a_48() {
        let same = |a, b| subnet_of(addr(a)) == subnet_of(addr(b));
        assert!(same("8.8.8.8:1", "8.8.8.255:2"));
        assert!(!same("8.8.8.8:1", "8.8.9.8:1"));
        assert!(same("[2a00:1:2:3::1]:1", "[2a00:1:2:ffff::1]:1"));
        assert!(!same("[2a00:1:2:3::1]:1", "[2a00:1:3:3::1]:1"));
        assert!(!same("1.2.3.4:5", "[102:300::]:5"));
        assert_ne!(subnet_of(addr("0.0.0.0:0")), Subnet::default());
    }

    #[test]
    fn debug_shows_the_address() {
        let packed = PackedAddr::from(addr("1.2.3.4:5"));
        assert_eq!(
            format!("{packed:?} {:?}", PackedAddr::NONE),
            "PackedAddr(1.2.3.4:5) PackedAddr(none)"
        );
    }
}
