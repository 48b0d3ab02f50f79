//! What must hold when a world has come to rest, worked out from the log alone, without the code that is checked.

use std::collections::{BTreeMap, BTreeSet};

use hansard_core::id::{Digest, Timestamp};
use hansard_core::redelivery::Class;
use hansard_jobs::callback::Token;
use hansard_runtime::driver::{Faults, Stored};
use hansard_runtime::offsets::Completed;
use hansard_runtime::ports::journal::Step;
use hansard_schemas::{
    Conversation, Delivery, Failure, Finalize, Finish, Merge, Open, Record, Rerun, Split, Stage, Summary,
    Topic, Transcript, Upload, decode, partition_for, segment_digest, upload_digest,
};

use super::deployment::Deployment;
use super::history::History;
use super::{keeping, telling, timing};

/// A record with its log time.
pub(super) type Timed<T> = (Timestamp, T);

/// The records of one conversation, in the order of each topic.
#[derive(Default)]
pub(super) struct Story {
    pub(super) opens: Vec<Timed<Open>>,
    pub(super) uploads: Vec<Timed<Upload>>,
    pub(super) finishes: Vec<Timed<Finish>>,
    pub(super) reruns: Vec<Timed<Rerun>>,
    pub(super) splits: Vec<Timed<Split>>,
    pub(super) transcripts: Vec<Timed<Transcript>>,
    pub(super) failures: Vec<Timed<Failure>>,
    pub(super) finalizes: Vec<Timed<Finalize>>,
    pub(super) merges: Vec<Merge>,
    pub(super) summaries: Vec<Summary>,
    pub(super) statuses: Vec<Conversation>,
    pub(super) deliveries: Vec<Delivery>,
    /// Work items by (chunk, upload, split, segment, generation).
    segments: BTreeMap<Work, usize>,
    /// By the digests that providers' calls name; the calls may come before.
    works: BTreeMap<(Digest, i64), Work>,
    told: BTreeMap<(Digest, i64), usize>,
}

/// One piece of transcribing.
type Work = (String, String, String, i32, i64);

/// A world at rest.
pub(super) struct Checks<'a> {
    deployment: &'a Deployment,
    faults: Faults,
    moves: usize,
    stories: BTreeMap<String, Story>,
    log: Vec<Stored>,
    wrong: Vec<String>,
}

impl Story {
    fn learn(&mut self, at: Timestamp, record: Record) {
        match record {
            Record::Open(open) => self.opens.push((at, open)),
            Record::Upload(upload) => self.uploads.push((at, upload)),
            Record::Finish(finish) => self.finishes.push((at, finish)),
            Record::Rerun(rerun) => self.reruns.push((at, rerun)),
            Record::Split(split) => self.splits.push((at, split)),
            Record::Segment(s) => {
                let digest = segment_digest(&s).parse().expect("a digest");
                let work = (s.chunk_id, s.upload_digest, s.split_digest, s.segment, s.generation);
                *self.segments.entry(work.clone()).or_default() += 1;
                self.works.insert((digest, s.generation), work);
            }
            Record::Transcript(transcript) => self.transcripts.push((at, transcript)),
            Record::Failure(failure) => self.failures.push((at, failure)),
            Record::Finalize(finalize) => self.finalizes.push((at, finalize)),
            Record::Merge(merge) => self.merges.push(merge),
            Record::Summary(summary) => self.summaries.push(summary),
            Record::Conversation(status) => self.statuses.push(status),
            Record::Delivery(delivery) => self.deliveries.push(delivery),
            Record::Callback(callback) => {
                let token: Token = callback.journal_key.parse().expect("a token of ours");
                *self.told.entry((token.key.input, token.key.generation.0)).or_default() += 1;
            }
            Record::Erase(_) => {}
        }
    }

    /// The chunks that arrived, each with its standing Upload's log time and digest.
    pub(super) fn chunks(&self) -> BTreeMap<&str, (Timestamp, String)> {
        let mut chunks = BTreeMap::new();
        for (at, upload) in &self.uploads {
            chunks.entry(upload.chunk_id.as_str()).or_insert_with(|| (*at, upload_digest(upload)));
        }
        chunks
    }

