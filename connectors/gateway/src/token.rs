//! Signed texts that spare us a store: the upload token of a conversation, and the description of a chunk between its
//! two calls. Whoever holds one can read it; nobody but us can make one.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use hansard_core::id::Timestamp;
use hansard_schemas::Options;
use hmac::{Hmac, Mac};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::Sha256;

/// The secret under which tokens are signed; all instances of a deployment share it. Its `Debug` shows nothing.
#[derive(Clone)]
pub struct SigningKey([u8; 32]);

impl SigningKey {
    /// From 32 random bytes.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    fn mac(&self, purpose: &str, text: &str) -> Hmac<Sha256> {
        // HMAC takes a key of any length, so this cannot fail.
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).unwrap_or_else(|_| unreachable!());
        mac.update(purpose.as_bytes());
        mac.update(&[0]);
        mac.update(text.as_bytes());
        mac
    }

    /// A value that only we can compute from `text`.
    pub(crate) fn derive(&self, purpose: &str, text: &str) -> [u8; 32] {
        self.mac(purpose, text).finalize().into_bytes().into()
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKey")
    }
}

/// What can be signed; the purpose keeps one kind from passing as another.
pub(crate) trait Claims: Serialize + DeserializeOwned {
    const PURPOSE: &'static str;
    fn expires(&self) -> Timestamp;
}

/// Why a token is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenError {
    #[error("the token is not ours")]
    Foreign,
    #[error("the token has expired")]
    Expired,
}

/// What an upload token allows: everything that its holder needs to bring one conversation in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct UploadClaims {
    /// The conversation.
    pub(crate) conversation: String,
    /// Its options, so that uploads need no database.
    pub(crate) options: Option<Options>,
    /// Milliseconds since 1970 UTC.
    pub(crate) expires_at: i64,
}

impl Claims for UploadClaims {
    const PURPOSE: &'static str = "hansard upload token 1";
    fn expires(&self) -> Timestamp {
        Timestamp(self.expires_at)
    }
}

/// A chunk as declared, from the presigning to the confirmation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ChunkClaims {
    pub(crate) conversation: String,
    pub(crate) chunk_id: String,
    pub(crate) bucket: String,
    pub(crate) key: String,
    pub(crate) content_type: String,
    pub(crate) bytes: u64,
    pub(crate) sha256: Option<String>,
    pub(crate) recorded_at: i64,
    pub(crate) track: String,
    pub(crate) sequence: Option<i64>,
    pub(crate) continues: bool,
    pub(crate) options: Option<Options>,
    /// The service's id of a multipart upload.
    pub(crate) upload_id: Option<String>,
    /// Milliseconds since 1970 UTC.
    pub(crate) expires_at: i64,
}

impl Claims for ChunkClaims {
    const PURPOSE: &'static str = "hansard chunk 1";
    fn expires(&self) -> Timestamp {
        Timestamp(self.expires_at)
    }
}

/// Signs claims as `payload.signature`, both base64url.
pub(crate) fn sign<C: Claims>(key: &SigningKey, claims: &C) -> String {
    // The claims are plain structs of texts and numbers, which always have a JSON form.
    let payload = BASE64.encode(serde_json::to_vec(claims).unwrap_or_default());
    let signature = BASE64.encode(key.derive(C::PURPOSE, &payload));
    format!("{payload}.{signature}")
}

/// Reads claims back.
///
/// # Errors
/// `Foreign` for anything that we did not sign for this purpose, `Expired` from the end of its time on.
pub(crate) fn verify<C: Claims>(key: &SigningKey, token: &str, now: Timestamp) -> Result<C, TokenError> {
    let (payload, signature) = token.split_once('.').ok_or(TokenError::Foreign)?;
    let signature = BASE64.decode(signature).map_err(|_| TokenError::Foreign)?;
    // The comparison takes the same time wherever the first difference is.
    key.mac(C::PURPOSE, payload).verify_slice(&signature).map_err(|_| TokenError::Foreign)?;
    let payload = BASE64.decode(payload).map_err(|_| TokenError::Foreign)?;
    let claims: C = serde_json::from_slice(&payload).map_err(|_| TokenError::Foreign)?;
    if now >= claims.expires() {
        return Err(TokenError::Expired);
    }
    Ok(claims)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims() -> UploadClaims {
        let options = Options { language: Some("nl".to_owned()), ..Default::default() };
        UploadClaims { conversation: "c-1".to_owned(), options: Some(options), expires_at: 1_000 }
    }

    #[test]
    fn a_token_is_read_back_until_it_expires() {
        let key = SigningKey::new([7; 32]);
        let token = sign(&key, &claims());
        assert_eq!(verify(&key, &token, Timestamp(999)), Ok(claims()));
        assert_eq!(verify::<UploadClaims>(&key, &token, Timestamp(1_000)), Err(TokenError::Expired));
    }

    #[test]
    fn nothing_else_is_a_token() {
        let key = SigningKey::new([7; 32]);
        let token = sign(&key, &claims());
        let foreign = sign(&SigningKey::new([8; 32]), &claims());
        let mut other = claims();
        other.conversation = "c-2".to_owned();
        let (payload, signature) = token.split_once('.').expect("two halves");
        let swapped = format!("{}.{signature}", sign(&key, &other).split('.').next().expect("a payload"));
        for bad in ["", ".", "a.b", payload, &foreign, &swapped, &token[..token.len() - 2]] {
            assert_eq!(verify::<UploadClaims>(&key, bad, Timestamp(0)), Err(TokenError::Foreign), "{bad}");
        }
        assert_eq!(
            verify::<ChunkClaims>(&key, &token, Timestamp(0)),
            Err(TokenError::Foreign),
            "another purpose"
        );
        assert_eq!(format!("{key:?}"), "SigningKey");
    }
}
