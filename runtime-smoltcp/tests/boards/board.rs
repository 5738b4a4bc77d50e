//! The firmware, and a board that runs it in QEMU.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The emulator.
pub const QEMU: &str = "qemu-system-arm";
/// A kind of board: a crate in `firmware/`, and what QEMU calls it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Kind {
    /// The crate's folder and name.
    krate: &'static str,
    /// What it is built for.
    target: &'static str,
    /// The emulated machine.
    pub machine: &'static str,
    /// Its network card.
    card: &'static str,
    /// How much stack it may use, in bytes. A larger plan has larger parts to move.
    pub stack_max: u64,
}

/// Cortex-M3, 64 KiB of RAM.
pub const LM3S6965: Kind = Kind {
    krate: "lm3s6965",
    target: "thumbv7m-none-eabi",
    machine: "lm3s6965evb",
    card: "stellaris",
    stack_max: 12 * 1024,
};
/// Cortex-M4F, 4 MiB of RAM.
pub const MPS2_AN386: Kind = Kind {
    krate: "mps2-an386",
    target: "thumbv7em-none-eabi",
    machine: "mps2-an386",
    card: "lan9118",
    stack_max: 24 * 1024,
};
/// No board: the program that counts instructions, see `firmware/measure`.
pub const MEASURE: Kind = Kind {
    krate: "measure",
    target: "thumbv7m-none-eabi",
    machine: "mps2-an385",
    card: "lan9118",
    stack_max: 24 * 1024,
};

/// How long a board may take to say how it is, on a busy machine.
const ANSWER: Duration = Duration::from_secs(60);
/// About 62 million instructions a second, and no faster than real time.
const SPEED: &str = "shift=4,align=on,sleep=on";

/// Where the image is, or why there are no such boards on this machine. Builds it once.
pub fn image(kind: Kind) -> Result<PathBuf, String> {
    static IMAGES: Mutex<BTreeMap<Kind, Result<PathBuf, String>>> = Mutex::new(BTreeMap::new());
    let mut images = IMAGES.lock().unwrap_or_else(PoisonError::into_inner);
    let image = images.entry(kind).or_insert_with(|| {
        let found = Command::new(QEMU).args(["-machine", "help"]).output();
        let machines = found.map(|output| String::from_utf8(output.stdout).unwrap());
        let machines = machines.map_err(|_| format!("there is no {QEMU}"))?;
        if !machines
            .lines()
            .any(|line| line.split(' ').next() == Some(kind.machine))
        {
            return Err(format!("{QEMU} knows no {}", kind.machine));
        }
        let target = kind.target;
        let targets = Command::new("rustc")
            .args(["--print", "target-libdir", "--target", target])
            .output();
        let libraries = targets.map(|output| String::from_utf8(output.stdout).unwrap());
        if !libraries.is_ok_and(|path| Path::new(path.trim()).is_dir()) {
            return Err(format!(
                "there is no Rust for {target}: rustup target add {target}"
            ));
        }
        Ok(build(kind))
    });
    image.clone()
}

/// Builds the firmware, as flat as flash is.
fn build(kind: Kind) -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target_dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../firmware");
    let status = Command::new(env!("CARGO"))
        .args(["build", "--locked", "--release", "--target-dir"])
        .arg(&target_dir)
        .current_dir(here.join("firmware").join(kind.krate))
        // Flags from outside would replace those of its configuration.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .status();
    assert!(status.unwrap().success(), "the firmware does not build");
    let elf = target_dir
        .join(kind.target)
        .join("release")
        .join(kind.krate);
    let flat = elf.with_extension("bin");
    std::fs::write(&flat, flatten(&std::fs::read(elf).unwrap())).unwrap();
    flat
}

/// What an ELF file (32 bits, little endian) puts into flash, from address 0 on. QEMU would clear a board's memory at each
/// reset if it were given the file itself.
fn flatten(elf: &[u8]) -> Vec<u8> {
    let half = |at: usize| usize::from(u16::from_le_bytes([elf[at], elf[at + 1]]));
    let word = |at: usize| half(at) | half(at + 2) << 16;
    let mut flash = Vec::new();
    for index in 0..half(44) {
        let header = word(28) + index * half(42);
        let (kind, offset, to, len) = (
            word(header),
            word(header + 4),
            word(header + 12),
            word(header + 16),
        );
        if kind == 1 && len > 0 {
            flash.resize(flash.len().max(to + len), 0);
            flash[to..to + len].copy_from_slice(&elf[offset..offset + len]);
        }
    }
    flash
}

/// How QEMU makes the `index`th board's card, on its network device `port`. The address is programmed into the chip.
pub fn nic(kind: Kind, index: usize) -> String {
    let card = kind.card;
    format!("nic,netdev=port,model={card},macaddr=52:54:00:57:4c:{index:02x}")
}