    /// How a chunk should have ended: transcribed, failed and unanswered pieces.
    fn ending(&self, chunk: &str, digest: &str) -> (i32, i32, i32) {
        let of_chunk = |failure: &Failure| {
            failure.terminal
                && failure.chunk_id.as_deref() == Some(chunk)
                && failure.upload_digest.as_deref() == Some(digest)
        };
        let mut splits = self.splits.iter().map(|(_, split)| split);
        let Some(split) = splits.find(|split| split.chunk_id == chunk && split.upload_digest == digest)
        else {
            let failed = self.failures.iter().any(|(_, f)| f.stage == "split" && of_chunk(f));
            return if failed { (0, 1, 0) } else { (0, 0, 1) };
        };
        let (mut done, mut failed, mut open) = (0, 0, 0);
        for index in (0_i32..).take(split.segments.len()) {
            let text = self.transcripts.iter().any(|(_, t)| {
                t.chunk_id == chunk
                    && t.split_digest == split.digest
                    && t.upload_digest == digest
                    && t.segment == index
            });
            let lost = self.failures.iter().any(|(_, f)| {
                f.stage == "transcribe"
                    && of_chunk(f)
                    && f.segment == Some(index)
                    && f.split_digest.as_ref() == Some(&split.digest)
            });
            match (text, lost) {
                (true, _) => done += 1,
                (false, true) => failed += 1,
                (false, false) => open += 1,
            }
        }
        (done, failed, open)
    }
}

impl<'a> Checks<'a> {
    pub(super) fn of(deployment: &'a Deployment, faults: Faults, moves: usize) -> Self {
        let log = deployment.world.log();
        let partitions = deployment.partitions;
        let mut stories: BTreeMap<String, Story> = BTreeMap::new();
        for stored in &log {
            let own = !matches!(stored.from.topic, Topic::Retry(..) | Topic::DeadLetter(_));
            let Some(Ok(record)) = stored.record.value.as_ref().map(|value| decode(value)) else { continue };
            let partition = partition_for(record.conversation_id().as_bytes(), partitions);
            if redriven(stored) && matches!(record, Record::Segment(_)) {
                let story = stories.entry(record.conversation_id().to_owned()).or_default();
                story.learn(stored.record.time, record.clone());
            }
            if own && i64::from(stored.from.partition.0) == i64::from(partition) {
                let story = stories.entry(record.conversation_id().to_owned()).or_default();
                story.learn(stored.record.time, record);
            }
        }
        Self { deployment, faults, moves, stories, log, wrong: Vec::new() }
    }

    /// Everything that does not hold.
    pub(super) fn wrong(mut self) -> Vec<String> {
        let stories = std::mem::take(&mut self.stories);
        for (conversation, story) in &stories {
            let mut found = Vec::new();
            if !self.deployment.world.is_erased(conversation) {
                accounts(story, &mut found);
                delivered(story, &mut found);
                timing::check(story, &mut found);
                telling::check(story, &mut found);
                self.answered_once(story, &mut found);
            }
            self.revisions(story, &mut found);
            keeping::check(&self.deployment.world, conversation, story, &mut found);
            self.wrong.extend(found.into_iter().map(|wrong| format!("{conversation}: {wrong}")));
        }
        self.all_read();
        self.dead_letters_are_told();
        self.payments();
        self.wrong
    }

    /// Revisions rise by one, and one has one content, except where a transaction tore; then another follows.
    fn revisions(&self, story: &Story, wrong: &mut Vec<String>) {
        let mut contents: BTreeMap<i32, BTreeSet<String>> = BTreeMap::new();
        let mut highest = 0;
        for (at, finalize) in &story.finalizes {
            let revision = finalize.revision;
            let content = Finalize { source: String::new(), occurred_at: 0, ..finalize.clone() };
            let known = contents.entry(revision).or_default();
            if revision > highest + 1 {
                wrong.push(format!("revision {revision} follows {highest} at {}", at.0));
            }
            if !known.is_empty() && self.faults.tear == 0 {
                wrong.push(format!("revision {revision} was emitted again at {}", at.0));
            }
            known.insert(format!("{content:?}"));
            highest = highest.max(revision);
        }
        if contents.get(&highest).is_some_and(|known| known.len() > 1) {
            wrong.push(format!("revision {highest} has two contents and none follows"));
        }
    }

