//! What can be seen of a conversation: in the log, the store and the providers' ledger, each as a word.

use std::collections::{BTreeMap, BTreeSet};

use hansard_core::id::Timestamp;
use hansard_jobs::sweep::Report;
use hansard_runtime::driver::Stored;
use hansard_schemas::{
    Conversation, Delivery, Failure, Finalize, Merge, Record, Split, Stage, Summary, Topic, decode,
};

use crate::simulation::deployment::{Deployment, START};

/// One conversation's records, in the order of the log.
#[derive(Default)]
struct Told {
    finalizes: Vec<(Timestamp, Finalize)>,
    merges: Vec<Merge>,
    summaries: Vec<Summary>,
    statuses: Vec<Conversation>,
    failures: Vec<Failure>,
    deliveries: Vec<Delivery>,
    splits: Vec<Split>,
    /// Calls of webhooks, by the end of their URLs: each with the id that it had.
    posts: BTreeMap<String, Vec<String>>,
    rows: usize,
    speech_calls: usize,
    summary_calls: usize,
    open_windows: usize,
    dead: usize,
    objects: usize,
    part_uploads: usize,
    jobs: usize,
}

/// Everything that is to be seen at a moment.
pub(super) struct Seen {
    told: BTreeMap<String, Told>,
    topics: BTreeMap<String, usize>,
    /// The last run of sweep.
    swept: Option<Report>,
    /// How often providers were asked for jobs.
    checks: usize,
    /// Facts whose offsets aggregate has not committed.
    uncommitted: usize,
}

impl Seen {
    pub(super) fn of(deployment: &Deployment) -> Self {
        let world = &deployment.world;
        let swept = deployment.swept.lock().expect("no panic before").clone().and_then(Result::ok);
        let checks = deployment.ledger.open().manner.checks;
        let log = world.log();
        let reads = Stage::Aggregate.reads();
        let is_open = |stored: &&Stored| {
            let committed = || world.progress(Stage::Aggregate.as_str(), stored.from).0;
            reads.contains(&stored.from.topic) && stored.record.offset >= committed()
        };
        let uncommitted = log.iter().filter(is_open).count();
        let mut seen = Self { told: BTreeMap::new(), topics: BTreeMap::new(), swept, checks, uncommitted };
        log.iter().for_each(|stored| seen.learn(stored));
        for call in &deployment.ledger.open().calls {
            if let Some((conversation, name)) =
                call.name.strip_prefix("webhook https://").and_then(|url| url.split_once('/'))
            {
                let told = seen.told.entry(conversation.to_owned()).or_default();
                told.posts.entry(name.to_owned()).or_default().push(call.submission.clone());
                continue;
            }
            let name = call.name.strip_prefix("summary of ");
            let told = seen.told.entry(name.or(call.name.split('/').next()).unwrap_or_default().to_owned());
            match name {
                Some(_) => told.or_default().summary_calls += 1,
                None => told.or_default().speech_calls += 1,
            }
        }
        for letter in world.dead_letters() {
            seen.told.entry(letter.conversation).or_default().dead += 1;
        }
        for entry in world.open_windows() {
            seen.told.entry(entry.conversation).or_default().open_windows += 1;
        }
        let owner = |key: &str| key.split('/').nth(1).unwrap_or_default().to_owned();
        for key in world.object_keys("") {
            seen.told.entry(owner(&key)).or_default().objects += 1;
        }
        for key in world.part_uploads() {
            seen.told.entry(owner(&key)).or_default().part_uploads += 1;
        }
        for (conversation, told) in &mut seen.told {
            told.jobs = world.jobs(conversation);
            told.rows = world.rows(conversation).len();
        }
        seen
    }

    fn learn(&mut self, stored: &Stored) {
        *self.topics.entry(stored.from.topic.to_string()).or_default() += 1;
        if matches!(stored.from.topic, Topic::Retry(..) | Topic::DeadLetter(_)) {
            return;
        }
        let Some(Ok(record)) = stored.record.value.as_ref().map(|value| decode(value)) else { return };
        let told = self.told.entry(record.conversation_id().to_owned()).or_default();
        match record {
            Record::Finalize(finalize) => told.finalizes.push((stored.record.time, finalize)),
            Record::Split(split) => told.splits.push(split),
            Record::Merge(merge) => told.merges.push(merge),
            Record::Summary(summary) => told.summaries.push(summary),
            Record::Conversation(status) => told.statuses.push(status),
            Record::Failure(failure) => told.failures.push(failure),
            Record::Delivery(delivery) => told.deliveries.push(delivery),
            _ => {}
        }
    }

