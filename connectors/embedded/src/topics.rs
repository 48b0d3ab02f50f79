//! Topics as stored: each name of the catalogue has a small number, given once and kept in the store.

use std::collections::HashMap;

use hansard_core::id::Partition;
use hansard_runtime::ports::log::TopicPartition;
use hansard_schemas::Topic;

use crate::partitions::Slot;

/// The numbers of the catalogue's topics, and the partition count of all of them.
#[derive(Debug)]
pub(crate) struct Topics {
    ids: HashMap<Topic, u32>,
    partitions: u32,
}

impl Topics {
    pub(crate) fn new(ids: HashMap<Topic, u32>, partitions: u32) -> Self {
        Self { ids, partitions }
    }

    pub(crate) fn partitions(&self) -> u32 {
        self.partitions
    }

    /// How many slots there are, also of topics that the catalogue no longer has.
    pub(crate) fn slots(&self) -> u32 {
        self.ids.values().map(|id| id + 1).max().unwrap_or(0) * self.partitions
    }

    /// The place of a partition, unless it is none of the deployment's.
    pub(crate) fn slot(&self, of: TopicPartition) -> Option<Slot> {
        let number = u32::try_from(of.partition.0).ok().filter(|number| *number < self.partitions)?;
        Some(Slot(self.ids.get(&of.topic)? * self.partitions + number))
    }

    /// Every partition with its place.
    pub(crate) fn all(&self) -> impl Iterator<Item = (TopicPartition, Slot)> {
        let count = self.partitions;
        self.ids.iter().flat_map(move |(topic, id)| {
            (0..count).map(move |number| {
                let partition = Partition(number.cast_signed());
                (TopicPartition { topic: *topic, partition }, Slot(id * count + number))
            })
        })
    }
}
