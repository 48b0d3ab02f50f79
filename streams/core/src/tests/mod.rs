//! The tests of the decisions: scenarios as text, properties against a plain reading of the rules, and costs.

use sha2::{Digest as _, Sha256};

use crate::id::Digest;

mod cost;
mod digests;
mod export;
mod extract;
mod facts;
mod ids;
mod mutants;
mod passages;
mod personal;
mod plain;
mod properties;
mod redacted;
mod redelivery;
mod scenario;

/// A digest that stands for a word.
fn digest(word: &str) -> Digest {
    Digest(Sha256::digest(word.as_bytes()).into())
}
