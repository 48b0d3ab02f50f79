//! Consumer groups at their coordinator: who is a member, who has which partition numbers under which generation, and
//! what is committed. Eager rebalances with range assignment over all topics, as Kafka's classic protocol.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use hansard_core::id::{Millis, Offset, Timestamp};
use hansard_schemas::Topic;

use super::member::Client;
use super::process::ProcessId;
use super::world::{State, World};
use crate::ports::log::{Committed, TopicPartition};

/// How long a rebalance waits for those that are to release.
pub(super) const REBALANCE: Millis = Millis(6_000);
/// How long the coordinator waits for a member that is not heard of.
pub(super) const SESSION: Millis = Millis(10_000);

/// A group.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) offsets: BTreeMap<TopicPartition, (Offset, String)>,
    pub(super) topics: Vec<Topic>,
    /// What the members know, by their ids; those that left the group may still be here as zombies.
    pub(super) clients: BTreeMap<u64, Client>,
    pub(super) generation: u64,
    /// The members: by instance name, which is what `range` goes by.
    roster: BTreeMap<String, u64>,
    rebalance: Option<Rebalance>,
}

#[derive(Debug)]
struct Rebalance {
    until: Timestamp,
    waits_for: BTreeSet<u64>,
}

impl Group {
    /// Takes in the offsets of a transaction that has ended.
    pub(super) fn take_offsets(&mut self, offsets: Vec<Committed>, commit: bool) {
        if commit {
            self.offsets.extend(offsets.into_iter().map(|line| (line.from, (line.offset, line.metadata))));
        }
    }

    /// Whether a member may commit under the generation: also while others are asked to release.
    pub(super) fn accepts(&self, member: u64, generation: u64) -> bool {
        self.generation == generation && self.roster.values().any(|held| *held == member)
    }

    fn begin_rebalance(&mut self, now: Timestamp) {
        if self.rebalance.is_some() {
            return;
        }
        let mut waits_for = BTreeSet::new();
        for member in self.roster.values() {
            if let Some(client) = self.clients.get_mut(member)
                && client.revoke()
            {
                waits_for.insert(*member);
            }
        }
        self.rebalance = Some(Rebalance { until: now + REBALANCE, waits_for });
    }

    /// Ends the rebalance, if nobody must be waited for any longer.
    fn proceed(&mut self, now: Timestamp, partitions: u32, gone: impl Fn(ProcessId) -> bool) {
        let Some(rebalance) = &self.rebalance else { return };
        if !rebalance.waits_for.is_empty() && now < rebalance.until {
            return;
        }
        let late = self.rebalance.take().map(|rebalance| rebalance.waits_for).unwrap_or_default();
        let clients = &mut self.clients;
        self.roster.retain(|_, member| {
            clients.get(member).is_some_and(|client| !client.dead && !gone(client.process))
        });
        self.generation += 1;
        let count = i32::try_from(self.roster.len()).unwrap_or(1).max(1);
        let partitions = i32::try_from(partitions).unwrap_or(i32::MAX);
        let (each, more) = (partitions / count, partitions % count);
        let mut start = 0;
        for (index, member) in (0..).zip(self.roster.values()) {
            let end = start + each + i32::from(index < more);
            if let Some(client) = clients.get_mut(member) {
                client.assign(self.generation, start..end, late.contains(member));
            }
            start = end;
        }
    }
}

impl State {
    /// Wakes every member of every group.
    pub(super) fn wake_members(&mut self) {
        let clients = self.broker.groups.values_mut().flat_map(|group| group.clients.values_mut());
        clients.for_each(Client::wake);
    }

    /// Lets the group's rebalance end, if it can.
    pub(super) fn proceed(&mut self, group: &str) {
        let (now, partitions, lives) = (self.now, self.broker.partitions, &self.lives);
        let gone = |process: ProcessId| {
            lives.get(&process).is_none_or(|life| !life.alive || now < life.cut_off_until)
        };
        if let Some(group) = self.broker.groups.get_mut(group) {
            group.proceed(now, partitions, gone);
        }
        self.wake_members();
    }

    /// A member has let go.
    pub(super) fn released(&mut self, group: &str, member: u64) {
        let held = self.broker.groups.get_mut(group).and_then(|group| group.rebalance.as_mut());
        if let Some(rebalance) = held {
            rebalance.waits_for.remove(&member);
        }
        self.proceed(group);
    }

