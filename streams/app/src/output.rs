//! What goes to standard output and standard error. A reader that is gone, as in `hansard … | head`, is no error.

use std::io::{ErrorKind, Write};

use anyhow::Result;
use serde_json::Value;

/// Writes bytes to standard output.
///
/// # Errors
/// When they cannot be written for another reason than that nobody reads.
pub(crate) fn write(bytes: &[u8]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Writes a line to standard output.
///
/// # Errors
/// See [`write`].
pub(crate) fn line(text: &str) -> Result<()> {
    write(format!("{text}\n").as_bytes())
}

/// Writes a value as indented JSON to standard output.
///
/// # Errors
/// See [`write`].
pub(crate) fn json(value: &Value) -> Result<()> {
    line(&format!("{value:#}"))
}

/// Writes a line to standard error.
pub(crate) fn complain(text: &str) {
    // There is nowhere else to say it.
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}
