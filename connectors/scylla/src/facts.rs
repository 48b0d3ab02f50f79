//! Facts as rows, texts beside them, and the markers of erasures.

use std::collections::{BTreeMap, HashMap};

use async_trait::async_trait;
use bytes::Bytes;
use hansard_core::id::{Digest, Offset, Timestamp};
use hansard_runtime::ports::PortError;
use hansard_runtime::ports::facts::{Erasure, Erasures, Facts, Row, RowKey, TextKey};
use hansard_schemas::{Record, Transcript};
use scylla::statement::prepared::PreparedStatement;

use crate::ScyllaStore;
use crate::cql::{Cql, Insert, Values, corrupt, refused, unreadable};
use crate::records::{self, Kind, TEXTS, kinds};
use crate::schema::{fact_columns, text_columns};
use crate::value::{Columns, Value};

/// The write timestamp of rows of which all writes are alike: whoever writes one again, and whenever, writes the same.
pub(crate) const FIXED: i64 = 1;
/// The write timestamp of deletes, which therefore hold against writes that come late.
pub(crate) const DELETED: i64 = 2;
/// Texts that one request asks for.
const TEXTS_A_REQUEST: usize = 100;

/// The statements on facts, texts and erasures.
pub(crate) struct Statements {
    /// By kind, with the indexes of those of its fields that a fact's row has.
    insert: HashMap<&'static str, (PreparedStatement, Vec<usize>)>,
    insert_text: PreparedStatement,
    select: PreparedStatement,
    names: Vec<String>,
    select_texts: PreparedStatement,
    text_names: Vec<String>,
    first: PreparedStatement,
    further: PreparedStatement,
    delete: PreparedStatement,
    delete_texts: PreparedStatement,
    mark: PreparedStatement,
    marker: PreparedStatement,
    first_markers: PreparedStatement,
    further_markers: PreparedStatement,
}

/// A statement that inserts under the given write timestamp; of a hole, the last value is it.
fn insert(table: &str, columns: &[&str], timestamp: &str) -> String {
    let names: Vec<String> = columns.iter().map(|name| format!("\"{name}\"")).collect();
    let holes = vec!["?"; columns.len()].join(", ");
    format!("INSERT INTO {{}}.{table} ({}) VALUES ({holes}) USING TIMESTAMP {timestamp}", names.join(", "))
}

/// The write timestamp of what is written under one key more than once, of which the first by `rank` is to stand,
/// whichever is written last: it falls, and is never above [`FIXED`].
fn first_by(rank: i64) -> Value<'static> {
    Value::BigInt(FIXED - rank)
}

fn select(table: &str, columns: &[String], filter: &str) -> String {
    let names: Vec<String> = columns.iter().map(|name| format!("\"{name}\"")).collect();
    format!("SELECT {} FROM {{}}.{table} WHERE {filter}", names.join(", "))
}

const FACT_KEY: [&str; 8] =
    ["conversation", "kind", "chunk", "segment", "rank", "content", "log_offset", "logged_at"];
const TEXT_KEY: [&str; 4] = ["conversation", "chunk", "segment", "sha256"];

