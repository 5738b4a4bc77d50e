//! A node on a TAP device, beside whatever else is on that network: mio nodes on the same machine, for instance.
//!
//! ```sh
//! sudo ip tuntap add tap0 mode tap user $USER
//! sudo ip link set tap0 up && sudo ip addr add 10.7.0.1/24 dev tap0
//! strandline up --name alice --listen 10.7.0.1:7827 &
//! cargo run -p strandline-smoltcp --example tap -- tap0 10.7.0.2/24 carol 10.7.0.1:7827
//! ```
//!
//! It joins, then carries out the lines that are typed: `post TEXT`, `follow HANDLE`, `timeline`, `status`.

#[cfg(target_os = "linux")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    linux::main()
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("TAP devices are Linux's");
}

#[cfg(target_os = "linux")]
mod linux {
    use std::error::Error;
    use std::io::BufRead;
    use std::net::{IpAddr, SocketAddr};
    use std::os::fd::AsRawFd;
    use std::sync::mpsc::{Receiver, channel};
    use std::time::Duration;

    use smoltcp::phy::{Medium, TunTapInterface, wait};
    use smoltcp::wire::{EthernetAddress, HardwareAddress};
    use strandline_core::config::{Config, Durability, Identity};
    use strandline_core::crypto::{Ed25519, SecretKey};
    use strandline_core::drive::{Application, Handler};
    use strandline_core::name::{Handle, Name};
    use strandline_core::node::Node;
    use strandline_core::output::{Event, Restored};
    use strandline_core::plan::{Board, Plan};
    use strandline_core::rng::Seed;
    use strandline_core::time::Instant;
    use strandline_core::wire::NetworkId;
    use strandline_smoltcp::{Addresses, Memory, Settings, Sockets, Stack, sockets_for};

    const CONNECTIONS: usize = 5;
    const PORT: u16 = 7827;
    const WITHIN_MS: u32 = 10_000;
    /// How long it may take to notice what was typed.
    const TYPED_EVERY: Duration = Duration::from_millis(100);

    struct Printer;

    impl Handler for Printer {
        fn on_event(&mut self, event: Event<'_>) {
            println!("{event:?}");
        }
    }

    impl<P: Plan> Application<P> for Printer {
        /// Commands come from elsewhere.
        fn act(&mut self, _now: Instant, _node: &mut Node<P>) -> Option<Instant> {
            None
        }
    }

    fn random() -> Result<[u8; 32], Box<dyn Error>> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(|error| error.to_string())?;
        Ok(bytes)
    }

    pub fn main() -> Result<(), Box<dyn Error>> {
        let mut args = std::env::args().skip(1);
        let mut arg = || args.next().ok_or("usage: tap DEVICE IP/BITS NAME JOIN");
        let mut device = TunTapInterface::new(&arg()?, Medium::Ethernet)?;
        let own = arg()?;
        let (ip, bits) = own.split_once('/').ok_or("IP/BITS")?;
        let (ip, bits): (IpAddr, u8) = (ip.parse()?, bits.parse()?);
        let name = Name::parse(&arg()?)?;
        let join: SocketAddr = arg()?.parse()?;

        let began = std::time::Instant::now();
        let now =
            || Instant::from_us(u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX));
        let mut node = Box::new(Node::<Board>::unstarted());
        let identity = Identity {
            user: SecretKey::from_bytes(random()?),
            node: SecretKey::from_bytes(random()?),
            name,
        };
        let network = NetworkId::of_name::<Ed25519>("strandline");
        let mut config = Config::new(network, (ip, PORT).into());
        config.durability = Durability::Holders(1);
        let started = node.start(now(), identity, &Seed(random()?), &config);
        started.map_err(|error| format!("{error:?}"))?;
        let restored = node.restored_all(now(), Restored::Fresh);
        restored.map_err(|error| format!("{error:?}"))?;
        let [a, b, c, d, e, ..] = random()?;
        let settings = Settings {
            hardware: HardwareAddress::Ethernet(EthernetAddress([2, a, b, c, d, e])),
            port: PORT,
            addresses: Addresses::Fixed {
                own: &[(ip, bits)],
                routers: &[],
            },
            time_server: None,
            seed: Seed(random()?),
        };
        let mut memory = Memory::<CONNECTIONS>::EMPTY;
        let mut sockets = Sockets::<{ sockets_for(CONNECTIONS) }>::new();
        let stack = Stack::new(
            now(),
            &mut device,
            &mut memory,
            &mut sockets,
            &mut node,
            Printer,
            &settings,
        );
        let mut stack = stack.map_err(|error| format!("{error:?}"))?;

        let joining = stack.node_mut().join(now(), join, WITHIN_MS);
        joining.map_err(|error| format!("{error:?}"))?;
        let typed = lines();
        loop {
            while let Ok(line) = typed.try_recv() {
                take(now(), &mut stack, &line);
            }
            let wake = stack.poll(now(), &mut device);
            let pause = wake.map(|at| Duration::from_micros(at.since_us(now())));
            let pause = pause.map_or(TYPED_EVERY, |pause| pause.min(TYPED_EVERY));
            wait(device.as_raw_fd(), Some(pause.into()))?;
        }
    }

    /// What is typed, line by line.
    fn lines() -> Receiver<String> {
        let (tell, told) = channel();
        std::thread::spawn(move || {
            for line in std::io::stdin().lock().lines().map_while(Result::ok) {
                if tell.send(line).is_err() {
                    return;
                }
            }
        });
        told
    }

    fn take(now: Instant, stack: &mut Stack<'_, Board, Printer>, line: &str) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let node = stack.node_mut();
        let begun = match (word, Handle::parse(rest)) {
            ("post", _) => node.post(now, rest),
            ("follow", Ok(handle)) => node.follow(now, &handle, WITHIN_MS),
            ("timeline", _) => node.timeline(now, None, WITHIN_MS),
            _ => return println!("{:?}\n{:?}", stack.node().stats(), stack.counters()),
        };
        println!("{begun:?}");
    }
}
