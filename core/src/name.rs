//! What people call each other: a [`Name`], a [`Fingerprint`] of a user's id, and the [`Handle`] made of
//! both. All are stored in place. Finding whom a name means is not done here. The invariant: a value
//! that exists is valid and in its one canonical spelling, so equal things compare equal and a name
//! hashes to one key.

use core::fmt;

use crate::id::UserId;
use crate::wire::codec::{Decode, Encode, Reader, Writer};

/// The longest name, in characters, which are bytes.
pub const NAME_CHARS_MAX: usize = 24;

/// A user's name: 1 to 24 characters `a-z 0-9 _ -`, beginning with a letter.
///
/// Names are where people are found; they are not unique. On the wire a name is a string, and bytes
/// that are not a valid name do not decode.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// The characters, then zeros: so the derived order is that of the strings.
    chars: [u8; NAME_CHARS_MAX],
    len: u8,
}

/// The rule that a text breaks as a [`Name`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameError {
    /// There are no characters.
    Empty,
    /// There are more than [`NAME_CHARS_MAX`] bytes.
    TooLong,
    /// The first character is not a letter `a-z`.
    FirstNotLetter,
    /// A character is none of `a-z 0-9 _ -`. Upper case is not folded.
    Character(char),
}

impl Name {
    /// Stands for a name that is not known yet, in memory that starts all zero. Never sent and never shown.
    pub(crate) const UNSET: Self = Self {
        chars: [0; NAME_CHARS_MAX],
        len: 0,
    };

    /// Reads a name. The text must be the name exactly; nothing is trimmed or folded.
    ///
    /// # Errors
    /// Returns the first rule broken, in the order of [`NameError`]'s variants.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let first = text.bytes().next().ok_or(NameError::Empty)?;
        let mut chars = [0; NAME_CHARS_MAX];
        let stored = chars.get_mut(..text.len()).ok_or(NameError::TooLong)?;
        stored.copy_from_slice(text.as_bytes());
        let len = u8::try_from(text.len()).map_err(|_| NameError::TooLong)?;
        if !first.is_ascii_lowercase() {
            return Err(NameError::FirstNotLetter);
        }
        let allowed = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '_' | '-');
        if let Some(other) = text.chars().find(|c| !allowed(*c)) {
            return Err(NameError::Character(other));
        }
        Ok(Self { chars, len })
    }

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        text_of(&self.chars, self.len)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Name({self})")
    }
}

impl Encode for Name {
    fn encode(&self, to: &mut Writer<'_>) {
        self.as_str().encode(to);
    }
}

impl Decode<'_> for Name {
    #[inline(never)]
    fn decode(from: &mut Reader<'_>) -> Self {
        Self::parse(from.get()).unwrap_or_else(|_| {
            from.spoil();
            Self::UNSET
        })
    }
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("a name needs at least one character"),
            Self::TooLong => write!(f, "a name has at most {NAME_CHARS_MAX} characters"),
            Self::FirstNotLetter => f.write_str("a name begins with a letter a-z"),
            Self::Character(c) => write!(f, "a name has only a-z, 0-9, _ and -, not {c:?}"),
        }
    }
}

impl core::error::Error for NameError {}

/// The shortest fingerprint that is accepted, in characters.
pub const FINGERPRINT_CHARS_MIN: usize = 4;
/// The length of the fingerprint that is shown: 40 bits, to tell people apart.
pub const FINGERPRINT_CHARS_SHOWN: usize = 8;
/// The length of the fingerprint that authenticates when people compare it by eye: 100 bits.
pub const FINGERPRINT_CHARS_VERIFY: usize = 20;
/// The length of the fingerprint of a whole id: 256 bits, 5 to a character.
pub const FINGERPRINT_CHARS_MAX: usize = 52;

const _: () = assert!(FINGERPRINT_CHARS_MIN <= FINGERPRINT_CHARS_SHOWN);
const _: () = assert!(FINGERPRINT_CHARS_SHOWN <= FINGERPRINT_CHARS_VERIFY);
const _: () = assert!(FINGERPRINT_CHARS_VERIFY <= FINGERPRINT_CHARS_MAX);
const _: () = assert!(FINGERPRINT_CHARS_MAX == (crate::id::ID_BYTES * 8).div_ceil(5));

/// The digits of Crockford's base32 (<https://www.crockford.com/base32.html>), in lower case.
const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// The leading digits of a user's id in Crockford's base32, lower case: 4 to 52 of them.
///
/// Digit i is the bits 5i to 5i + 4 of the id, the first bit being the highest of the first byte; the
/// last of the 52 has one bit of the id and four zeros. A short fingerprint tells people apart but does
/// not authenticate: anyone can make a key that shares 8 digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint {
    /// The digits, then zeros.
    chars: [u8; FINGERPRINT_CHARS_MAX],
    len: u8,
}

