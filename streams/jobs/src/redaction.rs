//! Redaction of what a provider heard or wrote, before anything keeps it.
//!
//! Whose conversation asks for it is redacted, and everybody's where the deployment's floor says so. A provider's failure is
//! too: its cause may repeat what was sent or heard.

use std::sync::Arc;

use hansard_core::redact::{BUILT_IN, Kept, RuleError, RuleSet, RuleText};
use hansard_runtime::stage::Failed;
use hansard_schemas::{Options, Redaction as Place, Word};
use serde::Deserialize;

use crate::ports::{SpeechReply, SummaryReply};

/// Letters of a language's tag, at most (BCP 47).
const TAG_LETTERS_MAX: usize = 35;

/// What is done about personal data in transcripts and summaries.
#[derive(Debug, Clone)]
pub struct Redaction {
    floor: bool,
    rules: Arc<RuleSet>,
}

/// Why a file of rules is refused.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// It is no TOML of this form; the text says where.
    #[error("it cannot be read: {0}")]
    Form(#[from] toml::de::Error),
    /// Nothing would be redacted.
    #[error(
        "it has no [[rule]] and built_in = false, so nothing would be redacted; give a rule, or leave built_in out"
    )]
    Nothing,
    /// A rule is wrong.
    #[error("rule {number} (kind {kind:?}): {cause}")]
    Rule {
        /// Its position, from 1.
        number: usize,
        /// Its kind.
        kind: String,
        /// Why.
        cause: RuleError,
    },
}

/// A file of rules.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default = "yes")]
    built_in: bool,
    #[serde(default)]
    rule: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    kind: String,
    label: String,
    pattern: String,
    check: Option<String>,
}

fn yes() -> bool {
    true
}

impl Rule {
    fn text(&self) -> RuleText<'_> {
        let Self { kind, label, pattern, check } = self;
        RuleText { kind, label, pattern, check: check.as_deref() }
    }
}

fn compiled(own: &[Rule], built_in: &[Rule]) -> Result<Arc<RuleSet>, RulesError> {
    let all = || own.iter().chain(built_in);
    let rules = RuleSet::new(all().map(Rule::text)).map_err(|(at, cause)| {
        // A rule of the build is wrong only beside one of the file that has taken its label.
        let is_taker =
            |rule: &Rule| matches!(&cause, RuleError::LabelTaken { label, .. } if rule.label == *label);
        let taker = if at < own.len() { None } else { own.iter().position(is_taker) };
        let (at, cause) = match (taker, all().nth(at)) {
            (Some(taker), Some(Rule { kind, label, .. })) => {
                (taker, RuleError::LabelTaken { label: label.clone(), kind: kind.clone() })
            }
            _ => (at, cause),
        };
        let kind = all().nth(at).map(|rule| rule.kind.clone()).unwrap_or_default();
        RulesError::Rule { number: at + 1, kind, cause }
    })?;
    Ok(Arc::new(rules))
}

fn built_in() -> Result<Vec<Rule>, RulesError> {
    Ok(toml::from_str::<File>(BUILT_IN)?.rule)
}

impl Redaction {
    /// The rules of every deployment, for those who ask.
    ///
    /// # Errors
    /// Never, since a test reads the same rules.
    pub fn built_in() -> Result<Self, RulesError> {
        Ok(Self { floor: false, rules: compiled(&[], &built_in()?)? })
    }

    /// The same, for everybody where `floor` says so.
    #[must_use]
    pub fn with_floor(self, floor: bool) -> Self {
        Self { floor, ..self }
    }

    /// With the rules of a file, which come before those of every deployment, or in place of them.
    ///
    /// # Errors
    /// The file's text is not such, or a rule is wrong.
    pub fn with_rules(self, text: &str) -> Result<Self, RulesError> {
        let file: File = toml::from_str(text)?;
        if file.rule.is_empty() && !file.built_in {
            return Err(RulesError::Nothing);
        }
        let others = if file.built_in { built_in()? } else { Vec::new() };
        Ok(Self { rules: compiled(&file.rule, &others)?, ..self })
    }

    /// Whether a conversation with these options is redacted; it can ask for more than the floor, never for less.
    #[must_use]
    pub fn applies(&self, options: &Options) -> bool {
        self.floor || options.redact_pii == Some(true)
    }

    /// What may be kept of an answer, and where something was removed from it.
    #[must_use]
    pub fn heard(&self, reply: SpeechReply, options: &Options) -> (SpeechReply, Vec<Place>) {
        if self.applies(options) { self.redacted(reply) } else { (reply, Vec::new()) }
    }

    /// What may be kept of a summary: a writer joins what was said apart, and may know more than it was told.
    #[must_use]
    pub fn written(&self, reply: SummaryReply, options: &Options) -> SummaryReply {
        if !self.applies(options) {
            return reply;
        }
        let one = |text: String| self.rules.redact(&text, &[]).text;
        SummaryReply {
            text: one(reply.text),
            title: reply.title.map(one),
            key_points: reply.key_points.into_iter().map(one).collect(),
            action_items: reply.action_items.into_iter().map(one).collect(),
            language: reply.language.filter(|language| is_tag(language)),
            ..reply
        }
    }

    /// What may be told of a failure.
    #[must_use]
    pub fn failure(&self, failed: Failed, options: &Options) -> Failed {
        if !self.applies(options) {
            return failed;
        }
        let cause = self.rules.redact(&failed.cause, &[]).text;
        Failed { cause, ..failed }
    }

    fn redacted(&self, reply: SpeechReply) -> (SpeechReply, Vec<Place>) {
        let given: Vec<&str> = reply.words.iter().map(|word| word.text.as_str()).collect();
        let redacted = self.rules.redact(&reply.text, &given);
        let words = redacted.words.iter().map(|kept| match kept {
            Kept::Word(at) => reply.words[*at].clone(),
            Kept::Label { first, last, label } => joined(&reply.words[*first..=*last], label),
        });
        let offset = |bytes: usize| i32::try_from(bytes).unwrap_or(i32::MAX);
        let places = redacted.removed.iter().map(|one| Place {
            kind: one.kind.as_ref().to_owned(),
            start: offset(one.start),
            end: offset(one.end),
        });
        let places = places.collect();
        let words = words.collect();
        // What is no tag may be anything that a provider says.
        let language = reply.language.filter(|language| is_tag(language));
        (SpeechReply { text: redacted.text, words, language, ..reply }, places)
    }
}

/// A label in place of words: from where the first begins to where the last ends.
fn joined(words: &[Word], label: &str) -> Word {
    let speaker = words.first().and_then(|word| word.speaker.clone());
    Word {
        text: label.to_owned(),
        start_ms: words.iter().map(|word| word.start_ms).min().unwrap_or_default(),
        end_ms: words.iter().map(|word| word.end_ms).max().unwrap_or_default(),
        confidence: None,
        speaker: speaker.filter(|one| words.iter().all(|word| word.speaker.as_ref() == Some(one))),
    }
}

fn is_tag(language: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=TAG_LETTERS_MAX).contains(&language.len()) && language.bytes().all(letter)
}

#[cfg(test)]
mod tests;
