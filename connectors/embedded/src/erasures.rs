//! The list of erased conversations: their markers, in the order of ids.

use async_trait::async_trait;
use bytes::Bytes;
use hansard_core::id::Timestamp;
use hansard_runtime::ports::PortError;
use hansard_runtime::ports::facts::{Erasure, Erasures};

use crate::error::StoreError;
use crate::keys::Parts;
use crate::load;
use crate::log::Handle;
use crate::store::Space;
use crate::writer::Fence;

/// The markers of the engine.
pub(crate) struct LocalErasures(pub(crate) Handle);

fn erasure(key: &[u8], value: &[u8]) -> Option<(String, Erasure)> {
    let id = String::from_utf8(key.get(1..)?.to_vec()).ok()?;
    let mut parts = Parts(value);
    let time = Timestamp(parts.i64()?);
    Some((id, Erasure { time, reason: String::from_utf8(parts.0.to_vec()).ok()? }))
}

#[async_trait]
impl Erasures for LocalErasures {
    async fn erasures(
        &self,
        cursor: Option<Bytes>,
        limit: usize,
    ) -> Result<(Vec<(String, Erasure)>, Option<Bytes>), PortError> {
        let from = load::marker(Fence::Facts, cursor.as_deref().unwrap_or_default());
        // Markers of the journal stand elsewhere, under a byte of their own.
        let kind = from.first().copied();
        let read = self.0.read(move |shared| {
            shared.disk.with(|store| {
                let mut page = Vec::new();
                for guard in store.space(Space::Erased).range(from.clone()..) {
                    let (key, value) = guard.into_inner()?;
                    if page.len() == limit || key.first().copied() != kind {
                        break;
                    }
                    if cursor.is_none() || key[..] != from[..] {
                        let short = || StoreError::corrupt("erasure", "it ends early");
                        page.push(erasure(&key, &value).ok_or_else(short)?);
                    }
                }
                Ok(page)
            })
        });
        let page = read.await?;
        let next = page.last().filter(|_| page.len() == limit).map(|(id, _)| Bytes::from(id.clone()));
        Ok((page, next))
    }
}
