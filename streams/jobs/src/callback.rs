//! What a provider's webhook carries back: the effect that its job is for, as a text, and the URL that it is put into.

use std::str::FromStr;
use std::sync::Arc;

use hansard_core::id::Generation;
use hansard_core::redelivery::Class;
use hansard_runtime::ports::journal::{JournalKey, SubmissionId};
use hansard_runtime::stage::Failed;

use crate::aggregate::hex;

/// One submission of an effect: `stage:input:generation:submission:conversation`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// The effect.
    pub key: JournalKey,
    /// The submission.
    pub submission: SubmissionId,
}

impl std::fmt::Display for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let JournalKey { conversation, stage, input, generation } = &self.key;
        let submission = hex(&self.submission.0);
        write!(f, "{stage}:{input}:{}:{submission}:{conversation}", generation.0)
    }
}

impl FromStr for Token {
    type Err = Failed;

    fn from_str(text: &str) -> Result<Self, Failed> {
        read(text).ok_or_else(|| {
            Failed::new(Class::Permanent, "invalid", "journal_key names no submission of an effect")
        })
    }
}

fn read(text: &str) -> Option<Token> {
    let mut parts = text.splitn(5, ':');
    let (stage, input) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let generation = Generation(parts.next()?.parse().ok()?);
    let submission = u128::from_str_radix(parts.next()?, 16).ok()?.to_be_bytes();
    let conversation = parts.next()?.to_owned();
    let key = JournalKey { conversation, stage, input, generation };
    let token = Token { key, submission: SubmissionId(submission) };
    // One token has one text.
    (token.to_string() == text).then_some(token)
}

type Url = dyn Fn(&str, &str) -> String + Send + Sync;

/// Makes the URLs that providers call back; whoever holds one can tell that its job has ended, and nothing else.
#[derive(Clone)]
pub struct CallbackUrls(Arc<Url>);

impl CallbackUrls {
    /// From what makes an URL of a provider's name and a token's text; it signs the text.
    #[must_use]
    pub fn new(make: impl Fn(&str, &str) -> String + Send + Sync + 'static) -> Self {
        Self(Arc::new(make))
    }

    /// The URL for a submission to a provider.
    #[must_use]
    pub fn url(&self, provider: &str, token: &Token) -> String {
        (self.0)(provider, &token.to_string())
    }
}

#[cfg(test)]
mod tests {
    use hansard_core::id::Digest;
    use hansard_schemas::Stage;

    use super::*;

    #[test]
    fn a_token_is_read_back_and_nothing_else_is() {
        let key = JournalKey {
            conversation: "a.b-c_1".to_owned(),
            stage: Stage::Transcribe,
            input: Digest([7; 32]),
            generation: Generation(12),
        };
        let token = Token { key, submission: SubmissionId([1; 16]) };
        let text = token.to_string();
        assert_eq!(text.parse(), Ok(token));
        let short = text.replacen("0101", "", 1);
        for bad in ["", ":::::", &text[1..], &text.to_uppercase(), &text.replace("12", "+12"), &short] {
            assert_eq!(bad.parse::<Token>().expect_err(bad).code, "invalid", "{bad}");
        }
    }
}
