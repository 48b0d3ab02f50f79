//! Records that were fetched and wait to be applied. Of one partition number they are taken in the order of the log's
//! time over all topics: one that is read faster would open windows far ahead of what closes them, and all of those
//! would have to be kept, or read back. The job's own emissions come first: until they are read their windows are kept.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

use hansard_core::id::{Partition, Timestamp};
use hansard_schemas::Topic;

use crate::ports::log::{Fetched, TopicPartition};

/// What waits, by partition number and topic.
pub(crate) struct Inbox {
    own: Topic,
    numbers: BTreeMap<Partition, BTreeMap<Topic, Lane>>,
    /// The number that was last taken from: they take turns, so that one far behind does not hold up the others.
    turn: Partition,
    waiting: usize,
}

#[derive(Default)]
struct Lane {
    runs: VecDeque<Fetched>,
    records: usize,
    /// It is not fetched from, since enough of it waits for the others.
    rests: bool,
}

impl Lane {
    /// When the log took in what is next; where only the position moved, there is nothing to wait for.
    fn head(&self) -> Option<Timestamp> {
        let run = self.runs.front()?;
        Some(run.records.first().map_or(Timestamp::MIN, |record| record.time))
    }

    /// When the log took in the first and the last record that wait.
    fn times(&self) -> Option<(Timestamp, Timestamp)> {
        let first = self.runs.iter().find_map(|run| run.records.first())?;
        let last = self.runs.iter().rev().find_map(|run| run.records.last())?;
        Some((first.time, last.time))
    }
}

impl Inbox {
    /// Nothing; `own` is the topic of the job's own emissions.
    pub(crate) fn new(own: Topic) -> Self {
        Self { own, numbers: BTreeMap::new(), turn: Partition(0), waiting: 0 }
    }

    /// Forgets what waits.
    pub(crate) fn clear(&mut self) {
        *self = Self::new(self.own);
    }

    /// Records that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    pub(crate) fn push(&mut self, run: Fetched) {
        let lane = self.numbers.entry(run.from.partition).or_default().entry(run.from.topic).or_default();
        lane.records += run.records.len();
        self.waiting += run.records.len();
        lane.runs.push_back(run);
    }

    /// The next runs, about `max` records; only own emissions where that is wanted.
    pub(crate) fn take(&mut self, max: usize, only_own: bool) -> Vec<Fetched> {
        let (mut taken, mut records) = (Vec::new(), 0);
        while records < max
            && let Some(run) = self.next(only_own)
        {
            records += run.records.len();
            taken.push(run);
        }
        taken
    }

    fn next(&mut self, only_own: bool) -> Option<Fetched> {
        let after = (Bound::Excluded(self.turn), Bound::Unbounded);
        let order = self.numbers.range(after).chain(self.numbers.range(..=self.turn));
        let mut found = order.filter_map(|(number, lanes)| {
            let lanes = lanes.iter().filter(|(topic, _)| !only_own || **topic == self.own);
            let heads = lanes.filter_map(|(topic, lane)| Some((*topic != self.own, lane.head()?, *topic)));
            heads.min().map(|(_, _, topic)| (*number, topic))
        });
        let (number, topic) = found.next()?;
        self.turn = number;
        let lane = self.numbers.get_mut(&number)?.get_mut(&topic)?;
        let run = lane.runs.pop_front()?;
        lane.records -= run.records.len();
        self.waiting -= run.records.len();
        Some(run)
    }

    /// Which partitions are to rest, and which to be fetched from again. One rests when more than `ahead_max` records of
    /// it wait, all younger than what waits of the topic that is furthest behind; until half of them are gone.
    pub(crate) fn balance(&mut self, ahead_max: usize) -> (Vec<TopicPartition>, Vec<TopicPartition>) {
        let (mut stop, mut resume) = (Vec::new(), Vec::new());
        for (partition, lanes) in &mut self.numbers {
            let behind = lanes.values().filter_map(Lane::times).min();
            for (topic, lane) in lanes {
                let of = TopicPartition { topic: *topic, partition: *partition };
                let later = lane.times().zip(behind).is_some_and(|((first, _), (_, last))| first > last);
                let ahead = lane.records > ahead_max && later && *topic != self.own;
                if !lane.rests && ahead {
                    lane.rests = true;
                    stop.push(of);
                } else if lane.rests && lane.records * 2 <= ahead_max {
                    lane.rests = false;
                    resume.push(of);
                }
            }
        }
        (stop, resume)
    }

    /// All partitions are fetched from.
    pub(crate) fn wake(&mut self) {
        self.numbers.values_mut().flat_map(BTreeMap::values_mut).for_each(|lane| lane.rests = false);
    }
}

#[cfg(test)]
#[path = "tests/inbox.rs"]
mod tests;
