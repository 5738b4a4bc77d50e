//! A DHCP server (RFC 2131), made of nothing but its answers. Whom it gives which address follows
//! from the hardware address; it remembers nothing.

use std::net::{Ipv4Addr, SocketAddrV4};

use smoltcp::wire::{
    DHCP_CLIENT_PORT, DHCP_SERVER_PORT, DhcpMessageType, DhcpPacket, DhcpRepr, EthernetAddress,
};

use crate::{frames, router};

/// Where the server is.
pub const IP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 200);
const HARDWARE: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 201]);
const MASK: Ipv4Addr = Ipv4Addr::new(255, 255, 255, 0);

/// What it does, and what it heard.
pub struct Server {
    /// It answers nobody.
    pub silent: bool,
    /// How long it lets an address, in s.
    pub lease_s: u32,
    /// The last byte of the first station's address, and so on. Whoever wants another one is refused.
    pub first: u8,
    /// Whom it names as the router.
    pub router: Option<Ipv4Addr>,
    /// What its packets say where they come from.
    pub from: Ipv4Addr,
    /// What it was told, in the order of arrival.
    pub heard: Vec<DhcpMessageType>,
    /// It mistakes some of what it means to say, each time something else.
    pub garbles: Option<usize>,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            silent: false,
            lease_s: 3_600,
            first: 50,
            router: Some(Ipv4Addr::new(10, 0, 0, router::HOST)),
            from: IP,
            heard: Vec::new(),
            garbles: None,
        }
    }
}

impl Server {
    /// What it answers to a frame, if the frame is for it.
    pub fn answer(&mut self, frame: &[u8]) -> Option<Vec<u8>> {
        if self.silent {
            return None;
        }
        if let Some(reply) = frames::is_at(frame, HARDWARE, |ip| ip == IP) {
            return Some(reply);
        }
        let (_, to, told) = frames::datagram_in(frame)?;
        if to.port() != DHCP_SERVER_PORT {
            return None;
        }
        let packet = DhcpPacket::new_checked(told).ok()?;
        let asked = DhcpRepr::parse(&packet).ok()?;
        self.heard.push(asked.message_type);
        let own = self.lease_of(asked.client_hardware_address);
        let kind = match asked.message_type {
            DhcpMessageType::Discover => DhcpMessageType::Offer,
            // One that is asked for, or one that it has and wants to keep.
            DhcpMessageType::Request if asked.requested_ip.unwrap_or(asked.client_ip) == own => {
                DhcpMessageType::Ack
            }
            DhcpMessageType::Request => DhcpMessageType::Nak,
            other => panic!("{other:?} is not a client's"),
        };
        Some(self.reply(asked, kind, own))
    }

    /// The address that it gives to whoever has this hardware address.
    pub fn lease_of(&self, EthernetAddress([.., host]): EthernetAddress) -> Ipv4Addr {
        Ipv4Addr::new(10, 0, 0, self.first + host - 1)
    }

    fn reply(&mut self, asked: DhcpRepr<'_>, kind: DhcpMessageType, own: Ipv4Addr) -> Vec<u8> {
        let client = asked.client_hardware_address;
        let gives = kind != DhcpMessageType::Nak;
        let told = DhcpRepr {
            message_type: kind,
            your_ip: if gives { own } else { Ipv4Addr::UNSPECIFIED },
            client_ip: Ipv4Addr::UNSPECIFIED,
            router: self.router.filter(|_| gives),
            subnet_mask: gives.then_some(MASK),
            lease_duration: gives.then_some(self.lease_s),
            server_identifier: Some(IP),
            requested_ip: None,
            client_identifier: None,
            parameter_request_list: None,
            max_size: None,
            ..asked
        };
        let mut bytes = vec![0; told.buffer_len()];
        told.emit(&mut DhcpPacket::new_unchecked(&mut bytes))
            .unwrap();
        if let Some(times) = &mut self.garbles {
            *times += 1;
            let mut draw = frames::draws(*times);
            for _ in 0..2 {
                let [at, value, in_options, ..] = draw();
                // Most of what it says stands in the options, after the 236 bytes of a fixed form and 4 that are always the same.
                let begin = if in_options.is_multiple_of(4) { 0 } else { 240 };
                let at = begin + usize::from(at) % (bytes.len() - begin);
                bytes[at] = value;
            }
        }
        let from = SocketAddrV4::new(self.from, DHCP_SERVER_PORT);
        let to = SocketAddrV4::new(Ipv4Addr::BROADCAST, DHCP_CLIENT_PORT);
        frames::datagram((HARDWARE, from), (client, to), &bytes)
    }
}