/// The rule that a text breaks as a [`Fingerprint`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FingerprintError {
    /// There are fewer than [`FINGERPRINT_CHARS_MIN`] bytes.
    TooShort,
    /// There are more than [`FINGERPRINT_CHARS_MAX`] bytes.
    TooLong,
    /// A character is no digit of Crockford's base32; `u` is none.
    Character(char),
}

impl Fingerprint {
    /// Makes the fingerprint of a user with so many characters, clamped to 4 to 52.
    pub fn of(user: &UserId, chars: usize) -> Self {
        let len = chars.clamp(FINGERPRINT_CHARS_MIN, FINGERPRINT_CHARS_MAX);
        let mut fingerprint = Self {
            chars: [0; FINGERPRINT_CHARS_MAX],
            len: 0,
        };
        for (i, c) in fingerprint.chars.iter_mut().take(len).enumerate() {
            *c = digit_at(user, i);
            fingerprint.len += 1;
        }
        fingerprint
    }

    /// Reads a fingerprint, in either case; `i` and `l` are read as `1`, `o` as `0`.
    ///
    /// # Errors
    /// Returns the first rule broken, in the order of [`FingerprintError`]'s variants.
    pub fn parse(text: &str) -> Result<Self, FingerprintError> {
        if text.len() < FINGERPRINT_CHARS_MIN {
            return Err(FingerprintError::TooShort);
        }
        let mut chars = [0; FINGERPRINT_CHARS_MAX];
        let stored = chars
            .get_mut(..text.len())
            .ok_or(FingerprintError::TooLong)?;
        let len = u8::try_from(text.len()).map_err(|_| FingerprintError::TooLong)?;
        // A character of several bytes ends the loop, so the two never fall out of step.
        for (digit, c) in stored.iter_mut().zip(text.chars()) {
            *digit = canonical_digit(c).ok_or(FingerprintError::Character(c))?;
        }
        Ok(Self { chars, len })
    }

    /// Returns the digits as text.
    pub fn as_str(&self) -> &str {
        text_of(&self.chars, self.len)
    }

    /// Tells whether the user's id begins with these digits.
    pub fn matches(&self, user: &UserId) -> bool {
        self.as_str()
            .bytes()
            .enumerate()
            .all(|(i, c)| c == digit_at(user, i))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

impl fmt::Display for FingerprintError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort => {
                write!(
                    f,
                    "a fingerprint has at least {FINGERPRINT_CHARS_MIN} characters"
                )
            }
            Self::TooLong => {
                write!(
                    f,
                    "a fingerprint has at most {FINGERPRINT_CHARS_MAX} characters"
                )
            }
            Self::Character(c) => {
                write!(f, "a fingerprint has only 0-9 and a-z without u, not {c:?}")
            }
        }
    }
}

impl core::error::Error for FingerprintError {}

/// A name, and a fingerprint where it takes one to say whose: `alice` or `alice~7q3kx2mv`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handle {
    /// The name.
    pub name: Name,
    /// The leading digits of the user's id; without them the name is bare, and may be ambiguous.
    pub fingerprint: Option<Fingerprint>,
}

/// The rule that a text breaks as a [`Handle`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandleError {
    /// The part before the `~`, or all of it, is not a name.
    Name(NameError),
    /// The part after the first `~` is not a fingerprint.
    Fingerprint(FingerprintError),
}

impl Handle {
    /// Makes the handle of a user as it is shown, with 8 characters of fingerprint.
    pub fn of(name: Name, user: &UserId) -> Self {
        Self {
            name,
            fingerprint: Some(Fingerprint::of(user, FINGERPRINT_CHARS_SHOWN)),
        }
    }

