//! Whether a consumer makes progress: librdkafka has been seen to hand over nothing more of a partition although its
//! records are there and its membership lives on. A thread of its own looks, so that it also sees a poll that hangs.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use hansard_core::id::Offset;
use hansard_runtime::ports::log::{Epoch, LogError, Standstill, TopicPartition};
use rdkafka::consumer::Consumer;

use crate::convert::{Names, positions};
use crate::ends::Watermarks;
use crate::poll::MemberConsumer;
use crate::seat::Seat;

/// How often it is looked within the time after which a partition counts as standing still.
const LOOKS: u32 = 4;

/// Decides what stands still, from what was seen at each look.
pub(crate) struct Progress {
    within: Duration,
    epoch: Epoch,
    /// The positions at the last look, of what was being read.
    positions: BTreeMap<TopicPartition, Offset>,
    /// Since when records are known to lie behind an unmoved position.
    behind: BTreeMap<TopicPartition, Instant>,
}

impl Progress {
    /// Nothing was seen. A partition stands still that hands over nothing of what is there for as long as `within`.
    pub(crate) fn new(within: Duration) -> Self {
        Self { within, epoch: Epoch(0), positions: BTreeMap::new(), behind: BTreeMap::new() }
    }

    /// What has not moved since the last look; only of this is it worth asking whether there is more. What is left out of
    /// `positions`, because the loop wants nothing of it, begins anew when it comes back.
    pub(crate) fn unmoved(
        &mut self,
        epoch: Epoch,
        positions: BTreeMap<TopicPartition, Offset>,
    ) -> Vec<(TopicPartition, Offset)> {
        let before = std::mem::replace(&mut self.positions, positions);
        let is_same = std::mem::replace(&mut self.epoch, epoch) == epoch;
        let unmoved = self.positions.iter().filter(|(from, at)| is_same && before.get(from) == Some(at));
        let unmoved: BTreeMap<_, _> = unmoved.map(|(from, at)| (*from, *at)).collect();
        self.behind.retain(|from, _| unmoved.contains_key(from));
        unmoved.into_iter().collect()
    }

    /// Takes in where what has not moved ends for now, and says which of it has stood still for too long. What is left
    /// out, because nobody knows its end, begins anew.
    pub(crate) fn stalled(
        &mut self,
        ends: &BTreeMap<TopicPartition, Offset>,
        now: Instant,
    ) -> Vec<Standstill> {
        let before = std::mem::take(&mut self.behind);
        let mut stalled = Vec::new();
        for (from, end) in ends {
            let Some(position) = self.positions.get(from).filter(|at| *at < end) else { continue };
            let since = before.get(from).copied().unwrap_or(now);
            self.behind.insert(*from, since);
            if now.duration_since(since) >= self.within {
                stalled.push(Standstill { from: *from, position: *position, end: *end });
            }
        }
        stalled
    }
}

/// What the watching thread works with.
pub(crate) struct Watching {
    pub(crate) consumer: Weak<MemberConsumer>,
    pub(crate) seat: Arc<Seat>,
    pub(crate) names: Names,
    pub(crate) watermarks: Arc<Watermarks>,
    pub(crate) within: Duration,
}

impl Watching {
    /// Looks until the member leaves, or a partition stands still: then the loop is told, which joins anew.
    pub(crate) fn run(self) {
        let within = self.within;
        let mut progress = Progress::new(within);
        while self.seat.stays_open(within / LOOKS) {
            let (epoch, positions) = self.positions().unwrap_or((Epoch(0), BTreeMap::new()));
            let ends = self.ends(&progress.unmoved(epoch, positions)).unwrap_or_else(|error| {
                // Brokers that do not answer are another matter, which joining anew would not mend.
                tracing::debug!(%error, "whether the consumer makes progress is not known");
                BTreeMap::new()
            });
            let places = progress.stalled(&ends, Instant::now());
            if !places.is_empty() && self.seat.is_live(epoch) {
                let error = LogError::Stalled { places, within };
                tracing::error!(%error, "the consumer is thrown away");
                return self.seat.outbox.control(Err(error));
            }
        }
    }

    /// How far the consumer is in what is being read; nothing while the loop itself holds it up, or has nothing.
    fn positions(&self) -> Option<(Epoch, BTreeMap<TopicPartition, Offset>)> {
        // Between full and half full fetching may rest.
        if !self.seat.outbox.wait_for_room(Duration::ZERO) {
            return None;
        }
        let (epoch, begins) = self.seat.reading()?;
        let reached = positions(&self.names, &self.consumer.upgrade()?.position().ok()?);
        // There is no position before the first record.
        let reached = |from: &TopicPartition| reached.get(from).map_or(Offset(0), |at| Offset(*at));
        let furthest = begins.into_iter().map(|(from, begin)| (from, begin.max(reached(&from))));
        Some((epoch, furthest.collect()))
    }

    /// Where those end of which there is more: at the first open transaction, since nothing after it can be handed over.
    fn ends(
        &self,
        unmoved: &[(TopicPartition, Offset)],
    ) -> Result<BTreeMap<TopicPartition, Offset>, LogError> {
        let places: Vec<TopicPartition> = unmoved.iter().map(|(from, _)| *from).collect();
        let ends = self.watermarks.ends(&places)?;
        let behind = unmoved.iter().zip(ends).filter(|((_, position), end)| position < end);
        let behind: Vec<TopicPartition> = behind.map(|((from, _), _)| *from).collect();
        if behind.is_empty() {
            return Ok(BTreeMap::new());
        }
        let stable = self.watermarks.stable_ends(&behind)?;
        Ok(behind.into_iter().zip(stable).collect())
    }
}
