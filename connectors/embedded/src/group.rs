//! Consumer groups, all within this process: who has which partitions, under which epoch, and what is committed.
//!
//! It only decides: no I/O, no waiting. Times come in as values; whoever waits asks for the deadline.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use hansard_core::id::Offset;
use hansard_runtime::ports::log::Epoch;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::partitions::Slot;

/// Names a member for the life of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct MemberId(u64);

/// What a member is to be told, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    Assigned,
    Revoking,
    Lost,
    /// Another member has joined under the same instance name: this one is out for good.
    Replaced,
}

/// What a member holds now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holding {
    pub(crate) epoch: Epoch,
    pub(crate) numbers: Range<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// It has nothing, and waits for the group's next assignment.
    Waiting,
    Holds,
    /// It has been asked to release.
    Revoking,
}

#[derive(Debug)]
struct Member {
    id: MemberId,
    instance: String,
    phase: Phase,
    holding: Holding,
    signals: VecDeque<Signal>,
    wake: Arc<Notify>,
}

impl Member {
    fn tell(&mut self, signal: Signal) {
        self.signals.push_back(signal);
        self.wake.notify_one();
    }
}

/// A position with its metadata, as committed.
pub(crate) type Position = (Offset, String);

#[derive(Debug, Default)]
struct Group {
    /// Ordered by instance name, which is what `range` goes by.
    members: Vec<Member>,
    offsets: HashMap<Slot, Position>,
    /// Until when the rebalance under way waits for releases.
    rebalance: Option<Instant>,
    /// Transactions in the writer's hands: while there is one, committed offsets are not stable.
    committing: usize,
}

/// All groups.
#[derive(Debug)]
pub(crate) struct Groups {
    groups: HashMap<String, Group>,
    partitions: u32,
    release_within: Duration,
    last: u64,
}

impl Groups {
    pub(crate) fn new(
        partitions: u32,
        release_within: Duration,
        offsets: HashMap<String, HashMap<Slot, Position>>,
    ) -> Self {
        let with = |offsets| Group { offsets, ..Group::default() };
        let groups = offsets.into_iter().map(|(name, offsets)| (name, with(offsets))).collect();
        Self { groups, partitions, release_within, last: 0 }
    }

