//! The writers of summaries: what is sent, what is made of every answer, and what it costs.

mod http;
mod ledger;
mod prompts;

use std::sync::LazyLock;
use std::time::Duration;

use hansard_jobs::ports::{Material, Summarizer as _, SummaryReply, SummaryRequest};
use hansard_provider::Secret;
use hansard_runtime::pace::{Pace, Permit};
use hansard_runtime::stage::Failed;
use hansard_schemas::Options;

use crate::{Chat, ChatConfig};

static PACE: LazyLock<Pace> = LazyLock::new(Pace::unlimited);

/// Leave to call, as often as it takes.
async fn permit() -> Permit<'static> {
    PACE.permit().await
}

const KEY: &str = "sk-test-7f1c";
/// A passage as core writes it.
const PASSAGE: &str = r#"[["Anna","We meet on Friday."],["","promise1 is mine."]]"#;

fn config(base_url: String) -> ChatConfig {
    let mut config = ChatConfig::new(base_url, "fake");
    config.service.key = Some(Secret::new(KEY));
    config.service.answer_within = Duration::from_secs(20);
    config
}

fn chat(base_url: String) -> Chat {
    Chat::new(config(base_url)).expect("a valid configuration")
}

async fn asked(chat: &Chat, material: Material<'_>, options: &Options) -> Result<SummaryReply, Failed> {
    let (language, idempotency_key) = (options.language.as_deref(), "8f3a".to_owned());
    chat.summarize(&SummaryRequest { material, language, options, idempotency_key }, &permit().await).await
}

async fn failure(chat: &Chat, options: &Options) -> Failed {
    asked(chat, Material::Whole(PASSAGE), options).await.expect_err("the call fails")
}
