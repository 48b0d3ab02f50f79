//! Dead letters as rows: by origin, where the letter and the verdicts on it stand; by time, for listing; and by
//! conversation, for its erasure.

use std::collections::BTreeSet;

use async_trait::async_trait;
use bytes::Bytes;
use hansard_core::id::{Offset, Partition, Timestamp};
use hansard_runtime::ports::PortError;
use hansard_runtime::ports::dead_letters::{DeadLetter, DeadLetterId, DeadLetters, Verdict};
use hansard_runtime::ports::log::TopicPartition;
use hansard_schemas::Stage;
use scylla::statement::prepared::PreparedStatement;
use scylla::value::CqlValue;

use crate::ScyllaStore;
use crate::cql::{Cql, Values, corrupt, unreadable};
use crate::facts::{DELETED, FIXED};
use crate::value::{Column, Columns, Value};

const DAY_MS: i64 = 86_400_000;
/// What a letter is read by, without its key.
const COLUMNS: &str =
    "redrives, conversation, class, code, cause, attempts, rested_at, key, value, headers, verdict";

/// The statements on dead letters.
pub(crate) struct Statements {
    insert: PreparedStatement,
    judge: PreparedStatement,
    strip: PreparedStatement,
    select: PreparedStatement,
    delete: PreparedStatement,
    insert_time: PreparedStatement,
    delete_time: PreparedStatement,
    select_time: PreparedStatement,
    insert_day: PreparedStatement,
    select_days: PreparedStatement,
    insert_conversation: PreparedStatement,
    select_conversation: PreparedStatement,
    delete_conversation: PreparedStatement,
}

impl Statements {
    pub(crate) async fn prepare(cql: &Cql) -> Result<Self, PortError> {
        const ORIGIN: &str = "origin_topic, origin_partition, origin_offset";
        const BY_ORIGIN: &str =
            "stage = ? AND origin_topic = ? AND origin_partition = ? AND origin_offset = ?";
        let insert = async |table: &str, columns: &str| {
            let holes = vec!["?"; columns.split(',').count()].join(", ");
            cql.prepare(&format!(
                "INSERT INTO {{}}.{table} ({columns}) VALUES ({holes}) USING TIMESTAMP {FIXED}"
            ))
            .await
        };
        let delete = async |what: &str, filter: &str| {
            cql.prepare(&format!("DELETE {what} USING TIMESTAMP {DELETED} WHERE {filter}")).await
        };
        let place = format!("stage, {ORIGIN}, redrives");
        let letter = format!("stage, {ORIGIN}, {}", COLUMNS.trim_end_matches(", verdict"));
        let by_time = format!("SELECT rested_at, {ORIGIN}, redrives FROM {{}}.dead_letters_by_time");
        let select = format!("SELECT {COLUMNS} FROM {{}}.dead_letters WHERE {BY_ORIGIN}");
        let conversation =
            format!("SELECT stage, {ORIGIN} FROM {{}}.dead_letters_by_conversation WHERE conversation = ?");
        let at_time = "stage = ? AND day = ? AND rested_at = ? AND origin_topic = ? AND origin_partition = ? \
                       AND origin_offset = ? AND redrives = ?";
        Ok(Self {
            insert: insert("dead_letters", &letter).await?,
            judge: insert("dead_letters", &format!("{place}, verdict, judged_at")).await?,
            strip: delete(
                "key, value, headers FROM {}.dead_letters",
                &format!("{BY_ORIGIN} AND redrives = ?"),
            )
            .await?,
            select: cql.prepare(&select).await?,
            delete: delete("FROM {}.dead_letters", BY_ORIGIN).await?,
            insert_time: insert(
                "dead_letters_by_time",
                &format!("stage, day, rested_at, {ORIGIN}, redrives"),
            )
            .await?,
            delete_time: delete("FROM {}.dead_letters_by_time", at_time).await?,
            select_time: cql.prepare(&format!("{by_time} WHERE stage = ? AND day = ?")).await?,
            insert_day: insert("dead_letter_days", "stage, day").await?,
            select_days: cql
                .prepare("SELECT day FROM {}.dead_letter_days WHERE stage = ? AND day >= ?")
                .await?,
            insert_conversation: insert(
                "dead_letters_by_conversation",
                &format!("conversation, stage, {ORIGIN}"),
            )
            .await?,
            select_conversation: cql.prepare(&conversation).await?,
            delete_conversation: delete("FROM {}.dead_letters_by_conversation", "conversation = ?").await?,
        })
    }
}