    /// What the group has committed for partition numbers of all its topics.
    pub(super) fn committed(&self, group: &Group, numbers: &Range<i32>) -> Vec<Committed> {
        let all = group.topics.iter().flat_map(|topic| {
            numbers.clone().map(|number| TopicPartition {
                topic: *topic,
                partition: hansard_core::id::Partition(number),
            })
        });
        let line = |from| {
            let (offset, metadata) = group.offsets.get(&from).cloned().unwrap_or((Offset(0), String::new()));
            Committed { from, offset, metadata }
        };
        all.map(line).collect()
    }
}

/// Takes a member in, in place of one with the same instance name.
pub(super) fn join(world: &World, name: &str, instance: &str, member: u64, client: Client, topics: &[Topic]) {
    {
        let mut state = world.state();
        let group = state.broker.groups.entry(name.to_owned()).or_default();
        group.topics = topics.to_vec();
        if let Some(before) = group.roster.insert(instance.to_owned(), member)
            && let Some(replaced) = group.clients.get_mut(&before)
        {
            replaced.replaced = true;
            replaced.wake();
            if let Some(rebalance) = &mut group.rebalance {
                rebalance.waits_for.remove(&before);
            }
        }
        group.clients.insert(member, client);
    }
    rebalance(world, name);
}

/// Takes a member out.
pub(super) fn leave(world: &World, name: &str, member: u64) {
    {
        let mut state = world.state();
        let Some(group) = state.broker.groups.get_mut(name) else { return };
        let before = group.roster.len();
        group.roster.retain(|_, held| *held != member);
        if let Some(rebalance) = &mut group.rebalance {
            rebalance.waits_for.remove(&member);
        }
        if group.roster.len() == before {
            return;
        }
    }
    rebalance(world, name);
}

/// A member is not heard of any more: after a while it is taken out.
pub(super) fn lose(world: &World, name: &str, member: u64) {
    let (own, name) = (world.clone(), name.to_owned());
    let until = world.now() + SESSION;
    let expel = async move {
        own.until(until).await;
        leave(&own, &name, member);
    };
    world.spawn(ProcessId::BROKERS, Box::pin(expel));
}

/// All members of a process that is cut off are missed after a while, unless it is back by then; when it is back, they
/// learn what became of them.
pub(super) fn miss(world: &World, process: ProcessId) {
    let mut members = Vec::new();
    let (expelled_at, back_at) = {
        let state = world.state();
        for (name, group) in &state.broker.groups {
            let own = group.clients.iter().filter(|(_, client)| client.process == process && !client.dead);
            members.extend(own.map(|(member, _)| (name.clone(), *member)));
        }
        let back = state.lives.get(&process).map_or(state.now, |life| life.cut_off_until);
        (state.now + SESSION, back)
    };
    let own = world.clone();
    let story = async move {
        if back_at > expelled_at {
            own.until(expelled_at).await;
            members.iter().for_each(|(name, member)| leave(&own, name, *member));
        }
        own.until(back_at).await;
        members.iter().for_each(|(name, member)| come_back(&own, name, *member));
    };
    world.spawn(ProcessId::BROKERS, Box::pin(story));
}

/// A member that was cut off is heard of again: if it was taken out, it learns that and joins anew.
fn come_back(world: &World, name: &str, member: u64) {
    {
        let mut state = world.state();
        let Some(group) = state.broker.groups.get_mut(name) else { return };
        let Some(client) = group.clients.get_mut(&member) else { return };
        if client.dead || client.replaced || group.roster.values().any(|held| *held == member) {
            return client.wake();
        }
        client.lose();
        let instance = client.instance.clone();
        group.roster.insert(instance, member);
    }
    rebalance(world, name);
}

fn rebalance(world: &World, name: &str) {
    let until = {
        let mut state = world.state();
        let now = state.now;
        let Some(group) = state.broker.groups.get_mut(name) else { return };
        group.begin_rebalance(now);
        let until = group.rebalance.as_ref().map_or(now, |rebalance| rebalance.until);
        state.proceed(name);
        until
    };
    let (own, name) = (world.clone(), name.to_owned());
    let bound = async move {
        own.until(until).await;
        own.state().proceed(&name);
    };
    world.spawn(ProcessId::BROKERS, Box::pin(bound));
}
