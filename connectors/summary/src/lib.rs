//! Summaries behind the summarize stage's port: the extractive one, which needs nothing but the transcript.
//!
//! This crate never keeps a text, never calls another stage, and never decides when a summary is due.

use async_trait::async_trait;
use hansard_core::document::Document;
use hansard_core::extract::extract;
use hansard_jobs::ports::{Summarizer, SummarizerIdentity, SummaryReply};
use hansard_runtime::stage::Failed;
use hansard_schemas::Options;

/// Names the rule of core's `extract`; it changes with every change of what that chooses.
const RULE_VERSION: &str = "excerpts-1";

/// Verbatim sentences from each third of the conversation; deterministic, local, free.
#[derive(Debug, Clone, Copy, Default)]
pub struct Extractive;

#[async_trait]
impl Summarizer for Extractive {
    fn identity(&self) -> SummarizerIdentity {
        SummarizerIdentity {
            provider: "local".to_owned(),
            model: "extractive".to_owned(),
            prompt_version: RULE_VERSION.to_owned(),
        }
    }

    async fn summarize(&self, document: &Document, _options: &Options) -> Result<SummaryReply, Failed> {
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