/// The letter's origin as columns; the name of its topic has to live as long.
fn origin<'a>(id: &DeadLetterId, topic: &'a str) -> Vec<Value<'a>> {
    vec![
        Value::Text(id.stage.as_str()),
        Value::Text(topic),
        Value::Int(id.origin.partition.0),
        Value::BigInt(id.offset.0),
    ]
}

fn redrives(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// The UTC day of a time, by which the list is cut into partitions.
fn day(at: Timestamp) -> i32 {
    i32::try_from(at.0.div_euclid(DAY_MS)).unwrap_or(i32::MAX)
}

/// The place of a letter in the list.
fn place<'a>(id: &DeadLetterId, topic: &'a str, at: Timestamp, count: u32) -> Vec<Value<'a>> {
    let mut values = vec![Value::Text(id.stage.as_str()), Value::Int(day(at)), Value::Time(at.0)];
    values.extend(origin(id, topic).split_off(1));
    values.push(Value::Int(redrives(count)));
    values
}

/// What the rows of one origin say.
struct Rested {
    /// The letters, each a time that it came to rest.
    letters: Vec<DeadLetter>,
    /// The highest `redrives` that was judged.
    judged: Option<u32>,
}

impl Rested {
    /// The letter, if it rests: nobody has judged it since it came to rest last.
    fn resting(self) -> Option<DeadLetter> {
        let last = self.letters.into_iter().max_by_key(|letter| letter.redrives)?;
        (self.judged < Some(last.redrives)).then_some(last)
    }
}

impl ScyllaStore {
    async fn rested(&self, id: DeadLetterId) -> Result<Rested, PortError> {
        let store = self.connected().await?;
        let topic = id.origin.topic.to_string();
        let names: Vec<String> = COLUMNS.split(", ").map(str::to_owned).collect();
        let mut rested = Rested { letters: Vec::new(), judged: None };
        for row in store.cql.select(&store.dead_letters.select, origin(&id, &topic)).await? {
            let wrong = unreadable("dead_letters");
            let mut columns = Columns::new(&names, row);
            let count: i32 = columns.take("redrives").map_err(&wrong)?;
            let count = u32::try_from(count).map_err(|error| corrupt("dead_letters", &error))?;
            if columns.take::<Option<String>>("verdict").map_err(&wrong)?.is_some() {
                rested.judged = rested.judged.max(Some(count));
            }
            // A verdict alone, where the letter was erased or is still to be written, has no time.
            let Some(at) = columns.take::<Option<i64>>("rested_at").map_err(&wrong)? else { continue };
            let attempts: i32 = columns.take("attempts").map_err(&wrong)?;
            let headers: Vec<Header> = columns.take("headers").map_err(&wrong)?;
            let bytes = |value: Option<Vec<u8>>| value.map(Bytes::from);
            rested.letters.push(DeadLetter {
                id,
                conversation: columns.take("conversation").map_err(&wrong)?,
                class: columns.take("class").map_err(&wrong)?,
                code: columns.take("code").map_err(&wrong)?,
                cause: columns.take("cause").map_err(&wrong)?,
                attempts: attempts.unsigned_abs(),
                redrives: count,
                at: Timestamp(at),
                key: bytes(columns.take("key").map_err(&wrong)?),
                value: bytes(columns.take("value").map_err(&wrong)?),
                headers: headers.into_iter().map(|Header { name, value }| (name, value.into())).collect(),
            });
        }
        Ok(rested)
    }

