//! Dead letters over HTTP: looking at them, sending them through again, giving them up.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use bytes::Bytes;
use hansard_core::id::{Offset, Partition, Timestamp};
use hansard_core::redelivery::header;
use hansard_runtime::ports::dead_letters::{DeadLetter, DeadLetterId, Verdict};
use hansard_runtime::ports::log::{Outgoing, TopicPartition};
use hansard_schemas::{Stage, Topic};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::Gateway;
use crate::caller::{Caller, Role};
use crate::problem::{Code, Problem};
use crate::read::as_json;
use crate::request::{Asked, Sent};

/// Letters that are read from the table at a time while a filter looks for matches.
const SCAN: usize = 500;

/// Which letters are meant; what is absent does not restrict.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Chosen {
    #[serde(default)]
    ids: Vec<String>,
    stage: Option<String>,
    class: Option<String>,
    code: Option<String>,
    conversation: Option<String>,
    older_than_s: Option<i64>,
    #[serde(default)]
    dry_run: bool,
    limit: Option<usize>,
}

#[derive(Deserialize)]
pub(crate) struct Listing {
    stage: Option<String>,
    class: Option<String>,
    code: Option<String>,
    conversation: Option<String>,
    older_than_s: Option<i64>,
    cursor: Option<String>,
    limit: Option<usize>,
}

#[derive(Serialize)]
struct Shown<'a> {
    id: String,
    stage: &'static str,
    topic: String,
    partition: i32,
    offset: i64,
    conversation: &'a str,
    class: &'a str,
    code: &'a str,
    cause: &'a str,
    attempts: u32,
    redrives: u32,
    at: i64,
    bytes: usize,
}

impl<'a> Shown<'a> {
    fn of(letter: &'a DeadLetter) -> Self {
        Self {
            id: name(&letter.id),
            stage: letter.id.stage.as_str(),
            topic: letter.id.origin.topic.to_string(),
            partition: letter.id.origin.partition.0,
            offset: letter.id.offset.0,
            conversation: &letter.conversation,
            class: &letter.class,
            code: &letter.code,
            cause: &letter.cause,
            attempts: letter.attempts,
            redrives: letter.redrives,
            at: letter.at.0,
            bytes: letter.value.as_ref().map_or(0, Bytes::len),
        }
    }
}

/// A letter's name in URLs: stage, topic, partition, offset.
fn name(id: &DeadLetterId) -> String {
    format!("{}:{}:{}:{}", id.stage, id.origin.topic, id.origin.partition.0, id.offset.0)
}

fn read_name(text: &str) -> Option<DeadLetterId> {
    let mut parts = text.split(':');
    let id = DeadLetterId {
        stage: parts.next()?.parse().ok()?,
        origin: TopicPartition {
            topic: parts.next()?.parse().ok()?,
            partition: Partition(parts.next()?.parse().ok()?),
        },
        offset: Offset(parts.next()?.parse().ok()?),
    };
    parts.next().is_none().then_some(id)
}

/// A filter over letters.
struct Filter {
    stages: Vec<Stage>,
    class: Option<String>,
    code: Option<String>,
    conversation: Option<String>,
    before: Option<Timestamp>,
}

impl Filter {
    fn of(
        stage: Option<&str>,
        rest: (Option<String>, Option<String>, Option<String>, Option<i64>),
        now: Timestamp,
    ) -> Result<Self, Problem> {
        let (class, code, conversation, older_than_s) = rest;
        let unknown = |_| Problem::new(Code::InvalidField, "stage is none of the dataflow's");
        let stages = match stage {
            Some(stage) => vec![stage.parse().map_err(unknown)?],
            None => Stage::ALL.to_vec(),
        };
        let before =
            older_than_s.map(|seconds| Timestamp(now.0.saturating_sub(seconds.saturating_mul(1_000))));
        Ok(Self { stages, class, code, conversation, before })
    }

    fn matches(&self, letter: &DeadLetter) -> bool {
        let is =
            |wanted: &Option<String>, value: &str| wanted.as_deref().is_none_or(|wanted| wanted == value);
        is(&self.class, &letter.class)
            && is(&self.code, &letter.code)
            && is(&self.conversation, &letter.conversation)
            && self.before.is_none_or(|before| letter.at <= before)
    }
}

/// A page of the letters that rest, oldest first within each stage.
pub(crate) async fn list(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    Asked(asked): Asked<Listing>,
) -> Result<Json<Value>, Problem> {
    caller.demand(Role::Operator)?;
    let rest = (asked.class, asked.code, asked.conversation, asked.older_than_s);
    let filter = Filter::of(asked.stage.as_deref(), rest, gateway.ports.clock.now())?;
    let unknown = || Problem::new(Code::InvalidCursor, "send `cursor` as `next` gave it");
    let after = match asked.cursor {
        Some(cursor) => {
            let text = BASE64.decode(cursor).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            Some(text.as_deref().and_then(read_name).ok_or_else(unknown)?)
        }
        None => None,
    };
    let limit = asked.limit.unwrap_or(gateway.config.limits.page).clamp(1, gateway.config.limits.page);
    let mut letters = gateway.matching(&filter, after, limit + 1).await?;
    let more = letters.len() > limit;
    letters.truncate(limit);
    let next = letters.last().filter(|_| more).map(|last| BASE64.encode(name(&last.id)));
    let shown: Vec<Shown<'_>> = letters.iter().map(Shown::of).collect();
    Ok(Json(json!({ "dead_letters": as_json(&shown)?, "next": next })))
}

