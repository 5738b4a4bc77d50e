//! An Ethernet switch between boards: datagram sockets of the system, one for each port. Frames can get lost on it.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::board::Kind;

/// Longest frame in bytes.
const FRAME_LEN_MAX: usize = 2_048;

/// The switch; its ports' threads end with the process.
pub struct Switch {
    dir: PathBuf,
    ports: usize,
    weather: Arc<Weather>,
}

/// What happens to frames, and what was seen of them.
#[derive(Default)]
struct Weather {
    /// Of a thousand frames, so many are lost.
    loss: AtomicU32,
    /// For each port: it is unplugged.
    unplugged: Vec<AtomicBool>,
    /// Who asked whom for a stream.
    opened: Mutex<Vec<(usize, usize)>>,
    /// Whoever but this port asks for a stream next is unplugged.
    trap: Mutex<Option<usize>>,
}

impl Switch {
    /// A switch with so many ports, whose sockets lie in `dir`.
    pub fn new(dir: &Path, ports: usize) -> Self {
        let weather = Arc::new(Weather {
            loss: AtomicU32::new(0),
            unplugged: (0..ports).map(|_| AtomicBool::new(false)).collect(),
            ..Weather::default()
        });
        let bind = |port| UnixDatagram::bind(path(dir, "switch", port)).unwrap();
        let sockets: Arc<Vec<_>> = Arc::new((0..ports).map(bind).collect());
        for port in 0..ports {
            let (sockets, weather, dir) =
                (Arc::clone(&sockets), Arc::clone(&weather), dir.to_owned());
            thread::spawn(move || forward(&sockets, &weather, &dir, port));
        }
        Self {
            dir: dir.to_owned(),
            ports,
            weather,
        }
    }

    /// How QEMU connects a board's card to a port.
    pub fn card(&self, kind: Kind, port: usize) -> Vec<String> {
        assert!(port < self.ports);
        let (local, remote) = (
            path(&self.dir, "board", port),
            path(&self.dir, "switch", port),
        );
        let netdev = format!(
            "dgram,id=port,local.type=unix,local.path={},remote.type=unix,remote.path={}",
            local.display(),
            remote.display()
        );
        let nic = crate::board::nic(kind, port);
        let args = ["-net", &nic, "-netdev", &netdev];
        args.map(str::to_owned).to_vec()
    }

    /// Loses so many of a thousand frames from now on.
    pub fn lose(&self, permille: u32) {
        self.weather.loss.store(permille, Ordering::Relaxed);
    }

    /// Unplugs a port, or plugs it in again.
    pub fn unplug(&self, port: usize, unplugged: bool) {
        self.weather.unplugged[port].store(unplugged, Ordering::Relaxed);
    }

    /// Who asked whom for a stream since this was asked last, in ports.
    pub fn take_opened(&self) -> Vec<(usize, usize)> {
        std::mem::take(&mut self.weather.opened.lock().unwrap())
    }

    /// Unplugs whoever but `spared` asks for a stream next, at that moment.
    pub fn unplug_who_opens(&self, spared: usize) {
        *self.weather.trap.lock().unwrap() = Some(spared);
    }

    /// Who was unplugged so, if anybody was.
    pub fn trapped(&self) -> Option<usize> {
        let cut = |port: &usize| self.weather.unplugged[*port].load(Ordering::Relaxed);
        (0..self.ports).find(cut)
    }
}

impl Weather {
    /// Looks at a frame that came in at a port.
    fn watch(&self, port: usize, frame: &[u8]) {
        let Some(to) = stream_asked_for(frame) else {
            return;
        };
        self.opened.lock().unwrap().push((port, to));
        let mut trap = self.trap.lock().unwrap();
        if trap.is_some_and(|spared| spared != port) {
            *trap = None;
            self.unplugged[port].store(true, Ordering::Relaxed);
        }
    }
}

/// The port whose board a frame asks for a stream: board 0 has the address 10.0.0.1.
fn stream_asked_for(frame: &[u8]) -> Option<usize> {
    const IPV4_WITHOUT_OPTIONS: [u8; 3] = [8, 0, 0x45];
    const TCP: u8 = 6;
    const SYN: u8 = 2;
    let segment = frame.len() >= 54 && frame[12..15] == IPV4_WITHOUT_OPTIONS && frame[23] == TCP;
    (segment && frame[47] & 0x17 == SYN).then(|| usize::from(frame[33]).wrapping_sub(1))
}

fn path(dir: &Path, what: &str, port: usize) -> PathBuf {
    dir.join(format!("{what}{port}"))
}

/// Sends what comes in at one port out at all others: a board's card takes only what is for it.
fn forward(sockets: &[UnixDatagram], weather: &Weather, dir: &Path, port: usize) {
    let mut frame = [0; FRAME_LEN_MAX];
    let mut random = 0x9e37_79b9_u32.wrapping_add(u32::try_from(port).unwrap());
    while let Ok(len) = sockets[port].recv(&mut frame) {
        weather.watch(port, &frame[..len]);
        for other in (0..sockets.len()).filter(|other| *other != port) {
            // Marsaglia's xorshift32.
            random ^= random << 13;
            random ^= random >> 17;
            random ^= random << 5;
            let cut = |port: usize| weather.unplugged[port].load(Ordering::Relaxed);
            let lost = random % 1_000 < weather.loss.load(Ordering::Relaxed);
            if !lost && !cut(port) && !cut(other) {
                // A board that is not on, or that does not keep up, loses it.
                let _ = sockets[port].send_to(&frame[..len], path(dir, "board", other));
            }
        }
    }
}