    /// No piece of work was answered more often than it was asked, or its provider told of it, where transactions are whole.
    fn answered_once(&self, story: &Story, wrong: &mut Vec<String>) {
        if self.faults.tear > 0 {
            return;
        }
        let mut answers: BTreeMap<Work, usize> = BTreeMap::new();
        for (_, t) in &story.transcripts {
            let (chunk, upload, split) =
                (t.chunk_id.clone(), t.upload_digest.clone(), t.split_digest.clone());
            *answers.entry((chunk, upload, split, t.segment, t.generation)).or_default() += 1;
        }
        for (work, count) in answers {
            let told = story.told.iter().filter(|(digest, _)| story.works.get(digest) == Some(&work));
            let asked = story.segments.get(&work).copied().unwrap_or(0) + told.map(|(_, n)| n).sum::<usize>();
            if count > asked {
                let own =
                    story.transcripts.iter().filter(|(_, t)| t.chunk_id == work.0 && t.segment == work.3);
                let when: Vec<(i64, i64)> = own.map(|(at, t)| (at.0, t.generation)).collect();
                wrong.push(format!("{work:?} was asked {asked} times and answered {count} times: {when:?}"));
            }
        }
    }

    /// Every job has read everything.
    fn all_read(&mut self) {
        for stage in History::READERS {
            let reads: BTreeSet<Topic> = stage.reads().into_iter().collect();
            let own = self.log.iter().filter(|stored| reads.contains(&stored.from.topic));
            let unread = own.filter(|stored| {
                let (committed, metadata) = self.deployment.world.progress(stage.as_str(), stored.from);
                let done = Completed::parse(committed, &metadata);
                !done.is_ok_and(|done| done.contains(stored.record.offset))
            });
            let unread: Vec<String> =
                unread.map(|stored| format!("{}@{}", stored.from, stored.record.offset.0)).collect();
            if !unread.is_empty() {
                self.wrong.push(format!("{stage} has not read {unread:?}"));
            }
        }
    }

    /// Every dead letter has its terminal Failure.
    fn dead_letters_are_told(&mut self) {
        if self.faults.tear > 0 {
            // A torn transaction may show the one without the other; the record is then answered anew.
            return;
        }
        let mut told = BTreeSet::new();
        let failures = self.log.iter().filter(|stored| stored.from.topic == Topic::Failures);
        for value in failures.filter_map(|stored| stored.record.value.as_ref()) {
            let Ok(Record::Failure(Failure { terminal: true, stage, origin: Some(origin), .. })) =
                decode(value)
            else {
                continue;
            };
            told.insert((stage, origin.topic, origin.partition.to_string(), origin.offset.to_string()));
        }
        for stored in &self.log {
            let Topic::DeadLetter(stage) = stored.from.topic else { continue };
            let header = |name: &str| {
                let value = stored.record.headers.iter().find(|(own, _)| own == name);
                value.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).unwrap_or_default()
            };
            let origin = (
                stage.to_string(),
                header("redelivery.origin.topic"),
                header("redelivery.origin.partition"),
                header("redelivery.origin.offset"),
            );
            if !told.contains(&origin) {
                self.wrong.push(format!("the dead letter of {origin:?} has no terminal failure"));
            }
        }
    }

    /// What was paid: once, but for what failed, was cut off, or was redriven.
    fn payments(&mut self) {
        let redrives = self.log.iter().filter_map(|stored| {
            let header = stored.record.headers.iter().find(|(name, _)| name == "redelivery.redrives")?;
            String::from_utf8_lossy(&header.1).parse::<usize>().ok()
        });
        let redrives = redrives.max().unwrap_or(0);
        let moves = self.moves + self.deployment.crashes;
        for (key, submissions) in self.deployment.world.submissions() {
            let is = |step: fn(&Step) -> bool| {
                submissions.iter().filter(|submission| submission.steps.iter().any(step)).count()
            };
            let results = is(|step| matches!(step, Step::Result(_)));
            let idle = is(|step| matches!(step, Step::Ended { class: Class::Unavailable, .. }));
            if results > 1 + moves {
                self.wrong.push(format!("{key:?} was paid {results} times with {moves} moves"));
            }
            let attempts = submissions.len() - idle;
            let most = self.deployment.jobs[&key.stage].policy.attempts as usize;
            if attempts > most * (1 + redrives) + moves {
                self.wrong.push(format!("{key:?} was tried {attempts} times with {redrives} redrives"));
            }
        }
        // Nobody looks away from a result that is there: what was done well and kept is not done again.
        if moves == 1 && self.faults.lose_answer == 0 && self.faults.fail == 0 && self.faults.hang == 0 {
            let mut done: BTreeMap<String, usize> = BTreeMap::new();
            for call in &self.deployment.ledger.open().calls {
                *done.entry(call.name.clone()).or_default() +=
                    usize::from(call.ended.is_some_and(|(_, well)| well));
            }
            for (name, times) in
                done.iter().filter(|(name, _)| !name.starts_with("summary") && !name.starts_with("webhook"))
            {
                let conversation = name.split('/').next().unwrap_or_default();
                let reruns = self.reruns(conversation);
                if *times > 2 * (1 + reruns) {
                    self.wrong.push(format!("{name} was transcribed {times} times with {reruns} reruns"));
                }
            }
        }
    }

    fn reruns(&self, conversation: &str) -> usize {
        let is = |stored: &&Stored| {
            let record = stored.record.value.as_ref().and_then(|value| decode(value).ok());
            record.is_some_and(|record| {
                matches!(record, Record::Rerun(_)) && record.conversation_id() == conversation
            })
        };
        self.log.iter().filter(is).count()
    }
}

