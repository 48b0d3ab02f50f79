//! What a server says when it refuses, in the dialects of `{"error": {…}}` and `{"error": "…"}`.

use serde::Deserialize;

/// Characters of a refusal's text that are repeated, at most.
const TEXT_CHARS_MAX: usize = 300;

/// The body of a refusal.
#[derive(Debug, Default)]
pub struct Refusal {
    code: Option<String>,
    kind: Option<String>,
    message: Option<String>,
}

/// What a refusal's body tells beside its status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// Nothing that has a stable name.
    Nothing,
    /// The account's money or allowance is spent.
    Quota,
    /// There is no such model, or this account may not use it.
    NoSuchModel,
    /// The language asked for is none that the server knows.
    NoSuchLanguage,
    /// What was sent is more than the model's context holds.
    TooLong,
    /// A filter will not have it answered.
    ContentRefused,
}

#[derive(Deserialize)]
struct Body {
    error: Said,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Said {
    Text(String),
    Fields {
        message: Option<String>,
        #[serde(rename = "type")]
        kind: Option<String>,
        // Some servers repeat the status here, as a number.
        code: Option<serde_json::Value>,
    },
}

impl Refusal {
    /// Reads a refusal; nothing is known where the body is not JSON.
    #[must_use]
    pub fn read(body: &[u8]) -> Self {
        match serde_json::from_slice::<Body>(body).map(|body| body.error) {
            Ok(Said::Text(message)) => Self { message: Some(message), ..Self::default() },
            Ok(Said::Fields { message, kind, code }) => {
                Self { code: code.and_then(|code| code.as_str().map(str::to_owned)), kind, message }
            }
            Err(_) => Self::default(),
        }
    }

    /// What the documented codes of it tell.
    #[must_use]
    pub fn told(&self) -> Told {
        const CODES: [(&str, Told); 7] = [
            ("insufficient_quota", Told::Quota),
            ("billing_hard_limit_reached", Told::Quota),
            ("model_not_found", Told::NoSuchModel),
            ("unsupported_language", Told::NoSuchLanguage),
            ("context_length_exceeded", Told::TooLong),
            ("content_filter", Told::ContentRefused),
            ("content_policy_violation", Told::ContentRefused),
        ];
        let mut codes = [&self.code, &self.kind].into_iter().flatten();
        codes
            .find_map(|code| CODES.iter().find(|(name, _)| name == code))
            .map_or(Told::Nothing, |(_, told)| *told)
    }

    /// The server's own words, where it gave any.
    #[must_use]
    pub fn message(&self) -> Option<&str> {
        self.message.as_deref()
    }

    /// The code and the words, at most 300 characters, on one line.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        let said = [self.code.as_deref(), self.message.as_deref()];
        let said = said.into_iter().flatten().collect::<Vec<_>>().join(": ");
        let said = said.chars().map(|c| if c.is_control() { ' ' } else { c });
        let said: String = said.take(TEXT_CHARS_MAX).collect();
        (!said.is_empty()).then_some(said)
    }
}
