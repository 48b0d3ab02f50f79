//! A chat server's answer, read strictly: what does not fit the schema is no summary.

use hansard_jobs::ports::SummaryReply;
use hansard_provider::Cause;
use serde::Deserialize;

use crate::prompts::is_language;

/// Bytes of what a model wrote, at most; far below what a record may have.
pub(crate) const CONTENT_BYTES_MAX: usize = 128 << 10;
/// Entries of a list, at most.
pub(crate) const LIST_MAX: usize = 200;
/// Letters of a model's name, at most.
const MODEL_LETTERS_MAX: usize = 128;

#[derive(Deserialize)]
struct Completion {
    model: Option<String>,
    choices: Vec<Choice>,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Choice {
    message: Written,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Written {
    content: Option<String>,
    refusal: Option<String>,
}

#[derive(Deserialize)]
struct Usage {
    prompt_tokens: Option<i64>,
    completion_tokens: Option<i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Minutes {
    title: String,
    summary: String,
    key_points: Vec<String>,
    action_items: Vec<String>,
    language: String,
}

/// Why an answer is no summary: the cause, and for people why. It repeats nothing that the model wrote.
pub(crate) type Unfit = (Cause, String);

/// Reads the answer to a request for one completion.
pub(crate) fn read(body: &[u8]) -> Result<SummaryReply, Unfit> {
    let unfit = |why: &str| (Cause::BadResponse, why.to_owned());
    let completion: Completion = parsed(body, "no chat completion")?;
    let Some(choice) = completion.choices.into_iter().next() else { return Err(unfit("no choice")) };
    let Written { content, refusal } = choice.message;
    let content = content.filter(|content| !content.is_empty());
    match choice.finish_reason.as_deref() {
        Some("content_filter") => {
            return Err((Cause::ContentRefused, "the server's filter stopped the answer".to_owned()));
        }
        Some("length") => {
            let why = "the answer was cut off by its limit; raise summary.answer-tokens";
            return Err((Cause::AnswerTruncated, why.to_owned()));
        }
        _ if refusal.is_some_and(|refusal| !refusal.is_empty()) => {
            return Err((Cause::ContentRefused, "the model refused to answer".to_owned()));
        }
        _ => {}
    }
    let content = content.ok_or_else(|| unfit("an empty answer"))?;
    if content.len() > CONTENT_BYTES_MAX {
        return Err(unfit("an answer that is too long"));
    }
    let minutes: Minutes = parsed(content.as_bytes(), "an answer that does not fit the schema")?;
    if minutes.summary.trim().is_empty() {
        return Err(unfit("an answer without a summary"));
    }
    if minutes.key_points.len().max(minutes.action_items.len()) > LIST_MAX {
        return Err(unfit("an answer with too many points"));
    }
    let usage = completion.usage;
    let count =
        |tokens: fn(&Usage) -> Option<i64>| usage.as_ref().and_then(tokens).filter(|count| *count >= 0);
    let named = |name: &String| {
        (1..=MODEL_LETTERS_MAX).contains(&name.chars().count()) && !name.contains(char::is_control)
    };
    Ok(SummaryReply {
        text: minutes.summary,
        title: Some(minutes.title),
        key_points: minutes.key_points,
        action_items: minutes.action_items,
        language: Some(minutes.language).filter(|language| is_language(language)),
        model: completion.model.filter(named),
        tokens_in: count(|usage| usage.prompt_tokens),
        tokens_out: count(|usage| usage.completion_tokens),
    })
}

/// Where it is none is told, not what: an answer may hold what was said.
fn parsed<'a, T: Deserialize<'a>>(body: &'a [u8], what: &str) -> Result<T, Unfit> {
    serde_json::from_slice(body).map_err(|error| {
        let (why, line, column) = (error.classify(), error.line(), error.column());
        (Cause::BadResponse, format!("{what}: {why:?} at line {line}, column {column}"))
    })
}