    fn fresh(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    pub(crate) fn join(&mut self, name: &str, instance: String, wake: Arc<Notify>, now: Instant) -> MemberId {
        let id = MemberId(self.fresh());
        let group = self.groups.entry(name.to_owned()).or_default();
        if let Some(at) = group.members.iter().position(|member| member.instance == instance) {
            // Not finding itself any more tells it that it was replaced.
            group.members.remove(at).wake.notify_one();
        }
        let holding = Holding { epoch: Epoch(0), numbers: 0..0 };
        group.members.push(Member {
            id,
            instance,
            phase: Phase::Waiting,
            holding,
            signals: VecDeque::new(),
            wake,
        });
        group.members.sort_by(|a, b| a.instance.cmp(&b.instance));
        self.rebalance(name, now);
        id
    }

    /// Takes a member out, whether it left or was dropped.
    pub(crate) fn leave(&mut self, name: &str, id: MemberId, now: Instant) {
        let Some(group) = self.groups.get_mut(name) else { return };
        let before = group.members.len();
        group.members.retain(|member| member.id != id);
        if group.members.len() < before {
            self.rebalance(name, now);
        }
    }

    fn rebalance(&mut self, name: &str, now: Instant) {
        let Some(group) = self.groups.get_mut(name) else { return };
        group.rebalance.get_or_insert(now + self.release_within);
        for member in &mut group.members {
            if member.phase == Phase::Holds {
                member.phase = Phase::Revoking;
                member.tell(Signal::Revoking);
            }
        }
        self.proceed(name, now);
    }

    /// Ends the rebalance under way, if nobody must be waited for any longer.
    pub(crate) fn proceed(&mut self, name: &str, now: Instant) {
        let Some(group) = self.groups.get_mut(name) else { return };
        let Some(until) = group.rebalance else { return };
        let revoking = group.members.iter().any(|member| member.phase == Phase::Revoking);
        if group.committing > 0 || (revoking && now < until) {
            return;
        }
        group.rebalance = None;
        let count = u32::try_from(group.members.len()).unwrap_or(u32::MAX).max(1);
        let (each, more) = (self.partitions / count, self.partitions % count);
        let mut start = 0;
        for (index, member) in (0_u32..).zip(&mut group.members) {
            if member.phase == Phase::Revoking {
                member.tell(Signal::Lost);
            }
            let end = start + each + u32::from(index < more);
            self.last += 1;
            member.holding = Holding { epoch: Epoch(self.last), numbers: start..end };
            member.phase = Phase::Holds;
            member.tell(Signal::Assigned);
            start = end;
        }
    }

    /// Until when a rebalance waits.
    pub(crate) fn deadline(&self, name: &str) -> Option<Instant> {
        self.groups.get(name)?.rebalance
    }

    pub(crate) fn release(&mut self, name: &str, id: MemberId, now: Instant) {
        if let Some(member) = self.member(name, id) {
            if member.phase == Phase::Revoking {
                member.phase = Phase::Waiting;
            }
            self.proceed(name, now);
        }
    }

    fn member(&mut self, name: &str, id: MemberId) -> Option<&mut Member> {
        self.groups.get_mut(name)?.members.iter_mut().find(|member| member.id == id)
    }

    /// The next thing that a member is to be told; `Replaced` for one that is no longer there.
    pub(crate) fn signal(&mut self, name: &str, id: MemberId) -> Option<Signal> {
        match self.member(name, id) {
            Some(member) => member.signals.pop_front(),
            None => Some(Signal::Replaced),
        }
    }

    pub(crate) fn holding(&mut self, name: &str, id: MemberId) -> Option<Holding> {
        self.member(name, id).map(|member| member.holding.clone())
    }

    /// What a group has committed for a partition.
    pub(crate) fn position(&self, name: &str, slot: Slot) -> Option<&Position> {
        self.groups.get(name)?.offsets.get(&slot)
    }

    /// The least position of any group in a partition, of those groups that have one.
    pub(crate) fn least(&self, slot: Slot) -> Option<Offset> {
        self.groups.values().filter_map(|group| group.offsets.get(&slot)).map(|(offset, _)| *offset).min()
    }

    /// Takes note of a first position, so that retention waits for the group from its first joining on.
    pub(crate) fn note(&mut self, name: &str, slot: Slot, offset: Offset) {
        let group = self.groups.entry(name.to_owned()).or_default();
        group.offsets.entry(slot).or_insert_with(|| (offset, String::new()));
    }

    /// Whether a transaction may commit; if so it is in the writer's hands until [`Self::committed`] or
    /// [`Self::refused`]. `numbers` are the partition numbers that it commits for.
    pub(crate) fn begin(
        &mut self,
        name: &str,
        id: MemberId,
        epoch: Epoch,
        mut numbers: impl Iterator<Item = u32>,
    ) -> bool {
        let valid = self.member(name, id).is_some_and(|member| {
            member.phase != Phase::Waiting
                && member.holding.epoch == epoch
                && numbers.all(|number| member.holding.numbers.contains(&number))
        });
        if valid && let Some(group) = self.groups.get_mut(name) {
            group.committing += 1;
        }
        valid
    }

    /// Takes in what a begun transaction committed.
    pub(crate) fn committed(&mut self, name: &str, offsets: Vec<(Slot, Position)>, now: Instant) {
        if let Some(group) = self.groups.get_mut(name) {
            group.committing -= 1;
            group.offsets.extend(offsets);
            self.proceed(name, now);
        }
    }

    /// A begun transaction did not commit.
    pub(crate) fn aborted(&mut self, name: &str, id: MemberId, epoch: Epoch, now: Instant) {
        if let Some(group) = self.groups.get_mut(name) {
            group.committing -= 1;
            self.renew(name, id, epoch);
            self.proceed(name, now);
        }
    }

    /// Assigns anew what the member holds under `epoch`, after a transaction that did not commit: what it did since is
    /// void. Where the epoch has gone, the member has been told, or is about to be.
    pub(crate) fn renew(&mut self, name: &str, id: MemberId, epoch: Epoch) {
        let fresh = Epoch(self.fresh());
        if let Some(member) = self.member(name, id)
            && member.phase == Phase::Holds
            && member.holding.epoch == epoch
        {
            member.holding.epoch = fresh;
            member.tell(Signal::Assigned);
        }
    }

    /// Everybody starts anew from these offsets: the store was recovered, and rows that were not yet synced may be gone.
    pub(crate) fn reset(&mut self, mut offsets: HashMap<String, HashMap<Slot, Position>>) {
        for (name, group) in &mut self.groups {
            group.offsets = offsets.remove(name).unwrap_or_default();
            for member in &mut group.members {
                self.last += 1;
                member.holding.epoch = Epoch(self.last);
                if member.phase == Phase::Holds {
                    member.tell(Signal::Lost);
                    member.tell(Signal::Assigned);
                }
            }
        }
    }

    /// Wakes everybody, to see that the log is closed.
    pub(crate) fn close(&self) {
        let members = self.groups.values().flat_map(|group| &group.members);
        members.for_each(|member| member.wake.notify_one());
    }
}