impl Statements {
    pub(crate) async fn prepare(cql: &Cql) -> Result<Self, PortError> {
        let mut inserts = HashMap::new();
        for (kind, columns) in kinds() {
            let stays = |name: &str| kind != "transcript" || !TEXTS.contains(&name);
            let own: Vec<usize> = (0..columns.len()).filter(|index| stays(columns[*index].0)).collect();
            let names: Vec<&str> =
                FACT_KEY.into_iter().chain(own.iter().map(|index| columns[*index].0)).collect();
            inserts.insert(kind, (cql.prepare(&insert("facts", &names, "?")).await?, own));
        }
        let text_fields = Transcript::columns();
        let text: Vec<&str> = TEXT_KEY.into_iter().chain(text_fields.iter().map(|(name, _)| *name)).collect();
        let names: Vec<String> = fact_columns().into_iter().map(|(name, _)| name).collect();
        let text_names: Vec<String> = text_columns().into_iter().map(|(name, _)| name).collect();
        let erase =
            |table| format!("DELETE FROM {{}}.{table} USING TIMESTAMP {DELETED} WHERE conversation = ?");
        let page = |filter: &str| {
            format!("SELECT DISTINCT conversation, token(conversation) FROM {{}}.facts {filter} LIMIT ?")
        };
        let markers = |filter: &str| {
            let columns = "conversation, token(conversation), erased_at, reason";
            format!("SELECT {columns} FROM {{}}.erasures {filter} LIMIT ?")
        };
        let texts_filter = "conversation = ? AND chunk = ? AND segment IN ?";
        Ok(Self {
            insert: inserts,
            insert_text: cql.prepare(&insert("texts", &text, &FIXED.to_string())).await?,
            select: cql.prepare(&select("facts", &names, "conversation = ?")).await?,
            names,
            select_texts: cql.prepare(&select("texts", &text_names, texts_filter)).await?,
            text_names,
            first: cql.prepare(&page("")).await?,
            further: cql.prepare(&page("WHERE token(conversation) >= ?")).await?,
            delete: cql.prepare(&erase("facts")).await?,
            delete_texts: cql.prepare(&erase("texts")).await?,
            mark: cql.prepare(&insert("erasures", &["conversation", "erased_at", "reason"], "?")).await?,
            first_markers: cql.prepare(&markers("")).await?,
            further_markers: cql.prepare(&markers("WHERE token(conversation) >= ?")).await?,
            marker: cql.prepare("SELECT erased_at, reason FROM {}.erasures WHERE conversation = ?").await?,
        })
    }

    fn fact<'a>(&'a self, row: &'a Row, key: &'a RowKey) -> Option<Insert<'a>> {
        let mut own = records::values(&row.record)?;
        let (statement, fields) = self.insert.get(key.kind)?;
        let mut values = vec![
            Value::Text(row.record.conversation_id()),
            Value::Text(key.kind),
            Value::Text(&key.chunk),
            Value::Int(key.segment),
            Value::BigInt(key.rank),
            Value::Blob(&key.content.0),
            Value::BigInt(row.offset.0),
            Value::Time(row.time.0),
        ];
        values.extend(fields.iter().map(|index| std::mem::replace(&mut own[*index], Value::Unset)));
        values.push(first_by(row.offset.0));
        Some((statement, values))
    }

    fn text<'a>(&'a self, transcript: &'a Transcript, key: &'a RowKey, sha256: &'a Digest) -> Insert<'a> {
        let mut values = vec![
            Value::Text(&transcript.conversation_id),
            Value::Text(&key.chunk),
            Value::Int(key.segment),
            Value::Blob(&sha256.0),
        ];
        values.extend(transcript.values());
        (&self.insert_text, values)
    }

    fn row(&self, conversation: &str, values: Values) -> Result<Row, PortError> {
        let mut columns = Columns::new(&self.names, values);
        let wrong = unreadable("facts");
        let kind: String = columns.take("kind").map_err(&wrong)?;
        let offset = Offset(columns.take("log_offset").map_err(&wrong)?);
        let time = Timestamp(columns.take("logged_at").map_err(&wrong)?);
        let record = records::read(&kind, conversation, &mut columns);
        let newer = || corrupt("row of facts", &format!("kind {kind} is unknown to this version"));
        Ok(Row { offset, time, record: Box::new(record.ok_or_else(newer)?.map_err(&wrong)?) })
    }
}

