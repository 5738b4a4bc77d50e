//! What can be typed. Owns the commands' words; the answers are the console's.

use strandline_core::name::Handle;
use strandline_core::output::{CommandError, QueryId};
use strandline_core::time::Instant;
use strandline_smoltcp::Stack;

use crate::console::Console;
use crate::hardware::{Clock, Ethernet, Hardware};
use crate::{WITHIN_MS, memory, settings};

/// Carries out one line. It answers with `begun N` and later `ended N …`, or with `refused …`.
#[inline(never)]
pub fn take<H: Hardware>(
    now: Instant,
    stack: &mut Stack<'static, H::Plan, Console<H>>,
    clock: &H::Clock,
    ethernet: &H::Ethernet,
    line: &str,
) {
    let (word, rest) = settings::cut(line, b' ').unwrap_or((line, ""));
    let handle = Handle::parse(rest);
    let node = stack.node_mut();
    let begun = match (word, &handle) {
        ("post", _) => node.post(now, rest),
        ("follow", Ok(handle)) => node.follow(now, handle, WITHIN_MS),
        ("unfollow", Ok(handle)) => node.unfollow(now, handle, WITHIN_MS),
        ("timeline", Ok(handle)) => node.timeline(now, Some(handle), WITHIN_MS),
        ("timeline", Err(_)) if rest.is_empty() => node.timeline(now, None, WITHIN_MS),
        ("register", _) => node.register(now, WITHIN_MS),
        ("status", _) => return status::<H>(now, stack, clock, ethernet),
        ("reset", _) => H::reset(),
        _ => return Console::<H>::OPEN.text("refused: post TEXT | follow HANDLE | unfollow HANDLE | timeline [HANDLE] | register | status | reset").end(),
    };
    answer::<H>(begun);
}

fn answer<H: Hardware>(begun: Result<QueryId, CommandError>) {
    match begun {
        Ok(query) => Console::<H>::OPEN.text("begun").number(query.0).end(),
        Err(error) => Console::<H>::OPEN
            .text("refused: ")
            .text(reason(error))
            .end(),
    }
}

fn reason(error: CommandError) -> &'static str {
    match error {
        CommandError::NotStarted => "not started",
        CommandError::Busy => "busy",
        CommandError::TextEmpty => "empty",
        CommandError::TextTooLong | CommandError::ValueTooLong => "too long",
        CommandError::Myself => "oneself",
        CommandError::Full => "full",
        CommandError::StorageFailed => "storage failed",
        CommandError::Recovering => "recovering",
        CommandError::LeftOut => "left out",
    }
}

/// One line for each thing that can be counted.
#[inline(never)]
fn status<H: Hardware>(
    now: Instant,
    stack: &mut Stack<'static, H::Plan, Console<H>>,
    clock: &H::Clock,
    ethernet: &H::Ethernet,
) {
    let console = Console::<H>::OPEN;
    let stats = stack.node().stats();
    let counters = stack.counters();
    let (unix_ms, uncertainty_ms) = stack.node().unix_ms(now).unwrap_or_default();
    let rows: [(&str, u64); 16] = [
        ("uptime-ms", now.as_ms()),
        ("unix-ms", unix_ms),
        ("uncertainty-ms", uncertainty_ms.into()),
        ("contacts", stats.contacts as u64),
        ("last", stats.last),
        ("following", stats.following as u64),
        ("followers", stats.followers as u64),
        ("streams", stack.streams() as u64),
        ("dropped", stats.dropped.total()),
        ("datagrams-lost", counters.datagrams_lost.into()),
        ("connections-refused", counters.connections_refused.into()),
        ("frames", counters.frames.into()),
        ("late-ms", counters.late_ms.into()),
        ("frames-overlong", ethernet.overlong().into()),
        ("sleeps", clock.sleeps().into()),
        ("stack-max", memory::stack_high_water() as u64),
    ];
    for (name, value) in rows {
        console.text("status ").text(name).number(value).end();
    }
    for table in stats.tables {
        let line = console
            .text("table ")
            .text(table.name)
            .number(table.used as u64);
        line.number(table.capacity as u64)
            .number(table.bytes as u64)
            .end();
    }
    console.text("status end").end();
}