/// A board that is switched on. Dropping it switches it off.
pub struct Board {
    pub kind: Kind,
    process: Child,
    keyboard: ChildStdin,
    screen: Arc<Screen>,
}

/// What it printed.
#[derive(Default)]
struct Screen {
    lines: Mutex<Vec<String>>,
    more: Condvar,
}

impl Board {
    /// Switches a board on, with these settings, and its network card connected as QEMU is told.
    pub fn start(kind: Kind, settings: &[String], card: &[String]) -> Self {
        Self::start_by(Command::new(QEMU), kind, settings, card)
    }

    /// As [`Self::start`], by this command of the emulator.
    pub fn start_by(
        mut emulator: Command,
        kind: Kind,
        settings: &[String],
        card: &[String],
    ) -> Self {
        let mut semihosting = String::from("enable=on,target=native,arg=firmware");
        for setting in settings {
            semihosting += &format!(",arg={setting}");
        }
        let mut process = emulator
            .args(["-M", kind.machine, "-nographic", "-monitor", "none"])
            .args(["-serial", "stdio", "-icount", SPEED, "-kernel"])
            .arg(image(kind).unwrap())
            .args(["-semihosting-config", &semihosting])
            .args(card)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let screen = Arc::new(Screen::default());
        let (lines, shown) = (
            BufReader::new(process.stdout.take().unwrap()),
            Arc::clone(&screen),
        );
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                shown.lines.lock().unwrap().push(line);
                shown.more.notify_all();
            }
        });
        Self {
            kind,
            keyboard: process.stdin.take().unwrap(),
            process,
            screen,
        }
    }

    /// How many lines it has printed.
    pub fn printed(&self) -> usize {
        self.screen.lines.lock().unwrap().len()
    }

    /// Waits for a line that begins like this, among those from the `from`th on; its rest.
    pub fn wait_for(&self, from: usize, begin: &str, within: Duration) -> String {
        let end = Instant::now() + within;
        let mut lines = self.screen.lines.lock().unwrap();
        loop {
            if let Some(rest) = lines
                .iter()
                .skip(from)
                .find_map(|line| line.strip_prefix(begin))
            {
                return rest.trim_start().to_owned();
            }
            let left = end.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero(),
                "no line `{begin}…` within {within:?}; it said:\n{}",
                lines.join("\n")
            );
            lines = self.screen.more.wait_timeout(lines, left).unwrap().0;
        }
    }

    /// How many lines it has printed that begin like this.
    pub fn printed_of(&self, begin: &str) -> usize {
        let lines = self.screen.lines.lock().unwrap();
        lines.iter().filter(|line| line.starts_with(begin)).count()
    }

    /// Types a line.
    pub fn type_line(&mut self, line: &str) {
        writeln!(self.keyboard, "{line}").unwrap();
    }

    /// Gives a command and waits for its end: what it brought, and how it ended.
    pub fn command(&mut self, line: &str, within: Duration) -> (Vec<String>, String) {
        let from = self.printed();
        self.type_line(line);
        let query = self.wait_for(from, "begun ", within);
        let end = self.wait_for(from, &format!("ended {query} "), within);
        let lines = self.screen.lines.lock().unwrap();
        let of_query = format!(" {query} ");
        let brought = lines
            .iter()
            .skip(from)
            .filter(|line| line.contains(&of_query) && !line.starts_with("ended"));
        (brought.cloned().collect(), end)
    }

    /// One number of its `status`.
    pub fn status(&mut self, name: &str) -> u64 {
        self.number(&format!("status {name} "))
    }

    /// How many places of a table it uses.
    pub fn used(&mut self, table: &str) -> u64 {
        self.number(&format!("table {table} "))
    }

    /// The first number on a line of its `status`.
    fn number(&mut self, begin: &str) -> u64 {
        let from = self.printed();
        self.type_line("status");
        self.wait_for(from, "status end", ANSWER);
        let rest = self.wait_for(from, begin, Duration::from_secs(1));
        rest.split(' ').next().unwrap().parse().unwrap()
    }

    /// These numbers of one `status`.
    pub fn statuses<const N: usize>(&mut self, names: [&str; N]) -> [u64; N] {
        let from = self.printed();
        self.type_line("status");
        self.wait_for(from, "status end", ANSWER);
        names.map(|name| {
            let rest = self.wait_for(from, &format!("status {name} "), Duration::from_secs(1));
            rest.parse().unwrap()
        })
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            // It may have panicked while it looked at the screen.
            let lines = self.screen.lines.lock();
            let lines = lines.unwrap_or_else(PoisonError::into_inner);
            eprintln!("--- a board said:\n{}", lines.join("\n"));
        }
    }
}
