//! One partition's windows in memory: bounded in bytes, with the times at which they are to be looked at.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use hansard_core::Window;
use hansard_core::id::{Revision, Timestamp};
use hansard_runtime::ports::windows::OpenWindow;
use hansard_runtime::trace::TraceParent;

use super::emit::{Extras, Told};

/// What is kept of one conversation. The window goes first when memory is short; the rest is small.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) window: Option<Window>,
    pub(super) extras: Extras,
    /// The revision that was emitted and not read back: the window must not be forgotten.
    pub(super) unread: Option<Revision>,
    /// Its entries of the index of open windows.
    pub(super) entries: BTreeSet<OpenWindow>,
    /// Where its newest fact stands in a trace, if that said so.
    pub(super) trace: Option<TraceParent>,
    /// The last status that was emitted; nothing when that is not known.
    pub(super) told: Option<Told>,
    /// Until then, the `event_id` of the last status that is in the log, if it was found there.
    pub(super) recalled: Option<String>,
    look_at: Option<Timestamp>,
    /// Since when it waits for a revision or a delivery.
    waits: Option<Timestamp>,
    /// When it was last used, by the shard's own count.
    used: u64,
    bytes: usize,
}

/// The windows of one partition.
#[derive(Debug)]
pub(super) struct Shard {
    /// Everything that was in the log at this time is applied.
    pub(super) judged: Timestamp,
    kept: HashMap<Arc<str>, Kept>,
    looks: BTreeSet<(Timestamp, Arc<str>)>,
    waiting: BTreeSet<(Timestamp, Arc<str>)>,
    /// Conversations by last use; stale entries are skipped.
    uses: VecDeque<(u64, Arc<str>)>,
    use_count: u64,
    /// The count when the windows were last weighed.
    measured: u64,
    bytes: usize,
}

impl Default for Shard {
    fn default() -> Self {
        Self {
            judged: Timestamp::MIN,
            kept: HashMap::new(),
            looks: BTreeSet::new(),
            waiting: BTreeSet::new(),
            uses: VecDeque::new(),
            use_count: 0,
            measured: 0,
            bytes: 0,
        }
    }
}

impl Shard {
    /// The name of a conversation of which something is kept.
    pub(super) fn name(&self, conversation: &str) -> Option<Arc<str>> {
        self.kept.get_key_value(conversation).map(|(name, _)| Arc::clone(name))
    }

    /// Where a conversation's newest fact stands in a trace.
    pub(super) fn trace(&self, conversation: &str) -> Option<TraceParent> {
        self.kept.get(conversation)?.trace
    }

    /// What is kept of a conversation; marks it as used.
    pub(super) fn kept(&mut self, conversation: &Arc<str>) -> &mut Kept {
        self.use_count += 1;
        let kept = self.kept.entry(Arc::clone(conversation)).or_default();
        match self.uses.back_mut() {
            Some(last) if last.0 == kept.used => last.0 = self.use_count,
            _ => self.uses.push_back((self.use_count, Arc::clone(conversation))),
        }
        kept.used = self.use_count;
        kept
    }

    /// Sets when a conversation is to be looked at.
    pub(super) fn look_at(&mut self, conversation: &Arc<str>, at: Option<Timestamp>) {
        let kept = self.kept.entry(Arc::clone(conversation)).or_default();
        if kept.look_at == at {
            return;
        }
        if let Some(before) = kept.look_at {
            self.looks.remove(&(before, Arc::clone(conversation)));
        }
        kept.look_at = at;
        if let Some(at) = at {
            self.looks.insert((at, Arc::clone(conversation)));
        }
    }

    /// The next time at which any is to be looked at.
    pub(super) fn next_look(&self) -> Option<Timestamp> {
        self.looks.first().map(|(at, _)| *at)
    }

    /// A conversation waits for a revision or a delivery, at the latest since `since`, or waits no more.
    pub(super) fn waits(&mut self, conversation: &Arc<str>, since: Option<Timestamp>) {
        let kept = self.kept.entry(Arc::clone(conversation)).or_default();
        match (kept.waits, since) {
            (Some(before), None) => {
                self.waiting.remove(&(before, Arc::clone(conversation)));
                kept.waits = None;
            }
            (None, Some(since)) => {
                self.waiting.insert((since, Arc::clone(conversation)));
                kept.waits = Some(since);
            }
            _ => {}
        }
    }

    /// Since when the one waits that waits longest.
    pub(super) fn waiting_since(&self) -> Option<Timestamp> {
        self.waiting.first().map(|(since, _)| *since)
    }

    /// The conversations whose time has come by `judged`, at most `max`.
    pub(super) fn due(&self, judged: Timestamp, max: usize) -> Vec<Arc<str>> {
        let due = self.looks.iter().take_while(|(at, _)| *at <= judged).take(max);
        due.map(|(_, conversation)| Arc::clone(conversation)).collect()
    }

    /// Forgets a window that cannot be decided about; its next fact tries again.
    pub(super) fn quarantine(&mut self, conversation: &Arc<str>) {
        self.look_at(conversation, None);
        self.waits(conversation, None);
        if let Some(kept) = self.kept.remove(conversation) {
            self.bytes -= kept.bytes;
        }
    }

    /// Forgets the least recently used windows until the rest fits, except those whose Finalize is not read back.
    pub(super) fn evict(&mut self, bytes_max: usize) {
        self.measure();
        let mut pinned = Vec::new();
        while self.bytes > bytes_max
            && let Some((used, conversation)) = self.uses.pop_front()
        {
            let Some(kept) = self.kept.get_mut(&conversation).filter(|kept| kept.used == used) else {
                continue;
            };
            if kept.unread.is_some() {
                pinned.push((used, conversation));
                continue;
            }
            self.bytes -= kept.bytes;
            kept.bytes = 0;
            kept.window = None;
            if kept.look_at.is_none() && kept.entries.is_empty() {
                self.kept.remove(&conversation);
            }
        }
        pinned.into_iter().rev().for_each(|pin| self.uses.push_front(pin));
    }

    /// Weighs the windows that were used since the last time, and drops stale entries of their order of use.
    fn measure(&mut self) {
        let measured = std::mem::replace(&mut self.measured, self.use_count);
        for (used, conversation) in self.uses.iter().rev().take_while(|(used, _)| *used > measured) {
            let Some(kept) = self.kept.get_mut(conversation).filter(|kept| kept.used == *used) else {
                continue;
            };
            let bytes = kept.window.as_ref().map_or(0, Window::approximate_bytes) + 256;
            self.bytes = self.bytes + bytes - kept.bytes;
            kept.bytes = bytes;
        }
        if self.uses.len() > 2 * self.kept.len() + 64 {
            let kept = &self.kept;
            self.uses.retain(|(used, conversation)| kept.get(conversation).is_some_and(|k| k.used == *used));
        }
    }
}
