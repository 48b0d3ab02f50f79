//! Signatures by the specification Standard Webhooks 1.0: HMAC-SHA-256 over the id, the time and the raw bytes that are
//! sent, so that a receiver can check it with any of its libraries.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;

/// What stands before a secret, so that it is recognised where it should not be.
const PREFIX: &str = "whsec_";
/// Bytes that a secret has, by the specification.
const BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// A secret that is shared with the receivers.
#[derive(Clone)]
pub struct Secret(Vec<u8>);

/// It is not shown.
impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// A text is no secret. The text is not repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a secret is whsec_ and the base64 of 24 to 64 random bytes")]
pub struct SecretError;

impl std::str::FromStr for Secret {
    type Err = SecretError;

    fn from_str(text: &str) -> Result<Self, SecretError> {
        let encoded = text.strip_prefix(PREFIX).ok_or(SecretError)?;
        let bytes = BASE64_STANDARD.decode(encoded).map_err(|_| SecretError)?;
        if BYTES.contains(&bytes.len()) { Ok(Self(bytes)) } else { Err(SecretError) }
    }
}

impl Secret {
    /// The signature of what is sent under this id at this time, in seconds since 1970 UTC.
    pub(crate) fn sign(&self, id: &str, seconds: i64, body: &[u8]) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("a key of any length will do");
        mac.update(format!("{id}.{seconds}.").as_bytes());
        mac.update(body);
        format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes()))
    }
}
