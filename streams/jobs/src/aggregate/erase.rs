//! Erasures: which of retention's come too late, and carrying the others out.

use hansard_core::Window;
use hansard_core::id::Timestamp;
use hansard_runtime::ports::facts::{Erasure, Row};
use hansard_runtime::stage::Failed;
use hansard_schemas::Record;

use super::{Aggregate, Known, Place};

impl Known {
    /// Whether it is an erasure by retention.
    fn expires(&self) -> bool {
        matches!(&*self.row.record, Record::Erase(erase) if erase.reason.as_deref() == Some("retention"))
    }
}

impl Aggregate {
    /// Leaves out the erasures by retention of conversations that have got something newer since sweep looked. What was
    /// erased stays so. A retention's Erase is no row before it is judged, so that a replay judges alike, or spares what
    /// has come since.
    pub(super) async fn spare(&mut self, mut known: Vec<Known>) -> Result<Vec<Known>, Failed> {
        let Some(expire_after) = self.config.expire_after else { return Ok(known) };
        let expiring: Vec<(Place, Timestamp)> = known
            .iter()
            .filter(|known| known.expires())
            .map(|known| ((known.partition, known.row.record.conversation_id().into()), known.row.time))
            .collect();
        self.load(expiring.iter().map(|(place, _)| place.clone())).await?;
        for (place, time) in expiring {
            let of_place =
                |known: &Known| known.partition == place.0 && known.row.record.conversation_id() == &*place.1;
            let kept = self.kept(&place);
            let erased = kept.window.as_ref().is_some_and(Window::is_erased);
            let together = known.iter().filter(|known| of_place(known) && !known.expires());
            let newest = together.map(|known| known.row.time.0).max().max(kept.extras.newest());
            if !erased && newest.is_some_and(|newest| time.0 - newest <= expire_after.0) {
                tracing::info!(
                    conversation = &*place.1,
                    "not erased by retention: it has got something newer"
                );
                self.metrics.erasure_spared();
                known.retain(|known| !(of_place(known) && known.expires() && known.row.time == time));
            }
        }
        Ok(known)
    }

    /// Carries erasures out: the marker first.
    pub(super) async fn erase(&self, rows: &[Row]) -> Result<(), Failed> {
        for row in rows {
            let Record::Erase(erase) = &*row.record else { continue };
            let marker = Erasure { time: row.time, reason: erase.reason.clone().unwrap_or_default() };
            self.ports.facts.erase(&erase.conversation_id, marker).await?;
            self.ports.journal.erase(&erase.conversation_id).await?;
            self.ports.dead_letters.erase(&erase.conversation_id).await?;
        }
        Ok(())
    }
}
