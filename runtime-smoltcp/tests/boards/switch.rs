//! An Ethernet switch between boards: datagram sockets of the system, one for each port. Frames can get lost on it.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
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

/// What happens to frames.
#[derive(Default)]
struct Weather {
    /// Of a thousand frames, so many are lost.
    loss: AtomicU32,
    /// For each port: it is unplugged.
    unplugged: Vec<AtomicBool>,
}

impl Switch {
    /// A switch with so many ports, whose sockets lie in `dir`.
    pub fn new(dir: &Path, ports: usize) -> Self {
        let weather = Arc::new(Weather {
            loss: AtomicU32::new(0),
            unplugged: (0..ports).map(|_| AtomicBool::new(false)).collect(),
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
}

fn path(dir: &Path, what: &str, port: usize) -> PathBuf {
    dir.join(format!("{what}{port}"))
}

/// Sends what comes in at one port out at all others: a board's card takes only what is for it.
fn forward(sockets: &[UnixDatagram], weather: &Weather, dir: &Path, port: usize) {
    let mut frame = [0; FRAME_LEN_MAX];
    let mut random = 0x9e37_79b9_u32.wrapping_add(u32::try_from(port).unwrap());
    while let Ok(len) = sockets[port].recv(&mut frame) {
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
