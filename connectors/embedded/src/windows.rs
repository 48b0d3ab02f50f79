//! The index of open windows: one key per entry, and no value.

use async_trait::async_trait;
use hansard_core::id::Partition;
use hansard_runtime::ports::PortError;
use hansard_runtime::ports::windows::{OpenWindow, Windows};

use crate::error::StoreError;
use crate::keys::{self, Key, Parts};
use crate::log::Handle;
use crate::store::Space;
use crate::writer::{Op, Urgency};

/// The index of the engine.
pub(crate) struct LocalWindows(pub(crate) Handle);

fn entry(key: &[u8]) -> Option<OpenWindow> {
    let mut parts = Parts(key);
    Some(OpenWindow {
        partition: Partition(parts.i32()?),
        day: parts.i32()?,
        conversation: parts.name()?.to_owned(),
        revision: parts.i32()?,
    })
}

#[async_trait]
impl Windows for LocalWindows {
    async fn insert(&self, entries: &[OpenWindow]) -> Result<(), PortError> {
        let puts = entries.iter().map(|entry| Op::put(Space::Windows, keys::window(entry), Vec::new()));
        Ok(self.0.write(puts.collect(), Urgency::Soon).await?)
    }

    async fn remove(&self, entries: &[OpenWindow]) -> Result<(), PortError> {
        let removes = entries.iter().map(|entry| Op::remove(Space::Windows, keys::window(entry)));
        Ok(self.0.write(removes.collect(), Urgency::Soon).await?)
    }

    async fn list(&self, partition: Partition, since_day: i32) -> Result<Vec<OpenWindow>, PortError> {
        let from = Key::new().i32(partition.0).i32(since_day).build();
        // Partitions are far fewer than numbers, so there is a next one.
        let to = Key::new().i32(partition.0.saturating_add(1)).build();
        let read = self.0.read(move |shared| {
            shared.disk.with(|store| {
                let entries = store.space(Space::Windows).range(from..to).map(|guard| {
                    entry(&guard.key()?)
                        .ok_or_else(|| StoreError::corrupt("open window", "its key ends early"))
                });
                entries.collect()
            })
        });
        Ok(read.await?)
    }
}