#[async_trait]
impl Facts for ScyllaStore {
    async fn write(&self, rows: &[Row]) -> Result<(), PortError> {
        let store = self.connected().await?;
        let keys: Vec<RowKey> = rows.iter().map(RowKey::of).collect();
        let digests = rows.iter().map(|row| match &*row.record {
            Record::Transcript(transcript) => transcript.text_sha256.parse().map(Some),
            _ => Ok(None),
        });
        let digests: Vec<Option<Digest>> =
            digests.collect::<Result<_, _>>().map_err(|error| refused(&format!("text_sha256: {error}")))?;
        let mut facts: BTreeMap<&str, Vec<Insert<'_>>> = BTreeMap::new();
        let mut texts: BTreeMap<&str, Vec<Insert<'_>>> = BTreeMap::new();
        for ((row, key), sha256) in rows.iter().zip(&keys).zip(&digests) {
            let conversation = row.record.conversation_id();
            let fact = store.facts.fact(row, key);
            let fact = fact.ok_or_else(|| refused(&format!("a {} is no fact", row.record.name())))?;
            facts.entry(conversation).or_default().push(fact);
            if let (Record::Transcript(transcript), Some(sha256)) = (&*row.record, sha256) {
                let text = store.facts.text(transcript, key, sha256);
                texts.entry(conversation).or_default().push(text);
            }
        }
        // A fact is not seen before its text is there.
        store.cql.write_all(texts.into_values()).await?;
        store.cql.write_all(facts.into_values()).await
    }

    async fn read(&self, conversation: &str) -> Result<Vec<Row>, PortError> {
        let store = self.connected().await?;
        let rows = store.cql.select(&store.facts.select, vec![Value::Text(conversation)]).await?;
        rows.into_iter().map(|values| store.facts.row(conversation, values)).collect()
    }

    async fn texts(
        &self,
        conversation: &str,
        keys: &[TextKey],
    ) -> Result<Vec<Option<Transcript>>, PortError> {
        let store = self.connected().await?;
        let mut by_chunk: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
        for key in keys {
            by_chunk.entry(&key.chunk).or_default().push(key.segment);
        }
        let mut requests = Vec::new();
        for (chunk, segments) in &mut by_chunk {
            segments.sort_unstable();
            segments.dedup();
            for some in segments.chunks(TEXTS_A_REQUEST) {
                let segments = Value::List(some.iter().map(|segment| Value::Int(*segment)).collect());
                let values = vec![Value::Text(conversation), Value::Text(chunk), segments];
                requests.push(store.cql.select(&store.facts.select_texts, values));
            }
        }
        let wrong = unreadable("texts");
        let mut found: HashMap<TextKey, Transcript> = HashMap::with_capacity(keys.len());
        for rows in futures::future::try_join_all(requests).await? {
            for values in rows {
                let mut columns = Columns::new(&store.facts.text_names, values);
                let sha256: Vec<u8> = columns.take("sha256").map_err(&wrong)?;
                let sha256 =
                    <[u8; 32]>::try_from(sha256).map_err(|_| corrupt("texts", &"sha256 is no digest"))?;
                let (chunk, segment) = (columns.take("chunk"), columns.take("segment"));
                let key = TextKey {
                    chunk: chunk.map_err(&wrong)?,
                    segment: segment.map_err(&wrong)?,
                    sha256: Digest(sha256),
                };
                found.insert(key, Transcript::read(conversation, &mut columns).map_err(&wrong)?);
            }
        }
        Ok(keys.iter().map(|key| found.get(key).cloned()).collect())
    }

    async fn conversations(
        &self,
        cursor: Option<Bytes>,
        limit: usize,
    ) -> Result<(Vec<String>, Option<Bytes>), PortError> {
        let store = self.connected().await?;
        let statements = [&store.facts.first, &store.facts.further];
        let wrong = unreadable("facts");
        self.page(statements, cursor, limit, |columns| columns.take("conversation").map_err(&wrong)).await
    }

    async fn erase(&self, conversation: &str, marker: Erasure) -> Result<(), PortError> {
        let store = self.connected().await?;
        let of = || Value::Text(conversation);
        let time = marker.time.0;
        let values = vec![of(), Value::Time(time), Value::Text(&marker.reason), first_by(time)];
        store.cql.write(&store.facts.mark, values).await?;
        store.cql.write(&store.facts.delete, vec![of()]).await?;
        store.cql.write(&store.facts.delete_texts, vec![of()]).await
    }

