//! Between core's addresses and times and smoltcp's. Owns nothing. Invariant: an address of a family that was not built in
//! has no counterpart, and nobody is reached under it.

use core::net::{IpAddr, SocketAddr};

use smoltcp::time::Instant as NetInstant;
use smoltcp::wire::{IpAddress, IpEndpoint};
use strandline_core::time::Instant;

/// The same point in time.
pub fn net_instant(now: Instant) -> NetInstant {
    NetInstant::from_micros(i64::try_from(now.as_us()).unwrap_or(i64::MAX))
}

/// The same point in time; what lies before the origin is the origin.
pub fn instant(at: NetInstant) -> Instant {
    Instant::from_us(u64::try_from(at.total_micros()).unwrap_or(0))
}

/// The same address, if its family is built in.
pub fn net_ip(ip: IpAddr) -> Option<IpAddress> {
    match ip {
        #[cfg(feature = "ipv4")]
        IpAddr::V4(ip) => Some(IpAddress::Ipv4(ip)),
        #[cfg(feature = "ipv6")]
        IpAddr::V6(ip) => Some(IpAddress::Ipv6(ip)),
        #[cfg(not(all(feature = "ipv4", feature = "ipv6")))]
        _ => None,
    }
}

/// The same address.
pub fn ip(ip: IpAddress) -> IpAddr {
    match ip {
        #[cfg(feature = "ipv4")]
        IpAddress::Ipv4(ip) => IpAddr::V4(ip),
        #[cfg(feature = "ipv6")]
        IpAddress::Ipv6(ip) => IpAddr::V6(ip),
    }
}

/// The same address and port, if the family is built in and somebody can be reached there.
pub fn endpoint(addr: SocketAddr) -> Option<IpEndpoint> {
    let ip = net_ip(addr.ip())?;
    let reachable = ip.is_unicast() && addr.port() != 0;
    reachable.then(|| IpEndpoint::new(ip, addr.port()))
}

/// The same address and port.
pub fn socket_addr(endpoint: IpEndpoint) -> SocketAddr {
    SocketAddr::new(ip(endpoint.addr), endpoint.port)
}