    /// What of the expectations about a conversation does not hold; about `log`, how many records topics hold.
    pub(super) fn wrong(&self, conversation: &str, expected: &BTreeMap<&str, &str>) -> Option<String> {
        let none = Told::default();
        let told = self.told.get(conversation).unwrap_or(&none);
        let wrong = expected.iter().filter_map(|(key, expected)| {
            let found = match conversation {
                "log" if *key == "checks" => self.checks.to_string(),
                "log" if *key == "uncommitted" => self.uncommitted.to_string(),
                "log" => self.topics.get(*key).copied().unwrap_or(0).to_string(),
                "sweep" => self.swept(key),
                _ => told.word(key),
            };
            (found != *expected).then(|| format!("{key} is {found}"))
        });
        let wrong: Vec<String> = wrong.collect();
        (!wrong.is_empty()).then(|| wrong.join("; "))
    }

    /// A number of the last run of sweep, by its name in the report.
    fn swept(&self, key: &str) -> String {
        let report = serde_json::to_value(&self.swept).expect("a report is JSON");
        report.get(key).map_or_else(|| "none".to_owned(), ToString::to_string)
    }

    /// What tells the final manifests of conversations apart.
    pub(super) fn differs(&self, conversations: &[&str]) -> Option<String> {
        let say = |conversation: &&str| {
            let (_, last) = self.told.get(*conversation)?.finalizes.last()?;
            let chunks: Vec<_> = last
                .chunks
                .iter()
                .map(|chunk| (&chunk.chunk_id, &chunk.status, chunk.offset_ms, chunk.segments))
                .collect();
            Some(format!("{} {:?} {chunks:?} {:?}", last.outcome, last.counts, last.gaps))
        };
        let all: Vec<Option<String>> = conversations.iter().map(say).collect();
        let same = all.iter().all(|said| said.is_some() && *said == all[0]);
        (!same).then(|| format!("they differ: {all:#?}"))
    }
}

fn list(words: impl IntoIterator<Item = String>) -> String {
    let words: Vec<String> = words.into_iter().collect();
    if words.is_empty() { "none".to_owned() } else { words.join(",") }
}

/// A length of time since the beginning, as scenarios write it.
fn since(time: Timestamp) -> String {
    let (mut rest, mut text) = (time.0 - START.0, String::new());
    for (unit, millis) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)] {
        if rest >= millis {
            text += &format!("{}{unit}", rest / millis);
            rest %= millis;
        }
    }
    if text.is_empty() { "0".to_owned() } else { text }
}

fn ended(outcome: &str, code: Option<&str>) -> String {
    code.map_or_else(|| outcome.to_owned(), |code| format!("{outcome}:{code}"))
}

impl Told {
    fn last(&self) -> Option<&Finalize> {
        self.finalizes.last().map(|(_, last)| last)
    }

