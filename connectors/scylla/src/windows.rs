//! The index of open windows. Buckets by day keep partitions small; the days of a partition have an index of their own.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use futures::stream::{self, StreamExt, TryStreamExt};
use hansard_core::id::Partition;
use hansard_runtime::ports::PortError;
use hansard_runtime::ports::windows::{OpenWindow, Windows};
use scylla::statement::prepared::PreparedStatement;

use crate::ScyllaStore;
use crate::cql::{Cql, Insert, unreadable};
use crate::facts::{DELETED, FIXED};
use crate::value::{Columns, Value};

/// Days that are listed at the same time.
const DAYS_AT_ONCE: usize = 16;

/// The statements on open windows, and the days that are known to be in their index.
pub(crate) struct Statements {
    insert: PreparedStatement,
    remove: PreparedStatement,
    select: PreparedStatement,
    insert_day: PreparedStatement,
    select_days: PreparedStatement,
    known: Mutex<HashSet<(i32, i32)>>,
}

impl Statements {
    pub(crate) async fn prepare(cql: &Cql) -> Result<Self, PortError> {
        let statement = |text: &str| {
            text.replace("@fixed", &format!("USING TIMESTAMP {FIXED}"))
                .replace("@deleted", &format!("USING TIMESTAMP {DELETED}"))
        };
        let prepare = async |text: &str| cql.prepare(&statement(text)).await;
        Ok(Self {
            insert: prepare(
                "INSERT INTO {}.open_windows (partition, day, conversation, revision) VALUES (?, ?, ?, ?) @fixed",
            )
            .await?,
            remove: prepare(
                "DELETE FROM {}.open_windows @deleted WHERE partition = ? AND day = ? AND conversation = ? \
                 AND revision = ?",
            )
            .await?,
            select: prepare(
                "SELECT conversation, revision FROM {}.open_windows WHERE partition = ? AND day = ?",
            )
            .await?,
            insert_day: prepare("INSERT INTO {}.open_window_days (partition, day) VALUES (?, ?) @fixed").await?,
            select_days: prepare("SELECT day FROM {}.open_window_days WHERE partition = ? AND day >= ?").await?,
            known: Mutex::default(),
        })
    }

    fn by_day<'a>(
        statement: &'a PreparedStatement,
        entries: &'a [OpenWindow],
    ) -> BTreeMap<(i32, i32), Vec<Insert<'a>>> {
        let mut by_day: BTreeMap<_, Vec<Insert<'a>>> = BTreeMap::new();
        for entry in entries {
            let values = vec![
                Value::Int(entry.partition.0),
                Value::Int(entry.day),
                Value::Text(&entry.conversation),
                Value::Int(entry.revision),
            ];
            by_day.entry((entry.partition.0, entry.day)).or_default().push((statement, values));
        }
        by_day
    }
}

#[async_trait]
impl Windows for ScyllaStore {
    async fn insert(&self, entries: &[OpenWindow]) -> Result<(), PortError> {
        let store = self.connected().await?;
        let by_day = Statements::by_day(&store.windows.insert, entries);
        let new: Vec<(i32, i32)> = {
            let known = store.windows.known.lock().unwrap_or_else(PoisonError::into_inner);
            by_day.keys().filter(|day| !known.contains(day)).copied().collect()
        };
        // The day first: an entry whose day is unknown would not be found.
        let days = new.iter().map(|(partition, day)| {
            vec![(&store.windows.insert_day, vec![Value::Int(*partition), Value::Int(*day)])]
        });
        store.cql.write_all(days).await?;
        store.windows.known.lock().unwrap_or_else(PoisonError::into_inner).extend(new);
        store.cql.write_all(by_day.into_values()).await
    }

    async fn remove(&self, entries: &[OpenWindow]) -> Result<(), PortError> {
        let store = self.connected().await?;
        store.cql.write_all(Statements::by_day(&store.windows.remove, entries).into_values()).await
    }

    async fn list(&self, partition: Partition, since_day: i32) -> Result<Vec<OpenWindow>, PortError> {
        let store = self.connected().await?;
        let wrong = unreadable("open_windows");
        let names = ["day".to_owned()];
        let values = vec![Value::Int(partition.0), Value::Int(since_day)];
        let days = store.cql.select(&store.windows.select_days, values).await?;
        let days = days.into_iter().map(|row| Columns::new(&names, row).take("day").map_err(&wrong));
        let days: BTreeSet<i32> = days.collect::<Result<_, _>>()?;
        let entries: Vec<Vec<OpenWindow>> = stream::iter(days)
            .map(|day| self.day(partition, day))
            .buffered(DAYS_AT_ONCE)
            .try_collect()
            .await?;
        Ok(entries.concat())
    }
}

impl ScyllaStore {
    async fn day(&self, partition: Partition, day: i32) -> Result<Vec<OpenWindow>, PortError> {
        let store = self.connected().await?;
        let wrong = unreadable("open_windows");
        let names = ["conversation".to_owned(), "revision".to_owned()];
        let rows =
            store.cql.select(&store.windows.select, vec![Value::Int(partition.0), Value::Int(day)]).await?;
        rows.into_iter()
            .map(|row| {
                let mut columns = Columns::new(&names, row);
                let conversation = columns.take("conversation").map_err(&wrong)?;
                Ok(OpenWindow {
                    partition,
                    day,
                    conversation,
                    revision: columns.take("revision").map_err(&wrong)?,
                })
            })
            .collect()
    }
}
