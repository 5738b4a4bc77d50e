//! Text for terminals: colours where they are wanted, times as people say them, and strangers' words made harmless.
//!
//! Owns everything that turns a value into characters, and prints nothing. Invariant: no byte that a peer chose reaches the
//! terminal as a control sequence.

use std::borrow::Cow;
use std::env;
use std::io::IsTerminal;

/// A colour or weight of the terminal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ink {
    /// Heavier.
    Bold,
    /// Fainter.
    Dim,
    /// One of six colours; the number is taken modulo six.
    Colour(usize),
}

/// Whether to colour what is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Paint {
    /// As characters only.
    Plain,
    /// With colours.
    Coloured,
}

impl Paint {
    /// Coloured for a terminal, unless `NO_COLOR` is set or the terminal is a dumb one.
    pub fn of(stream: &impl IsTerminal) -> Self {
        let no_color = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
        if stream.is_terminal() && !no_color && !dumb {
            Self::Coloured
        } else {
            Self::Plain
        }
    }

    /// Puts ink on a text.
    pub fn ink<'t>(self, ink: Ink, text: impl Into<Cow<'t, str>>) -> Cow<'t, str> {
        let text = text.into();
        if self == Self::Plain {
            return text;
        }
        let code = match ink {
            Ink::Bold => "1",
            Ink::Dim => "2",
            Ink::Colour(number) => match number % 6 {
                0 => "36",
                1 => "33",
                2 => "35",
                3 => "32",
                4 => "34",
                _ => "31",
            },
        };
        Cow::Owned(format!("\x1b[{code}m{text}\x1b[0m"))
    }
}

/// Replaces what a terminal would act on, or what reverses the direction of writing, by `�`. Line breaks stay.
pub fn harmless(text: &str) -> Cow<'_, str> {
    let acts = |c: char| {
        (c.is_control() && c != '\n')
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if text.contains(acts) {
        Cow::Owned(text.replace(acts, "\u{fffd}"))
    } else {
        Cow::Borrowed(text)
    }
}

/// Says how long something takes or took, in the unit that tells most.
pub fn span(ms: i64) -> String {
    let sign = if ms < 0 { "-" } else { "" };
    let ms = ms.unsigned_abs();
    let (s, min, h) = (ms / 1000, ms / 60_000, ms / 3_600_000);
    let said = match ms {
        0..10_000 => format!("{ms} ms"),
        10_000..120_000 => format!("{s} s"),
        120_000..7_200_000 => format!("{min} min"),
        7_200_000..172_800_000 => format!("{h} h"),
        172_800_000.. => format!("{} days", h / 24),
    };
    format!("{sign}{said}")
}

/// Says a point in time: `2026-11-20 12:34 UTC`.
pub fn date(time_ms: u64) -> String {
    let date = Date::of_unix_ms(time_ms);
    let day = format!("{:04}-{:02}-{:02}", date.year, date.month, date.day);
    format!("{day} {:02}:{:02} UTC", date.hour, date.minute)
}

/// Says when a time was: `3 min ago, 14:03 UTC`, or the date when that is more than a day away.
pub fn when(time_ms: u64, now_ms: u64) -> String {
    let at = Date::of_unix_ms(time_ms);
    let clock = format!("{:02}:{:02} UTC", at.hour, at.minute);
    match now_ms.checked_sub(time_ms).map(|ms| ms / 1000) {
        None => date(time_ms),
        Some(s) if s < 5 => format!("just now, {clock}"),
        Some(s) if s < 60 => format!("{s} s ago, {clock}"),
        Some(s) if s < 3600 => format!("{} min ago, {clock}", s / 60),
        Some(s) if s < 24 * 3600 => format!("{} h ago, {clock}", s / 3600),
        Some(_) => date(time_ms),
    }
}

/// A point in time in UTC, Gregorian.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Date {
    year: u64,
    month: u64,
    day: u64,
    /// Hour of the day.
    pub hour: u64,
    /// Minute of the hour.
    pub minute: u64,
    /// Second of the minute.
    pub second: u64,
}

impl Date {
    /// Reads a Unix time in ms.
    pub fn of_unix_ms(unix_ms: u64) -> Self {
        let seconds = unix_ms / 1000;
        let in_day = seconds % 86_400;
        let (year, month, day) = civil(seconds / 86_400);
        Self {
            year,
            month,
            day,
            hour: in_day / 3600,
            minute: in_day / 60 % 60,
            second: in_day % 60,
        }
    }
}

/// Year, month and day of a day counted from 1970-01-01. Years are counted from March, so that the leap day is the last.
fn civil(days: u64) -> (u64, u64, u64) {
    /// Days from 0000-03-01 to 1970-01-01.
    const EPOCH: u64 = 719_468;
    const ERA_DAYS: u64 = 146_097;
    let days = days.saturating_add(EPOCH);
    let (era, of_era) = (days / ERA_DAYS, days % ERA_DAYS);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strangers_escape_sequence_is_harmless() {
        assert_eq!(
            harmless("\x1b[2Jboo\r\x07\u{9b}1m"),
            "\u{fffd}[2Jboo\u{fffd}\u{fffd}\u{fffd}1m"
        );
        assert_eq!(harmless("left \u{202e}thgir"), "left \u{fffd}thgir");
        assert_eq!(harmless("two\nlines, ümlaut 🌊"), "two\nlines, ümlaut 🌊");
    }

    #[test]
    fn times_are_said_as_people_say_them() {
        // 2026-11-20 12:34:56 UTC
        let now = 1_795_178_096_000;
        assert_eq!(when(now, now), "just now, 12:34 UTC");
        assert_eq!(when(now - 59_000, now), "59 s ago, 12:33 UTC");
        assert_eq!(when(now - 60_000, now), "1 min ago, 12:33 UTC");
        assert_eq!(when(now - 7_200_000, now), "2 h ago, 10:34 UTC");
        assert_eq!(when(now - 86_400_000, now), "2026-11-19 12:34 UTC");
        assert_eq!(when(now + 60_000, now), "2026-11-20 12:35 UTC");
    }

    #[test]
    fn spans_are_said_in_the_unit_that_tells_most() {
        for (ms, said) in [
            (0, "0 ms"),
            (9_999, "9999 ms"),
            (10_000, "10 s"),
            (119_999, "119 s"),
            (120_000, "2 min"),
            (7_199_999, "119 min"),
            (7_200_000, "2 h"),
            (172_800_000, "2 days"),
            (-3, "-3 ms"),
            (-7_200_000, "-2 h"),
            (i64::MIN, "-106751991167 days"),
        ] {
            assert_eq!(span(ms), said);
        }
    }

    #[test]
    fn dates_know_their_leap_years() {
        for (days, date) in [
            (0, (1970, 1, 1)),
            (58, (1970, 2, 28)),
            (59, (1970, 3, 1)),
            (11_016, (2000, 2, 29)),
            (11_017, (2000, 3, 1)),
            (20_777, (2026, 11, 20)),
            (47_540, (2100, 2, 28)),
            (47_541, (2100, 3, 1)),
        ] {
            assert_eq!(civil(days), date);
        }
    }

    #[test]
    fn plain_paint_is_the_text_itself() {
        assert_eq!(Paint::Plain.ink(Ink::Bold, "tide"), "tide");
        assert_eq!(
            Paint::Coloured.ink(Ink::Colour(6), "tide"),
            "\x1b[36mtide\x1b[0m"
        );
    }
}