    fn word(&self, key: &str) -> String {
        let none = || "none".to_owned();
        let last = self.last();
        let digest = last.map(|last| last.digest.as_str());
        match key {
            "status" => self.statuses.last().map_or_else(none, |status| status.status.clone()),
            "statuses" => list(self.statuses.iter().map(|status| status.status.clone())),
            "retold" => {
                let pairs = self.statuses.windows(2);
                pairs.filter(|pair| pair[0].event_id == pair[1].event_id).count().to_string()
            }
            "erased" => self.statuses.last().is_some_and(|status| status.erased).to_string(),
            "revision" => last.map_or(0, |last| last.revision).to_string(),
            "revisions" => list(self.finalizes.iter().map(|(_, finalize)| finalize.revision.to_string())),
            "outcome" => last.map_or_else(none, |last| last.outcome.clone()),
            "cause" => last.map_or_else(none, |last| last.cause.clone()),
            "at" => self.finalizes.last().map_or_else(none, |(time, _)| since(*time)),
            "counts" => last.map_or_else(none, |last| {
                let counts = &last.counts;
                let all = [counts.chunks, counts.segments, counts.transcribed, counts.failed, counts.missing];
                all.map(|count| count.to_string()).join("/")
            }),
            "order" => list(last.iter().flat_map(|last| &last.chunks).map(|chunk| chunk.chunk_id.clone())),
            "offsets" => {
                list(last.iter().flat_map(|last| &last.chunks).map(|chunk| chunk.offset_ms.to_string()))
            }
            "gaps" => self.gaps(),
            "headers" => self.headers(),
            "merge" => {
                let own =
                    self.merges.iter().rev().find(|merge| Some(merge.finalize_digest.as_str()) == digest);
                own.map_or_else(none, |merge| ended(&merge.outcome, merge.code.as_deref()))
            }
            "merged" => {
                let own =
                    self.merges.iter().rev().find(|merge| Some(merge.finalize_digest.as_str()) == digest);
                list(own.iter().flat_map(|merge| &merge.inputs).map(|input| {
                    ended(&format!("{}:{}", input.chunk_id, input.status), input.code.as_deref())
                }))
            }
            "summary" => {
                let mut own = self.summaries.iter().rev();
                let own = own.find(|summary| Some(summary.finalize_digest.as_str()) == digest);
                own.map_or_else(none, |summary| ended(&summary.outcome, summary.code.as_deref()))
            }
            "said" => {
                let text = self.summaries.last().and_then(|summary| summary.text.clone());
                text.map_or_else(none, |text| text.replace(' ', "_"))
            }
            "posts" => list(self.posts.iter().map(|(name, ids)| {
                let each: BTreeSet<&String> = ids.iter().collect();
                format!("{name}:{}/{}", ids.len(), each.len())
            })),
            "deliveries" => list(self.deliveries.iter().map(|delivery| delivery.outcome.clone())),
            "merges" => self.merges.len().to_string(),
            "summaries" => self.summaries.len().to_string(),
            "calls" => self.speech_calls.to_string(),
            "summary-calls" => self.summary_calls.to_string(),
            "spent" => self.spent(),
            "dead" => self.dead.to_string(),
            "rows" => self.rows.to_string(),
            "objects" => self.objects.to_string(),
            "part-uploads" => self.part_uploads.to_string(),
            "jobs" => self.jobs.to_string(),
            "open-windows" => self.open_windows.to_string(),
            "failures" => self.failures(),
            other => panic!("nobody looks at {other:?}"),
        }
    }

    /// `slice:chunk`, where a slice was read behind another chunk's header; each once.
    fn headers(&self) -> String {
        let behind = self.splits.iter().filter_map(|split| {
            let header = split.container.as_ref()?.strip_prefix("text-behind-")?;
            Some(format!("{}:{header}", split.chunk_id))
        });
        list(behind.collect::<BTreeSet<String>>())
    }

    /// `code@chunk`, `code@chunk/segment`, `code~sequence`, or the code alone.
    fn gaps(&self) -> String {
        let gap = |gap: &hansard_schemas::Gap| {
            let chunk = gap.chunk_id.as_ref().map(|chunk| format!("@{chunk}")).unwrap_or_default();
            let segment = gap.segment.map(|segment| format!("/{segment}")).unwrap_or_default();
            let named = gap.chunk_id.is_some();
            let sequence = gap.sequence.filter(|_| !named).map(|n| format!("~{n}")).unwrap_or_default();
            format!("{}{chunk}{segment}{sequence}", gap.code)
        };
        list(self.last().iter().flat_map(|last| &last.gaps).map(gap))
    }

    /// `stage:code`, with `!` where it is terminal; each once.
    /// Tokens that the last summary's writer has read and written, and what they have cost.
    fn spent(&self) -> String {
        let Some(last) = self.summaries.last() else { return "none".to_owned() };
        let number =
            |number: Option<i64>| number.map_or_else(|| "none".to_owned(), |number| number.to_string());
        [last.tokens_in, last.tokens_out, last.cost_micros].map(number).join("/")
    }

    fn failures(&self) -> String {
        let all: BTreeSet<String> = self
            .failures
            .iter()
            .map(|f| format!("{}:{}{}", f.stage, f.code, if f.terminal { "!" } else { "" }))
            .collect();
        list(all)
    }
}
