//! What a server says when it refuses, in the dialects of `{"error": {…}}` and `{"error": "…"}`. Where a server names the
//! cause in a code, the code counts; where it has only a sentence for it, the sentences that are known stand in one table.

use serde::Deserialize;

/// Characters of a refusal's text that are repeated, at most.
const TEXT_CHARS_MAX: usize = 300;

/// The body of a refusal.
#[derive(Debug, Default)]
pub struct Refusal {
    code: Option<String>,
    kind: Option<String>,
    message: Option<String>,
    /// Whether nothing of it is the answer of such an API at all.
    foreign: bool,
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
    /// The language asked for is none that the server knows, or none for which it does what was asked.
    NoSuchLanguage,
    /// What was sent is more than the model's context holds.
    TooLong,
    /// A filter will not have it answered.
    ContentRefused,
    /// There is no such job, or it is another account's.
    NoSuchJob,
    /// The audio cannot be read.
    UnsupportedAudio,
    /// The audio is shorter than the server takes.
    TooShort,
    /// Nothing: the body is no answer of an API, such as a page for people, or the answer of a server without such a call.
    NotTheApi,
}

/// Codes, as they stand in `code` or `type`.
const CODES: [(&str, Told); 11] = [
    ("insufficient_quota", Told::Quota),
    ("billing_hard_limit_reached", Told::Quota),
    ("model_not_found", Told::NoSuchModel),
    ("unsupported_language", Told::NoSuchLanguage),
    ("invalid_language_format", Told::NoSuchLanguage),
    ("unsupported_file_format", Told::UnsupportedAudio),
    ("audio_too_short", Told::TooShort),
    ("context_length_exceeded", Told::TooLong),
    ("exceed_context_size_error", Told::TooLong),
    ("content_filter", Told::ContentRefused),
    ("content_policy_violation", Told::ContentRefused),
];

/// Parts of sentences, in lower case, of servers that give no code for these: AssemblyAI gives none at all
/// (<https://www.assemblyai.com/docs/guides/common_errors_and_solutions>), OpenAI none for a file that it cannot read, vLLM none for
/// a context that is too small.
const SENTENCES: [(&str, Told); 11] = [
    ("account balance is negative", Told::Quota),
    ("insufficient funds", Told::Quota),
    ("\"speech_model", Told::NoSuchModel),
    ("invalid model id", Told::NoSuchModel),
    ("not available in this language", Told::NoSuchLanguage),
    ("language_code", Told::NoSuchLanguage),
    ("transcript id not found", Told::NoSuchJob),
    ("could not be decoded", Told::UnsupportedAudio),
    ("invalid file format", Told::UnsupportedAudio),
    ("corrupted or unsupported", Told::UnsupportedAudio),
    ("maximum context length", Told::TooLong),
];

/// Beside `{"error": …}`, what frameworks answer by themselves.
#[derive(Deserialize)]
struct Framework {
    detail: Option<serde_json::Value>,
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
            Ok(Said::Fields { message, kind, code }) => Self {
                code: code.and_then(|code| code.as_str().map(str::to_owned)),
                kind,
                message,
                foreign: false,
            },
            Err(_) => {
                let framework = serde_json::from_slice::<Framework>(body);
                let no_route =
                    |framework: Framework| framework.detail.is_some_and(|said| said == "Not Found");
                Self { foreign: framework.map_or(true, no_route), ..Self::default() }
            }
        }
    }

    /// What the documented codes and sentences of it tell.
    #[must_use]
    pub fn told(&self) -> Told {
        let mut codes = [&self.code, &self.kind].into_iter().flatten();
        let by_code = codes.find_map(|code| CODES.iter().find(|(name, _)| name == code));
        let said = self.message.as_deref().unwrap_or_default().to_lowercase();
        let by_sentence = || SENTENCES.iter().find(|(part, _)| said.contains(part));
        match by_code.or_else(by_sentence) {
            Some((_, told)) => *told,
            None if self.foreign => Told::NotTheApi,
            None => Told::Nothing,
        }
    }

    /// The server's own words, where it gave any.
    #[must_use]
    pub fn message(&self) -> Option<&str> {
        self.message.as_deref()
    }

    /// The code and the words; they may hold what was sent.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        let said = [self.code.as_deref(), self.message.as_deref()];
        let said = said.into_iter().flatten().collect::<Vec<_>>().join(": ");
        (!said.is_empty()).then_some(said)
    }
}

/// A server's words for a failure: at most 300 characters, on one line, without addresses. Servers like to repeat the links
/// that they were given, and whoever holds a signed link can read what it leads to.
pub(crate) fn plain(said: &str) -> String {
    let is_part =
        |c: char| !c.is_whitespace() && !c.is_control() && !matches!(c, '"' | '\'' | '<' | '>' | '`');
    let is_scheme = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    let (mut text, mut rest) = (String::new(), said);
    while let Some(at) = rest.find("://") {
        text.push_str(rest[..at].trim_end_matches(is_scheme));
        text.push_str("(link)");
        rest = rest[at..].trim_start_matches(is_part);
    }
    text.push_str(rest);
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(TEXT_CHARS_MAX).collect()
}
