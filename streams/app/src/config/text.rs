//! How settings are written: every layer gives text, and each kind of value has one way to be read and shown, so that
//! flag, environment and file cannot differ.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use hansard_core::id::Millis;
use hansard_tls::Authorities;

/// A value that a setting can have.
pub(crate) trait Text: Sized {
    /// Reads it.
    ///
    /// # Errors
    /// What would have been right, in words.
    fn read(text: &str) -> Result<Self, String>;
}

/// A number of bytes, as `512`, `64 KiB`, `5GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) u64);

const SIZES: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];
const TIMES: [(&str, i64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000), ("ms", 1)];

/// The longest time, ten years: sums with the present time stay far from the ends of a number.
const TIME_MAX_MS: i64 = 3_650 * 86_400_000;

/// Shows bytes in the largest unit that loses nothing.
pub(crate) fn show_bytes(bytes: u64) -> String {
    let unit = SIZES.iter().find(|(_, size)| bytes > 0 && bytes.is_multiple_of(*size));
    unit.map_or_else(|| bytes.to_string(), |(name, size)| format!("{} {name}", bytes / size))
}

/// Shows a length of time in the largest unit that loses nothing.
pub(crate) fn show_time(time: Millis) -> String {
    let unit = TIMES.iter().find(|(_, length)| time.0 > 0 && time.0 % length == 0);
    unit.map_or_else(|| format!("{} ms", time.0), |(name, length)| format!("{} {name}", time.0 / length))
}

/// Shows a length of time in the largest unit that loses nothing.
pub(crate) fn show_duration(time: Duration) -> String {
    show_time(Millis(i64::try_from(time.as_millis()).unwrap_or(i64::MAX)))
}

/// A number and its unit.
fn split(text: &str) -> (&str, &str) {
    let end = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    (&text[..end], text[end..].trim())
}

impl Text for Bytes {
    fn read(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no size; give one like 512, 64 KiB, 16 MiB or 5 GiB");
        let (number, unit) = split(text.trim());
        let size = match unit {
            "" => 1,
            unit => SIZES.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?.1,
        };
        let number: u64 = number.parse().map_err(|_| wrong())?;
        number.checked_mul(size).map(Self).ok_or_else(wrong)
    }
}

impl Text for Millis {
    fn read(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("{text:?} is no length of time; give one like 500 ms, 5 s, 10 min, 2 h or 7 d");
        let (number, unit) = split(text.trim());
        let length = TIMES.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?.1;
        let number: i64 = number.parse().map_err(|_| wrong())?;
        let time = number.checked_mul(length).filter(|millis| *millis <= TIME_MAX_MS);
        time.map(Self).ok_or_else(|| format!("{text:?} is more than 3650 d"))
    }
}

impl Text for Duration {
    fn read(text: &str) -> Result<Self, String> {
        let millis = Millis::read(text)?.0;
        Ok(Self::from_millis(u64::try_from(millis).unwrap_or_default()))
    }
}

impl Text for String {
    fn read(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }
}

impl Text for PathBuf {
    fn read(text: &str) -> Result<Self, String> {
        if text.is_empty() { Err("a path is wanted".to_owned()) } else { Ok(text.into()) }
    }
}

impl Text for SocketAddr {
    fn read(text: &str) -> Result<Self, String> {
        text.parse()
            .map_err(|_| format!("{text:?} is no address; give one like 127.0.0.1:8080 or [::1]:8080"))
    }
}

macro_rules! numbers {
    ($($kind:ty),+) => { $(
        impl Text for $kind {
            fn read(text: &str) -> Result<Self, String> {
                let range = || format!("{text:?} is no number from {} to {}", <$kind>::MIN, <$kind>::MAX);
                text.parse().map_err(|_| range())
            }
        }
    )+ };
}

numbers!(u8, u32, u64, usize);

/// A share of a whole, 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Share(pub(crate) f64);

impl Text for Share {
    fn read(text: &str) -> Result<Self, String> {
        let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
        share.map(Self).ok_or_else(|| format!("{text:?} is no share from 0 to 1"))
    }
}

/// A list, separated by commas; empty text is an empty list.
impl<T: Text> Text for Vec<T> {
    fn read(text: &str) -> Result<Self, String> {
        let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
        items.map(T::read).collect()
    }
}

/// Absent where the text is empty.
impl<T: Text> Text for Option<T> {
    fn read(text: &str) -> Result<Self, String> {
        if text.is_empty() { Ok(None) } else { T::read(text).map(Some) }
    }
}

/// The address of a service that is called by HTTP, if there is one.
pub(crate) fn address(text: &str) -> Result<Option<String>, String> {
    let rest = ["http://", "https://"].iter().find_map(|scheme| text.strip_prefix(scheme));
    match rest {
        _ if text.is_empty() => Ok(None),
        // A password in it would be shown.
        Some(rest) if !rest.contains(['@', '?', '#']) => Ok(Some(text.trim_end_matches('/').to_owned())),
        _ => Err("a plain http or https address is wanted, without user and query".to_owned()),
    }
}

/// Yes or no.
pub(crate) fn flag(text: &str) -> Result<bool, String> {
    one_of(text, &[("true", true), ("false", false)])
}

/// One of a few words.
pub(crate) fn one_of<T: Copy>(text: &str, words: &[(&str, T)]) -> Result<T, String> {
    let known = || words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
    let found = words.iter().find(|(word, _)| *word == text);
    found.map(|(_, value)| *value).ok_or_else(|| format!("{text:?} is none of {}", known()))
}

/// The authorities whose certificates stand in a file; none where none is named.
pub(super) fn authorities(path: &str) -> Result<Option<Authorities>, String> {
    if path.is_empty() {
        return Ok(None);
    }
    let pem = std::fs::read(path).map_err(|error| format!("cannot read {path}: {error}"))?;
    Authorities::with(&pem).map(Some).map_err(|error| format!("{path}: {error}"))
}

/// Whether an address is called by TLS.
pub(super) fn is_https(url: &str) -> bool {
    url.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://"))
}
