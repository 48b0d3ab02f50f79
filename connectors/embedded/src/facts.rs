//! The facts port: groups of rows in one keyspace, of texts in another, markers of erasures in a third.
//!
//! Rows get no sync of their own: they go into the store's journal before the transaction that rests on them, whose
//! sync covers them. Beside a log of another kind they do (`Config::rows_synced`).

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use hansard_core::id::Timestamp;
use hansard_runtime::ports::PortError;
use hansard_runtime::ports::facts::{Erasure, Facts, Row, TextKey};
use hansard_schemas::Transcript;

use crate::error::StoreError;
use crate::keys::{self, Key, Parts};
use crate::load;
use crate::log::Handle;
use crate::rows::{self, Rows, Texts};
use crate::store::Space;
use crate::writer::{Fence, Op, Shared, Urgency};

/// An erasure deletes so many keys in one batch.
const DELETES: usize = 4096;

/// The facts of the engine.
pub(crate) struct LocalFacts(pub(crate) Handle);

fn rows(shared: &Shared, conversation: &str) -> Result<Vec<Row>, StoreError> {
    shared.disk.with(|store| {
        let mut rows = Rows::default();
        if !shared.is_erased(store, Fence::Facts, conversation.as_bytes())? {
            for guard in store.space(Space::Facts).prefix(keys::conversation(conversation)) {
                rows.unpack(&guard.value()?)?;
            }
        }
        Ok(rows.rows())
    })
}

fn texts(
    shared: &Shared,
    conversation: &str,
    wanted: &[TextKey],
) -> Result<Vec<Option<Transcript>>, StoreError> {
    shared.disk.with(|store| {
        let mut texts = Texts::wanted(wanted);
        if !wanted.is_empty() && !shared.is_erased(store, Fence::Facts, conversation.as_bytes())? {
            for guard in store.space(Space::Texts).prefix(keys::conversation(conversation)) {
                texts.unpack(&guard.value()?)?;
            }
        }
        Ok(texts.found(wanted))
    })
}

/// Goes from each conversation's first row to behind its last.
fn ids(shared: &Shared, after: Option<&[u8]>, limit: usize) -> Result<Vec<String>, StoreError> {
    shared.disk.with(|store| {
        let mut ids = Vec::new();
        let mut from = after.map_or_else(Vec::new, |id| Key::new().bytes(id).byte(1).build());
        while ids.len() < limit
            && let Some(guard) = store.space(Space::Facts).range(from.clone()..).next()
        {
            let key = guard.key()?;
            let id = keys::conversation_of(&key);
            let text =
                std::str::from_utf8(id).map_err(|error| StoreError::corrupt("conversation id", error))?;
            from = keys::after_conversation(text);
            if !shared.is_erased(store, Fence::Facts, id)? {
                ids.push(text.to_owned());
            }
        }
        Ok(ids)
    })
}

/// Removes all keys of a conversation from some keyspaces, in bounded steps.
pub(crate) async fn remove_all(
    handle: &Handle,
    conversation: &str,
    spaces: &'static [Space],
) -> Result<(), StoreError> {
    let prefix: Arc<[u8]> = keys::conversation(conversation).into();
    loop {
        let prefix = Arc::clone(&prefix);
        let removes = handle.read(move |shared| {
            shared.disk.with(|store| {
                let keys = spaces.iter().flat_map(|space| {
                    let keys = store.space(*space).prefix(&prefix);
                    keys.map(|guard| Ok(Op::remove(*space, guard.key()?)))
                });
                keys.take(DELETES).collect::<Result<Vec<_>, StoreError>>()
            })
        });
        let removes = removes.await?;
        if removes.is_empty() {
            return Ok(());
        }
        handle.write(removes, Urgency::Freeing).await?;
    }
}

#[async_trait]
impl Facts for LocalFacts {
    async fn write(&self, rows: &[Row]) -> Result<(), PortError> {
        let urgency = if self.0.shared.config.rows_synced { Urgency::Synced } else { Urgency::Soon };
        Ok(self.0.write(rows::pack(rows)?, urgency).await?)
    }

    async fn read(&self, conversation: &str) -> Result<Vec<Row>, PortError> {
        let conversation = conversation.to_owned();
        Ok(self.0.read(move |shared| rows(shared, &conversation)).await?)
    }

    async fn texts(
        &self,
        conversation: &str,
        keys: &[TextKey],
    ) -> Result<Vec<Option<Transcript>>, PortError> {
        let (conversation, keys) = (conversation.to_owned(), keys.to_vec());
        Ok(self.0.read(move |shared| texts(shared, &conversation, &keys)).await?)
    }

    async fn conversations(
        &self,
        cursor: Option<Bytes>,
        limit: usize,
    ) -> Result<(Vec<String>, Option<Bytes>), PortError> {
        let ids = self.0.read(move |shared| ids(shared, cursor.as_deref(), limit)).await?;
        // A full page may be the last; then the next is empty.
        let next = ids.last().filter(|_| ids.len() == limit).map(|id| Bytes::copy_from_slice(id.as_bytes()));
        Ok((ids, next))
    }

    async fn erase(&self, conversation: &str, marker: Erasure) -> Result<(), PortError> {
        if self.erasure(conversation).await?.is_none_or(|first| marker.time < first.time) {
            let key = load::marker(Fence::Facts, conversation.as_bytes());
            let value = Key::new().i64(marker.time.0).bytes(marker.reason.as_bytes()).build();
            self.0.write(vec![Op::put(Space::Erased, key, value)], Urgency::Freeing).await?;
        }
        Ok(remove_all(&self.0, conversation, &[Space::Facts, Space::Texts]).await?)
    }

    async fn erasure(&self, conversation: &str) -> Result<Option<Erasure>, PortError> {
        // A point read, of microseconds: every stage asks this for every record.
        let shared = &self.0.shared;
        let erasure = shared.disk.with(|store| {
            if !shared.is_erased(store, Fence::Facts, conversation.as_bytes())? {
                return Ok(None);
            }
            store.space(Space::Erased).get(load::marker(Fence::Facts, conversation.as_bytes()))?.map_or(
                Ok(None),
                |value| {
                    let short = || StoreError::corrupt("erasure", "it ends early");
                    let mut parts = Parts(&value);
                    let time = Timestamp(parts.i64().ok_or_else(short)?);
                    let reason = String::from_utf8(parts.0.to_vec());
                    let reason = reason.map_err(|error| StoreError::corrupt("erasure", error))?;
                    Ok(Some(Erasure { time, reason }))
                },
            )
        });
        Ok(erasure?)
    }
}
