//! One partition's windows in memory: bounded in bytes, with the times at which they are to be looked at.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use hansard_core::Window;
use hansard_core::id::{Revision, Timestamp};
use hansard_runtime::ports::windows::OpenWindow;
use hansard_runtime::trace::TraceParent;

use super::emit::{Extras, Told};

/// Of the room for windows finalized ones keep one part in so many, at most: they are seldom asked for again.
const FINALIZED_SHARE: usize = 4;
/// The kinds of windows, by their place among the uses.
const OPEN: usize = 0;
const FINALIZED: usize = 1;

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
    /// What it weighed when it was last measured, and of which kind it was.
    bytes: usize,
    kind: usize,
}

/// Conversations by last use, and what their windows weigh. Stale entries are skipped.
#[derive(Debug, Default)]
struct Uses {
    order: VecDeque<(u64, Arc<str>)>,
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
    /// Of each kind. What was used since it was measured is among the open ones.
    uses: [Uses; 2],
    use_count: u64,
    /// The count when the windows were last weighed.
    measured: u64,
}

impl Default for Shard {
    fn default() -> Self {
        Self {
            judged: Timestamp::MIN,
            kept: HashMap::new(),
            looks: BTreeSet::new(),
            waiting: BTreeSet::new(),
            uses: Default::default(),
            use_count: 0,
            measured: 0,
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
        match self.uses[OPEN].order.back_mut() {
            Some(last) if last.0 == kept.used => last.0 = self.use_count,
            _ => self.uses[OPEN].order.push_back((self.use_count, Arc::clone(conversation))),
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
            self.uses[kept.kind].bytes -= kept.bytes;
        }
    }

    /// Forgets the least recently used windows until the rest fits, finalized ones first, except those whose Finalize is not
    /// read back.
    pub(super) fn evict(&mut self, bytes_max: usize) {
        self.measure();
        let left = bytes_max.saturating_sub(self.uses[OPEN].bytes);
        self.shed(FINALIZED, left.min(bytes_max / FINALIZED_SHARE));
        self.shed(OPEN, bytes_max.saturating_sub(self.uses[FINALIZED].bytes));
    }

    /// Forgets those of a kind until the rest of it fits.
    fn shed(&mut self, kind: usize, bytes_max: usize) {
        let (uses, mut pinned) = (&mut self.uses[kind], Vec::new());
        while uses.bytes > bytes_max
            && let Some((used, conversation)) = uses.order.pop_front()
        {
            let kept = self.kept.get_mut(&conversation).filter(|kept| (kept.used, kept.kind) == (used, kind));
            let Some(kept) = kept else { continue };
            if kept.unread.is_some() {
                pinned.push((used, conversation));
                continue;
            }
            uses.bytes -= kept.bytes;
            kept.bytes = 0;
            kept.window = None;
            if kept.look_at.is_none() && kept.entries.is_empty() {
                self.kept.remove(&conversation);
            }
        }
        pinned.into_iter().rev().for_each(|pin| uses.order.push_front(pin));
    }

    /// Weighs the windows that were used since the last time, each among its kind, and drops stale entries.
    fn measure(&mut self) {
        let Self { kept, uses, .. } = self;
        let measured = std::mem::replace(&mut self.measured, self.use_count);
        let fresh = uses[OPEN].order.partition_point(|(used, _)| *used <= measured);
        for (used, conversation) in uses[OPEN].order.split_off(fresh) {
            let Some(kept) = kept.get_mut(&conversation).filter(|kept| kept.used == used) else { continue };
            uses[kept.kind].bytes -= kept.bytes;
            kept.bytes = kept.window.as_ref().map_or(0, Window::approximate_bytes) + 256;
            let finalized = kept.unread.is_none() && kept.told.as_ref().is_some_and(Told::is_finalized);
            kept.kind = if finalized { FINALIZED } else { OPEN };
            uses[kept.kind].bytes += kept.bytes;
            uses[kept.kind].order.push_back((used, conversation));
        }
        for (kind, Uses { order, .. }) in uses.iter_mut().enumerate() {
            if order.len() > 2 * kept.len() + 64 {
                let current = |kept: &Kept, used| (kept.used, kept.kind) == (used, kind);
                order.retain(|(used, conversation)| {
                    kept.get(conversation).is_some_and(|kept| current(kept, *used))
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hansard_core::status::Status;

    /// A shard that has used these conversations, and what one of them weighs.
    fn shard(conversations: &[(&str, Status)]) -> (Shard, usize) {
        let mut shard = Shard::default();
        for (conversation, status) in conversations {
            let kept = shard.kept(&(*conversation).into());
            kept.told = Some(Told::of(&Window::new(), *status));
            kept.window = Some(Window::new());
        }
        shard.measure();
        (shard, Window::new().approximate_bytes() + 256)
    }

    fn held(shard: &Shard) -> Vec<&str> {
        let with_window = shard.kept.iter().filter(|(_, kept)| kept.window.is_some());
        let mut held: Vec<&str> = with_window.map(|(conversation, _)| &**conversation).collect();
        held.sort_unstable();
        held
    }

    #[test]
    fn finalized_windows_keep_a_part_and_go_before_those_that_are_open() {
        let all = [
            ("done-1", Status::Finalized),
            ("open-1", Status::Closing),
            ("done-2", Status::Delivered),
            ("open-2", Status::Open),
            ("done-3", Status::Finalized),
        ];
        let (mut shard, one) = shard(&all);
        shard.evict(8 * one);
        assert_eq!(held(&shard), ["done-2", "done-3", "open-1", "open-2"]);
        shard.evict(3 * one);
        assert_eq!(held(&shard), ["open-1", "open-2"], "three fourths of one are none");
        shard.evict(2 * one - 1);
        assert_eq!(held(&shard), ["open-2"], "the one that was used before the other has gone");
        assert_eq!((shard.uses[OPEN].bytes, shard.uses[FINALIZED].bytes), (one, 0));
    }

    #[test]
    fn a_finalize_that_is_not_read_back_keeps_its_window() {
        let (mut shard, one) = shard(&[("a", Status::Finalized), ("b", Status::Open)]);
        shard.kept(&"a".into()).unread = Some(Revision(1));
        shard.kept(&"b".into());
        shard.evict(one);
        assert_eq!(held(&shard), ["a"], "b was used later");
        shard.evict(0);
        assert_eq!(held(&shard), ["a"]);
        let kept = shard.kept(&"a".into());
        (kept.unread, kept.told) = (None, Some(Told::of(&Window::new(), Status::Finalized)));
        shard.evict(4 * one);
        assert_eq!(held(&shard), ["a"]);
        // What is used again is an open one again until it is measured.
        shard.kept(&"a".into()).told = Some(Told::of(&Window::new(), Status::Closing));
        shard.evict(one);
        assert_eq!((held(&shard), shard.uses[FINALIZED].bytes), (vec!["a"], 0));
        shard.evict(0);
        assert!(held(&shard).is_empty() && shard.kept.is_empty());
    }
}
