//! A network card that is two queues: the world puts in what arrives and takes out what is sent.

use std::collections::VecDeque;

use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;

/// The longest frame that Ethernet carries.
const ETHERNET_MTU: usize = 1514;
/// The shortest limit for IPv6 packets that a link may have (RFC 8200, section 5), for IPv4 ones as well.
const IP_MTU: usize = 1280;

/// A network card: what arrived, and what is to be sent.
pub struct Card {
    medium: Medium,
    pub received: VecDeque<Vec<u8>>,
    pub sent: Vec<Vec<u8>>,
}

impl Card {
    pub fn new(medium: Medium) -> Self {
        Self {
            medium,
            received: VecDeque::new(),
            sent: Vec::new(),
        }
    }
}

pub struct Received(Vec<u8>);
pub struct Sent<'a>(&'a mut Vec<Vec<u8>>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Sent<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let result = f(&mut frame);
        self.0.push(frame);
        result
    }
}

impl Device for Card {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sent<'a>;

    fn receive(&mut self, _now: Instant) -> Option<(Received, Sent<'_>)> {
        let frame = self.received.pop_front()?;
        Some((Received(frame), Sent(&mut self.sent)))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Sent<'_>> {
        Some(Sent(&mut self.sent))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = self.medium;
        capabilities.max_transmission_unit = match self.medium {
            Medium::Ethernet => ETHERNET_MTU,
            Medium::Ip => IP_MTU,
        };
        capabilities
    }
}