    /// Reads a handle; one leading `@` is ignored.
    ///
    /// ```
    /// use strandline_core::name::Handle;
    ///
    /// let handle = Handle::parse("@alice~7Q3KX2MV")?;
    /// assert_eq!(handle.name.as_str(), "alice");
    /// assert_eq!(handle.to_string(), "alice~7q3kx2mv");
    /// # Ok::<(), strandline_core::name::HandleError>(())
    /// ```
    ///
    /// # Errors
    /// Returns what is wrong with the name, or else with the fingerprint.
    pub fn parse(text: &str) -> Result<Self, HandleError> {
        let text = text.strip_prefix('@').unwrap_or(text);
        // The library's search for a character is longer, and a board has no other use for it.
        let mark = text.bytes().position(|byte| byte == b'~');
        let (name, fingerprint) = match mark.and_then(|at| text.split_at_checked(at)) {
            Some((name, rest)) => (name, rest.get(1..)),
            None => (text, None),
        };
        Ok(Self {
            name: Name::parse(name).map_err(HandleError::Name)?,
            fingerprint: fingerprint
                .map(Fingerprint::parse)
                .transpose()
                .map_err(HandleError::Fingerprint)?,
        })
    }
}

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name.as_str())?;
        match &self.fingerprint {
            Some(fingerprint) => write!(f, "~{fingerprint}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for HandleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(error) => error.fmt(f),
            Self::Fingerprint(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for HandleError {}

/// The text in the first `len` bytes, which are ASCII in every type of this file.
fn text_of(chars: &[u8], len: u8) -> &str {
    let text = chars.get(..usize::from(len)).map(core::str::from_utf8);
    text.and_then(Result::ok).unwrap_or_default()
}

/// The digit for the bits 5i to 5i + 4 of an id, where bits beyond its end are zero.
fn digit_at(user: &UserId, i: usize) -> u8 {
    let (byte, shift) = (5 * i / 8, 5 * i % 8);
    let at = |i: usize| user.as_bytes().get(i).copied().unwrap_or(0);
    let window = u16::from_be_bytes([at(byte), at(byte + 1)]);
    let value = (window >> (16 - 5 - shift)) & 0x1f;
    DIGITS.get(usize::from(value)).copied().unwrap_or_default()
}

/// The canonical spelling of a digit that a person wrote.
fn canonical_digit(written: char) -> Option<u8> {
    let digit = match u8::try_from(written).ok()?.to_ascii_lowercase() {
        b'i' | b'l' => b'1',
        b'o' => b'0',
        other => other,
    };
    DIGITS.contains(&digit).then_some(digit)
}

#[cfg(test)]
mod tests {
    #![expect(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        reason = "a test may panic"
    )]

    extern crate alloc;

    use alloc::format;
    use alloc::string::ToString;

    use super::*;
    use crate::wire::codec;

    /// An id, and its 52 digits from an independent implementation.
    const DIGITS_OF_USER: &str = "041061050r3gg28a1c60t3gf208h44rm2mb1e60s38dhr78y3wg0";

    fn user() -> UserId {
        let mut bytes = [0; 32];
        for (byte, value) in bytes.iter_mut().zip(1..) {
            *byte = value;
        }
        UserId::from_bytes(bytes)
    }

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    #[test]
    fn names_within_the_rules_are_kept_as_they_are() {
        for text in ["a", "alice", "a0_-", "z--", "abcdefghijklmnopqrstuvwx"] {
            assert_eq!(name(text).as_str(), text);
            assert_eq!(name(text).to_string(), text);
        }
        assert_eq!(format!("{:>7}|", name("alice")), "  alice|");
    }

    #[test]
    fn each_broken_rule_of_a_name_is_told() {
        for (text, error) in [
            ("", NameError::Empty),
            ("abcdefghijklmnopqrstuvwxy", NameError::TooLong),
            ("0alice", NameError::FirstNotLetter),
            ("_alice", NameError::FirstNotLetter),
            ("Alice", NameError::FirstNotLetter),
            ("éa", NameError::FirstNotLetter),
            ("aLice", NameError::Character('L')),
            ("al ice", NameError::Character(' ')),
            ("alicé", NameError::Character('é')),
            ("alice~", NameError::Character('~')),
            ("alice\0", NameError::Character('\0')),
        ] {
            assert_eq!(Name::parse(text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn names_sort_like_their_texts() {
        let mut texts = ["b", "a-", "a", "ab", "a0", "a_", "aa"];
        let mut names = texts.map(name);
        texts.sort_unstable();
        names.sort_unstable();
        assert_eq!(
            names.map(|name| name.to_string()),
            texts.map(str::to_string)
        );
    }

    #[test]
    fn an_invalid_name_never_decodes() {
        let mut buf = [0; 32];
        assert_eq!(codec::encode(&name("alice"), &mut buf), Some(6));
        assert_eq!(&buf[..6], b"\x05alice");
        assert_eq!(codec::decode(&buf[..6]), Some((name("alice"), &[][..])));
        for bytes in [
            &b"\x00"[..],
            b"\x01A",
            b"\x010",
            b"\x02\xff\xff",
            b"\x05alic",
            b"\x02a\0",
        ] {
            assert_eq!(codec::decode::<Name>(bytes), None, "{bytes:?}");
        }
        let overlong: [u8; 26] = core::array::from_fn(|i| if i == 0 { 25 } else { b'a' });
        assert_eq!(codec::decode::<Name>(&overlong), None);
    }

    #[test]
    fn a_fingerprint_is_the_leading_digits_of_the_id() {
        for chars in FINGERPRINT_CHARS_MIN..=FINGERPRINT_CHARS_MAX {
            let fingerprint = Fingerprint::of(&user(), chars);
            assert_eq!(fingerprint.as_str(), &DIGITS_OF_USER[..chars]);
            assert!(fingerprint.matches(&user()));
            assert_eq!(Fingerprint::parse(fingerprint.as_str()), Ok(fingerprint));
        }
        assert_eq!(
            Fingerprint::of(&user(), 0).as_str().len(),
            FINGERPRINT_CHARS_MIN
        );
        assert_eq!(
            Fingerprint::of(&user(), 53).as_str().len(),
            FINGERPRINT_CHARS_MAX
        );
    }

    #[test]
    fn every_digit_of_a_fingerprint_counts() {
        for bit in 0..256 {
            let mut other = *user().as_bytes();
            other[bit / 8] ^= 0x80 >> (bit % 8);
            let other = UserId::from_bytes(other);
            assert!(
                !Fingerprint::of(&user(), bit / 5 + 1).matches(&other) || bit < 15,
                "{bit}"
            );
            if bit / 5 >= FINGERPRINT_CHARS_MIN {
                assert!(Fingerprint::of(&user(), bit / 5).matches(&other), "{bit}");
            }
        }
        // The last digit has one bit of the id: any other digit than 0 or g matches nobody.
        let impossible = format!("{}z", &DIGITS_OF_USER[..51]);
        assert!(!Fingerprint::parse(&impossible).unwrap().matches(&user()));
    }

    #[test]
    fn misread_digits_are_understood() {
        let canonical = Fingerprint::parse("7q3kx2mv1100").unwrap();
        assert_eq!(canonical.as_str(), "7q3kx2mv1100");
        for text in ["7Q3KX2MV1100", "7q3kx2mvil0o", "7q3kx2mvILOO"] {
            assert_eq!(Fingerprint::parse(text), Ok(canonical), "{text}");
        }
    }

    #[test]
    fn each_broken_rule_of_a_fingerprint_is_told() {
        let overlong = "0".repeat(53);
        for (text, error) in [
            ("", FingerprintError::TooShort),
            ("7q3", FingerprintError::TooShort),
            (&overlong, FingerprintError::TooLong),
            ("7q3u", FingerprintError::Character('u')),
            ("7q3U", FingerprintError::Character('U')),
            ("7q-3k", FingerprintError::Character('-')),
            ("7é3k", FingerprintError::Character('é')),
            ("7q3é", FingerprintError::Character('é')),
            ("7q3k~", FingerprintError::Character('~')),
        ] {
            assert_eq!(Fingerprint::parse(text), Err(error), "{text:?}");
        }
        assert!(Fingerprint::parse(&overlong[1..]).is_ok());
    }

    #[test]
    fn handles_are_read_and_shown() {
        let bare = Handle {
            name: name("alice"),
            fingerprint: None,
        };
        assert_eq!(Handle::parse("alice"), Ok(bare));
        assert_eq!(Handle::parse("@alice"), Ok(bare));
        assert_eq!(bare.to_string(), "alice");
        let full = Handle::of(name("alice"), &user());
        let shown = format!("alice~{}", &DIGITS_OF_USER[..8]);
        assert_eq!(full.to_string(), shown);
        assert_eq!(Handle::parse(&shown), Ok(full));
        assert_eq!(Handle::parse(&format!("@{shown}")), Ok(full));
    }

    #[test]
    fn each_broken_rule_of_a_handle_is_told() {
        for (text, error) in [
            ("", HandleError::Name(NameError::Empty)),
            ("@", HandleError::Name(NameError::Empty)),
            ("~7q3kx2mv", HandleError::Name(NameError::Empty)),
            ("@@alice", HandleError::Name(NameError::FirstNotLetter)),
            (
                "alice~",
                HandleError::Fingerprint(FingerprintError::TooShort),
            ),
            (
                "alice~7q3k~",
                HandleError::Fingerprint(FingerprintError::Character('~')),
            ),
            ("alice ~7q3k", HandleError::Name(NameError::Character(' '))),
        ] {
            assert_eq!(Handle::parse(text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn errors_say_what_to_do() {
        let shown = Handle::parse("alice~7q3u").unwrap_err().to_string();
        assert_eq!(
            shown,
            "a fingerprint has only 0-9 and a-z without u, not 'u'"
        );
        let shown = Name::parse("0").unwrap_err().to_string();
        assert_eq!(shown, "a name begins with a letter a-z");
    }
}
