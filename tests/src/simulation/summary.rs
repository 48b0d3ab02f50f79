//! The writer of summaries of a world: it takes a transcript of any length, or, where it has a room, passages and notes. What
//! it writes names the conversation, the only way in which the ledger can know of a passage whose it is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hansard_core::id::Millis;
use hansard_core::redelivery::Class;
use hansard_jobs::ports::{Material, Summarizer, SummarizerIdentity, SummaryReply, SummaryRequest};
use hansard_jobs::providers::ProviderMetrics;
use hansard_jobs::summaries::{Summarizers, SummaryMetrics, SummaryProvider, TokenPrice};
use hansard_runtime::pace::{Pace, PaceLimits, Permit};
use hansard_runtime::ports::Ports;
use hansard_runtime::stage::Failed;
use hansard_schemas::Options;

use super::fakes::{Answer, Fakes, refused};

/// What the writer is called.
const NAME: &str = "simulated";

/// The deployment's writers: this one alone. Each call reads a hundred tokens and writes ten.
pub(crate) fn summarizers(fakes: &Fakes, ports: &Ports) -> Arc<Summarizers> {
    let limits = PaceLimits { per_second: 1e9, at_once: 1_000 };
    let registry = prometheus::Registry::new();
    let metrics = ProviderMetrics::register(&registry).expect("a fresh registry");
    let metrics = SummaryMetrics::register(&registry, metrics).expect("a fresh registry");
    let provider = SummaryProvider {
        summarizer: Arc::new(fakes.clone()),
        pace: Pace::new(limits, Arc::clone(&ports.clock)),
        price: Some(TokenPrice { micros_in: 10_000, micros_out: 100_000, currency: "XTS".to_owned() }),
        passages_max: 20,
    };
    let by_name = BTreeMap::from([(NAME.to_owned(), provider)]);
    Arc::new(Summarizers::new(by_name, NAME, Millis::minutes(4), Arc::clone(&ports.clock), metrics))
}

/// Whose a text is, and what is written of it: the words of a segment say which recording it is of, and what was written
/// before names it first.
fn named<'t>(read: &'t str, what: &str) -> (&'t str, String) {
    let after = |sign: &str| read.split_once(sign).map(|(_, rest)| rest);
    let rest = after("said in ").or_else(|| after("\"summary\":\"")).expect("a text of this world");
    let conversation = rest.split('/').next().unwrap_or_default();
    (conversation, format!("{conversation}/{what}"))
}

#[async_trait]
impl Summarizer for Fakes {
    fn identity(&self, options: &Options) -> SummarizerIdentity {
        let model = options.model.as_deref().unwrap_or("one").to_owned();
        SummarizerIdentity { provider: NAME.to_owned(), model, prompt_version: "1".to_owned() }
    }

    fn room(&self) -> Option<usize> {
        self.ledger.open().summary_room
    }

    async fn summarize(
        &self,
        request: &SummaryRequest<'_>,
        permit: &Permit<'_>,
    ) -> Result<SummaryReply, Failed> {
        permit.turn().await;
        let (conversation, text) = match request.material {
            Material::Transcript(document) => {
                (&*document.conversation, format!("{} lines were said", document.lines.len()))
            }
            Material::Whole(text) => named(text, "a whole"),
            Material::Passage(text) => named(text, "a passage"),
            Material::Notes(text) => named(text, &format!("{} notes", text.matches("summary").count())),
        };
        let name = format!("summary of {conversation}");
        let (call, answer) = self.ledger.begin(&name, &request.idempotency_key, self.process.world_now());
        let called = self.process.call("summary.call", |_| ()).await;
        let answer = match (answer, called) {
            (Answer::Hang, _) => std::future::pending().await,
            (Answer::Fail { class, code, retry_after_s }, _) => Err(Failed {
                retry_after: retry_after_s.map(Duration::from_secs),
                ..Failed::new(class, code, "as told")
            }),
            (Answer::Refuses(cause), _) => Err(Failed::new(Class::Permanent, "http_400", cause)),
            (_, Err(_)) => Err(refused("http_500")),
            (Answer::Says(said), Ok(())) => Ok(SummaryReply {
                title: Some(said.clone()),
                key_points: vec![text, said.clone()],
                action_items: vec![said.clone()],
                text: said,
                ..SummaryReply::default()
            }),
            (_, Ok(())) => Ok(SummaryReply {
                text,
                tokens_in: Some(100),
                tokens_out: Some(10),
                ..SummaryReply::default()
            }),
        };
        self.ledger.end(call, self.process.world_now(), answer.is_ok());
        answer
    }
}
