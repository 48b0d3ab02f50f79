//! Summaries behind the summarize stage's port: the extractive one, which needs nothing but the transcript, and those of any
//! server with OpenAI's chat call.
//!
//! This crate never keeps a text, never retries, never calls another stage, and never decides when a summary is due.
//!
//! | Writer | What it needs | Where the transcript goes |
//! |---|---|---|
//! | [`Extractive`] | nothing | nowhere |
//! | [`Chat`] | a base URL, a model's name, usually a key | to that server |

mod answer;
mod chat;
mod prompts;
#[cfg(test)]
mod tests;

use async_trait::async_trait;
use hansard_core::extract::extract;
use hansard_core::redelivery::Class;
use hansard_jobs::ports::{Material, Summarizer, SummarizerIdentity, SummaryReply, SummaryRequest};
use hansard_runtime::pace::Permit;
use hansard_runtime::stage::Failed;
use hansard_schemas::Options;

pub use chat::{Chat, ChatConfig, ChatError, Structure};

/// Names the rule of core's `extract`; it changes with every change of what that chooses.
const RULE_VERSION: &str = "excerpts-1";

/// Verbatim sentences from each third of the conversation; deterministic, local, free.
#[derive(Debug, Clone, Copy, Default)]
pub struct Extractive;

#[async_trait]
impl Summarizer for Extractive {
    fn identity(&self, _options: &Options) -> SummarizerIdentity {
        SummarizerIdentity {
            provider: "local".to_owned(),
            model: "extractive".to_owned(),
            prompt_version: RULE_VERSION.to_owned(),
        }
    }

    async fn summarize(&self, request: &SummaryRequest<'_>, _: &Permit<'_>) -> Result<SummaryReply, Failed> {
        let Material::Transcript(document) = request.material else {
            let cause = "excerpts are taken from a transcript, and not from a part of it";
            return Err(Failed::new(Class::Defect, "not_a_transcript", cause));
        };
        let sentences: Vec<String> =
            extract(document).iter().map(|excerpt| excerpt.text.to_owned()).collect();
        Ok(SummaryReply {
            text: sentences.join(" "),
            key_points: sentences,
            language: document.language.clone(),
            ..Default::default()
        })
    }
}