    async fn write_letter(&self, letter: &DeadLetter) -> Result<(), PortError> {
        let store = self.connected().await?;
        let (id, statements) = (&letter.id, &store.dead_letters);
        let topic = id.origin.topic.to_string();
        if !letter.conversation.is_empty() {
            let mut values = vec![Value::Text(&letter.conversation)];
            values.extend(origin(id, &topic));
            store.cql.write(&statements.insert_conversation, values).await?;
        }
        let of_day = vec![Value::Text(id.stage.as_str()), Value::Int(day(letter.at))];
        store.cql.write(&statements.insert_day, of_day).await?;
        let headers = letter.headers.iter().map(|(name, value)| {
            Value::Part(vec![("name", Value::Text(name)), ("value", Value::Blob(value))])
        });
        let headers: Vec<Value<'_>> = headers.collect();
        let mut values = origin(id, &topic);
        values.extend([
            Value::Int(redrives(letter.redrives)),
            Value::Text(&letter.conversation),
            Value::Text(&letter.class),
            Value::Text(&letter.code),
            Value::Text(&letter.cause),
            Value::Int(i32::try_from(letter.attempts).unwrap_or(i32::MAX)),
            Value::Time(letter.at.0),
            letter.key.as_ref().map_or(Value::Unset, |key| Value::Blob(key)),
            letter.value.as_ref().map_or(Value::Unset, |value| Value::Blob(value)),
            if headers.is_empty() { Value::Unset } else { Value::List(headers) },
        ]);
        store.cql.write(&statements.insert, values).await?;
        // Last: what is listed is there.
        store.cql.write(&statements.insert_time, place(id, &topic, letter.at, letter.redrives)).await
    }

    /// The days since `since` on which letters of a stage came to rest.
    async fn days(&self, stage: Stage, since: i32) -> Result<BTreeSet<i32>, PortError> {
        let store = self.connected().await?;
        let values = vec![Value::Text(stage.as_str()), Value::Int(since)];
        let days = store.cql.select(&store.dead_letters.select_days, values).await?;
        let (names, wrong) = (["day".to_owned()], unreadable("dead_letter_days"));
        days.into_iter().map(|row| Columns::new(&names, row).take("day").map_err(&wrong)).collect()
    }

    /// What came to rest on a day, in order of time; judged letters may be among them.
    async fn listed(&self, stage: Stage, day: i32) -> Result<Vec<(Timestamp, DeadLetterId, u32)>, PortError> {
        let store = self.connected().await?;
        let values = vec![Value::Text(stage.as_str()), Value::Int(day)];
        let rows = store.cql.select(&store.dead_letters.select_time, values).await?;
        rows.into_iter().map(|row| listed(stage, row)).collect()
    }

    /// The resting letters of one day after `after`, oldest first, at most `limit`.
    async fn day_of(
        &self,
        stage: Stage,
        day: i32,
        after: Option<(Timestamp, DeadLetterId)>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, PortError> {
        let mut listed = self.listed(stage, day).await?;
        listed.retain(|(at, id, _)| after.is_none_or(|after| (*at, *id) > after));
        let mut letters = Vec::new();
        for some in listed.chunks(limit.clamp(1, 100)) {
            let rested =
                futures::future::try_join_all(some.iter().map(|(_, id, _)| self.rested(*id))).await?;
            for ((at, _, count), rested) in some.iter().zip(rested) {
                // An older time of the same letter stays in the list until somebody judges it.
                let present = |letter: &DeadLetter| letter.at == *at && letter.redrives == *count;
                letters.extend(rested.resting().filter(present));
            }
            if letters.len() >= limit {
                letters.truncate(limit);
                break;
            }
        }
        Ok(letters)
    }
}

fn listed(stage: Stage, row: Values) -> Result<(Timestamp, DeadLetterId, u32), PortError> {
    let wrong = unreadable("dead_letters_by_time");
    let names = ["rested_at", "topic", "partition", "offset", "redrives"].map(str::to_owned);
    let mut columns = Columns::new(&names, row);
    let at = Timestamp(columns.take("rested_at").map_err(&wrong)?);
    let count: i32 = columns.take("redrives").map_err(&wrong)?;
    Ok((at, identified(stage, &mut columns)?, count.unsigned_abs()))
}

/// The id from the columns `topic`, `partition` and `offset`.
fn identified(stage: Stage, columns: &mut Columns<'_>) -> Result<DeadLetterId, PortError> {
    let wrong = unreadable("dead letters' index");
    let topic: String = columns.take("topic").map_err(&wrong)?;
    let topic = topic.parse().map_err(|error| corrupt("dead letters' index", &error))?;
    let partition = Partition(columns.take("partition").map_err(&wrong)?);
    let offset = Offset(columns.take("offset").map_err(&wrong)?);
    Ok(DeadLetterId { stage, origin: TopicPartition { topic, partition }, offset })
}

#[async_trait]
impl DeadLetters for ScyllaStore {
    async fn write(&self, letters: &[DeadLetter]) -> Result<(), PortError> {
        futures::future::try_join_all(letters.iter().map(|letter| self.write_letter(letter))).await.map(drop)
    }

