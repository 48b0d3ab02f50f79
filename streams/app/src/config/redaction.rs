//! Redaction: whom it is done to, and by which rules.

use hansard_jobs::redaction::Redaction;

use super::layers::{ConfigError, Values};
use super::text::flag;

/// The floor, and the rules of every deployment with those of a file.
pub(super) fn read(values: &mut Values) -> Result<Redaction, ConfigError> {
    let floor = values.take_by("speech.redact", flag)?;
    values.take_by("speech.redaction-rules", rules).map(|redaction| redaction.with_floor(floor))
}

fn rules(path: &str) -> Result<Redaction, String> {
    let built_in = Redaction::built_in().map_err(|error| error.to_string())?;
    if path.is_empty() {
        return Ok(built_in);
    }
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {path}: {error}"))?;
    built_in.with_rules(&text).map_err(|error| format!("{path}: {error}"))
}