    async fn erasure(&self, conversation: &str) -> Result<Option<Erasure>, PortError> {
        let store = self.connected().await?;
        let row = store.cql.select(&store.facts.marker, vec![Value::Text(conversation)]).await?.pop();
        let names = ["erased_at".to_owned(), "reason".to_owned()];
        let wrong = unreadable("erasures");
        row.map(|values| {
            let mut columns = Columns::new(&names, values);
            let time = Timestamp(columns.take("erased_at").map_err(&wrong)?);
            Ok(Erasure { time, reason: columns.take("reason").map_err(&wrong)? })
        })
        .transpose()
    }
}

#[async_trait]
impl Erasures for ScyllaStore {
    async fn erasures(
        &self,
        cursor: Option<Bytes>,
        limit: usize,
    ) -> Result<(Vec<(String, Erasure)>, Option<Bytes>), PortError> {
        let store = self.connected().await?;
        let statements = [&store.facts.first_markers, &store.facts.further_markers];
        let wrong = unreadable("erasures");
        let read = |columns: &mut Columns<'_>| {
            let time = Timestamp(columns.take("erased_at").map_err(&wrong)?);
            let erasure = Erasure { time, reason: columns.take("reason").map_err(&wrong)? };
            Ok((columns.take("conversation").map_err(&wrong)?, erasure))
        };
        self.page(statements, cursor, limit, read).await
    }
}

impl ScyllaStore {
    /// A page of conversations, by the statement for the first page or that for further ones. The order is that of the
    /// partitions' tokens; two of one token are told apart by their ids.
    async fn page<T>(
        &self,
        [first, further]: [&PreparedStatement; 2],
        cursor: Option<Bytes>,
        limit: usize,
        read: impl Fn(&mut Columns<'_>) -> Result<T, PortError>,
    ) -> Result<(Vec<T>, Option<Bytes>), PortError> {
        let store = self.connected().await?;
        let after = cursor.as_ref().map(Cursor::parse).transpose()?;
        let wanted = i32::try_from(limit).unwrap_or(i32::MAX).saturating_add(1);
        let rows = match &after {
            None => store.cql.select(first, vec![Value::Int(wanted)]).await?,
            Some(after) => {
                let values = vec![Value::BigInt(after.token), Value::Int(wanted.saturating_add(1))];
                store.cql.select(further, values).await?
            }
        };
        let names = ["conversation", "token", "erased_at", "reason"].map(str::to_owned);
        let wrong = unreadable("page of conversations");
        let mut page = Vec::new();
        for values in rows {
            let mut columns = Columns::new(&names, values.clone());
            let conversation = columns.take("conversation").map_err(&wrong)?;
            let place = Cursor { token: columns.take("token").map_err(&wrong)?, conversation };
            if after.as_ref().is_none_or(|after| place > *after) {
                page.push((place, read(&mut Columns::new(&names, values))?));
            }
        }
        let more = page.len() > limit;
        page.truncate(limit);
        let next = page.last().filter(|_| more).map(|(place, _)| place.bytes());
        Ok((page.into_iter().map(|(_, row)| row).collect(), next))
    }
}

/// A place in the order of conversations.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Cursor {
    token: i64,
    conversation: String,
}

impl Cursor {
    fn bytes(&self) -> Bytes {
        [&self.token.to_be_bytes()[..], self.conversation.as_bytes()].concat().into()
    }

    fn parse(bytes: &Bytes) -> Result<Self, PortError> {
        let foreign = || refused(&"the cursor is not one of this store");
        let (token, conversation) = bytes.split_first_chunk::<8>().ok_or_else(foreign)?;
        let conversation = String::from_utf8(conversation.to_vec()).map_err(|_| foreign())?;
        Ok(Self { token: i64::from_be_bytes(*token), conversation })
    }
}