/// One letter with its headers and, where it can be decoded, its record.
pub(crate) async fn show(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, Problem> {
    caller.demand(Role::Operator)?;
    let letter = gateway.letter(&id).await?;
    let mut shown = as_json(&Shown::of(&letter))?;
    let headers: Vec<(&str, String)> = letter
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value).into_owned()))
        .collect();
    let record = match &letter.value {
        Some(value) => gateway.ports.decode(value).await.ok(),
        None => None,
    };
    shown["headers"] = as_json(&headers)?;
    shown["record"] = as_json(&record)?;
    Ok(Json(shown))
}

/// Sends letters through their stage's first retry topic again; what has succeeded since is answered from the journal.
pub(crate) async fn redrive(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    sent: Sent,
) -> Result<Json<Value>, Problem> {
    caller.demand(Role::Operator)?;
    let chosen: Chosen = sent.json().await?;
    let dry_run = chosen.dry_run;
    let (letters, more) = gateway.chosen(chosen).await?;
    if !dry_run {
        for letter in &letters {
            // In this order a crash between the two leaves the letter listed, and a second redrive is harmless.
            gateway.ports.log.append(vec![again(letter)]).await?;
            let verdict = Verdict::Redriven { redrives: letter.redrives };
            gateway.ports.dead_letters.judge(letter.id, verdict, gateway.ports.clock.now()).await?;
        }
        tracing::info!(count = letters.len(), by = caller.name(), "dead letters were redriven");
    }
    judged(&letters, "redriven", dry_run, more)
}

/// Gives letters up: they are no longer listed. The records themselves stay in the topic as long as it keeps them.
pub(crate) async fn dismiss(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    sent: Sent,
) -> Result<Json<Value>, Problem> {
    caller.demand(Role::Operator)?;
    let chosen: Chosen = sent.json().await?;
    let dry_run = chosen.dry_run;
    let (letters, more) = gateway.chosen(chosen).await?;
    if !dry_run {
        for letter in &letters {
            let verdict = Verdict::Dismissed { redrives: letter.redrives };
            gateway.ports.dead_letters.judge(letter.id, verdict, gateway.ports.clock.now()).await?;
        }
        tracing::info!(count = letters.len(), by = caller.name(), "dead letters were dismissed");
    }
    judged(&letters, "dismissed", dry_run, more)
}

fn judged(letters: &[DeadLetter], what: &str, dry_run: bool, more: bool) -> Result<Json<Value>, Problem> {
    let shown: Vec<Shown<'_>> = letters.iter().map(Shown::of).collect();
    let done = if dry_run { 0 } else { letters.len() };
    Ok(Json(json!({
        "matched": letters.len(), what: done, "dry_run": dry_run, "more": more, "dead_letters": as_json(&shown)?,
    })))
}

/// The original bytes on their way through the first retry topic, with no failure counted and one redrive more.
fn again(letter: &DeadLetter) -> Outgoing {
    let renewed = [header::ATTEMPT, header::REDRIVES, header::NOT_BEFORE];
    let mut headers: Vec<(String, Bytes)> =
        letter.headers.iter().filter(|(name, _)| !renewed.contains(&name.as_str())).cloned().collect();
    headers.push((header::ATTEMPT.to_owned(), Bytes::from_static(b"0")));
    headers.push((header::REDRIVES.to_owned(), Bytes::from(letter.redrives.saturating_add(1).to_string())));
    Outgoing {
        to: TopicPartition { topic: Topic::Retry(letter.id.stage, 1), partition: letter.id.origin.partition },
        key: letter.key.clone(),
        value: letter.value.clone(),
        headers,
    }
}

impl Gateway {
    async fn letter(&self, id: &str) -> Result<DeadLetter, Problem> {
        let unknown = || Problem::new(Code::UnknownDeadLetter, format!("no dead letter {id:?} rests"));
        let id = read_name(id).ok_or_else(unknown)?;
        self.ports.dead_letters.get(id).await?.ok_or_else(unknown)
    }

    /// The letters that are meant, at most the cap, and whether there are more.
    async fn chosen(&self, chosen: Chosen) -> Result<(Vec<DeadLetter>, bool), Problem> {
        let cap = self.config.limits.redrive;
        let limit = chosen.limit.unwrap_or(cap).min(cap);
        if !chosen.ids.is_empty() {
            let mut letters = Vec::new();
            for id in chosen.ids.iter().take(limit) {
                letters.push(self.letter(id).await?);
            }
            return Ok((letters, chosen.ids.len() > limit));
        }
        let rest = (chosen.class, chosen.code, chosen.conversation, chosen.older_than_s);
        let filter = Filter::of(chosen.stage.as_deref(), rest, self.ports.clock.now())?;
        let mut letters = self.matching(&filter, None, limit.saturating_add(1)).await?;
        let more = letters.len() > limit;
        letters.truncate(limit);
        Ok((letters, more))
    }

    /// Matching letters, stage by stage, after `after`.
    async fn matching(
        &self,
        filter: &Filter,
        after: Option<DeadLetterId>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, Problem> {
        let mut found = Vec::new();
        let begun = after.map(|after| after.stage);
        for stage in filter.stages.iter().skip_while(|stage| begun.is_some_and(|begun| begun != **stage)) {
            let mut after = after.filter(|after| after.stage == *stage);
            loop {
                let page = self.ports.dead_letters.list(*stage, after, SCAN).await?;
                let whole = page.len() == SCAN;
                after = page.last().map(|letter| letter.id).or(after);
                for letter in page {
                    if filter.matches(&letter) {
                        found.push(letter);
                        if found.len() == limit {
                            return Ok(found);
                        }
                    }
                }
                if !whole {
                    break;
                }
            }
        }
        Ok(found)
    }
}