    async fn judge(&self, id: DeadLetterId, verdict: Verdict, at: Timestamp) -> Result<(), PortError> {
        let store = self.connected().await?;
        let (word, count) = match verdict {
            Verdict::Redriven { redrives } => ("redriven", redrives),
            Verdict::Dismissed { redrives } => ("dismissed", redrives),
        };
        let topic = id.origin.topic.to_string();
        let mut values = origin(&id, &topic);
        values.extend([Value::Int(redrives(count)), Value::Text(word), Value::Time(at.0)]);
        store.cql.write(&store.dead_letters.judge, values).await?;
        // What was judged need not be kept, nor passed over at each listing.
        for letter in self.rested(id).await?.letters.iter().filter(|letter| letter.redrives <= count) {
            let values = place(&id, &topic, letter.at, letter.redrives);
            store.cql.write(&store.dead_letters.delete_time, values).await?;
            let mut values = origin(&id, &topic);
            values.push(Value::Int(redrives(letter.redrives)));
            store.cql.write(&store.dead_letters.strip, values).await?;
        }
        Ok(())
    }

    async fn list(
        &self,
        stage: Stage,
        after: Option<DeadLetterId>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, PortError> {
        // Where the page ended is known by when that letter came to rest, judged or not.
        let after = match after {
            Some(id) => self.rested(id).await?.letters.iter().map(|letter| (letter.at, id)).max(),
            None => None,
        };
        let mut letters = Vec::new();
        for day in self.days(stage, after.map_or(i32::MIN, |(at, _)| day(at))).await? {
            letters.extend(self.day_of(stage, day, after, limit - letters.len()).await?);
            if letters.len() >= limit {
                break;
            }
        }
        Ok(letters)
    }

    async fn depth(&self, stage: Stage) -> Result<u64, PortError> {
        let mut resting = BTreeSet::new();
        for day in self.days(stage, i32::MIN).await? {
            resting.extend(self.listed(stage, day).await?.into_iter().map(|(_, id, _)| id));
        }
        Ok(resting.len() as u64)
    }

    async fn get(&self, id: DeadLetterId) -> Result<Option<DeadLetter>, PortError> {
        Ok(self.rested(id).await?.resting())
    }

    async fn erase(&self, conversation: &str) -> Result<(), PortError> {
        let store = self.connected().await?;
        let statements = &store.dead_letters;
        let names = ["stage", "topic", "partition", "offset"].map(str::to_owned);
        let wrong = unreadable("dead_letters_by_conversation");
        for row in store.cql.select(&statements.select_conversation, vec![Value::Text(conversation)]).await? {
            let mut columns = Columns::new(&names, row);
            let stage: String = columns.take("stage").map_err(&wrong)?;
            let stage = stage.parse().map_err(|error| corrupt("dead_letters_by_conversation", &error))?;
            let id = identified(stage, &mut columns)?;
            let topic = id.origin.topic.to_string();
            for letter in self.rested(id).await?.letters {
                let values = place(&id, &topic, letter.at, letter.redrives);
                store.cql.write(&statements.delete_time, values).await?;
            }
            store.cql.write(&statements.delete, origin(&id, &topic)).await?;
        }
        store.cql.write(&statements.delete_conversation, vec![Value::Text(conversation)]).await
    }
}

/// A header as it stands in its column.
struct Header {
    name: String,
    value: Vec<u8>,
}

impl Column for Header {
    fn cql_type() -> String {
        "frozen<header>".to_owned()
    }
    fn value(&self) -> Value<'_> {
        Value::Part(vec![("name", Value::Text(&self.name)), ("value", Value::Blob(&self.value))])
    }
    fn read(value: Option<CqlValue>) -> Option<Self> {
        let Some(CqlValue::UserDefinedType { fields, .. }) = value else { return None };
        let mut values = fields.into_iter().map(|(_, value)| value);
        Some(Self { name: Column::read(values.next()?)?, value: Column::read(values.next()?)? })
    }
}