/// Whether an operator sent this through again: it is then asked for once more.
fn redriven(stored: &Stored) -> bool {
    let fresh =
        |(name, value): &(String, bytes::Bytes)| name == "redelivery.attempt" && value[..] == b"0"[..];
    matches!(stored.from.topic, Topic::Retry(..)) && stored.record.headers.iter().any(fresh)
}

/// Accepted is transcribed, failed, or missing and named.
fn accounts(story: &Story, wrong: &mut Vec<String>) {
    if story.uploads.is_empty() && story.finishes.is_empty() && story.opens.is_empty() {
        return;
    }
    let Some((_, last)) = story.finalizes.last() else {
        return wrong.push("it was never finalized".to_owned());
    };
    let chunks = story.chunks();
    let told: BTreeSet<&str> = last.chunks.iter().map(|chunk| chunk.chunk_id.as_str()).collect();
    let known: BTreeSet<&str> = chunks.keys().copied().collect();
    if told != known {
        wrong.push(format!("revision {} has {told:?} of {known:?}", last.revision));
    }
    let (mut done, mut failed, mut open) = (0, 0, 0);
    for (chunk, (_, digest)) in &chunks {
        let (d, f, o) = story.ending(chunk, digest);
        (done, failed, open) = (done + d, failed + f, open + o);
    }
    let counts = &last.counts;
    if open > 0 {
        wrong.push(format!("{open} pieces have no answer in the log"));
    }
    if (counts.transcribed, counts.failed) != (done, failed) {
        wrong.push(format!("revision {} says {counts:?}, the log {done} and {failed}", last.revision));
    }
    let gaps = i32::try_from(last.gaps.len()).unwrap_or(i32::MAX);
    if gaps != counts.failed + counts.missing && !last.gaps_truncated {
        wrong.push(format!("{gaps} gaps are named of {counts:?}"));
    }
    for gap in last.gaps.iter().filter(|gap| gap.status == "failed") {
        let explains = |f: &Failure| f.terminal && f.chunk_id == gap.chunk_id && f.code == gap.code;
        if !story.failures.iter().any(|(_, f)| explains(f)) {
            wrong.push(format!("no record explains {gap:?}"));
        }
    }
}

/// The last revision was merged and summarised, or the failure of that is told; and the status says so.
fn delivered(story: &Story, wrong: &mut Vec<String>) {
    let Some((_, last)) = story.finalizes.last() else { return };
    let failed = |stage: Stage| {
        let of = |f: &Failure| {
            f.terminal && f.stage == stage.as_str() && f.finalize_digest.as_ref() == Some(&last.digest)
        };
        story.failures.iter().any(|(_, f)| of(f))
    };
    let merged = story.merges.iter().any(|merge| merge.finalize_digest == last.digest);
    let summarised = story.summaries.iter().any(|summary| summary.finalize_digest == last.digest);
    if !merged && !failed(Stage::Merge) {
        wrong.push(format!("revision {} was never merged", last.revision));
    }
    if !summarised && !failed(Stage::Summarize) {
        wrong.push(format!("revision {} was never summarised", last.revision));
    }
    let status = story.statuses.last();
    if !status.is_some_and(|status| status.status == "delivered" && status.revision == last.revision) {
        let said = status.map(|status| (status.status.clone(), status.revision));
        wrong.push(format!("it ends as {said:?} after revision {}", last.revision));
    }
}
