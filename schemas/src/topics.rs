//! The catalogue of topics: what stands in each, who writes and who reads it, and how long it is kept. The
//! README's diagram, `hansard topics apply` and the chart come from it.

use std::fmt;
use std::str::FromStr;

use crate::records::RecordName;

/// Partitions of every topic by default. All have the same count, so that a conversation has one partition number.
pub const PARTITIONS_DEFAULT: u32 = 24;

/// Fixed-delay retry topics of each stage.
pub const RETRY_TIERS: u8 = 3;

/// The longest that a topic with what was said is kept by default, in days: an erased text is gone by then.
pub const TEXT_RETENTION_DAYS_MAX: u32 = 7;

/// A box of the dataflow that reads topics under a consumer group of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Cuts chunks into segments.
    Split,
    /// Turns segments into text.
    Transcribe,
    /// Joins all facts of a conversation and finalizes it.
    Aggregate,
    /// Joins the audio of a conversation.
    Merge,
    /// Summarises a conversation.
    Summarize,
    /// Tells the world outside.
    Notify,
}

/// Who writes or reads a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Party {
    /// A stage.
    Stage(Stage),
    /// The HTTP edge.
    Gateway,
    /// The job that carries out erasures and retention.
    Sweep,
    /// An operator who sends dead letters through again.
    Redrive,
    /// A program or person outside: a producer, analytics, an operator.
    Outside,
}

/// A topic, whatever prefix its deployment gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the catalogue says what stands in each")]
pub enum Topic {
    Uploads,
    Splits,
    Segments,
    Callbacks,
    Transcripts,
    Failures,
    Finalizes,
    Merges,
    Summaries,
    Conversations,
    Deliveries,
    /// A stage's records that wait for their next attempt; the tier is 1 to [`RETRY_TIERS`].
    Retry(Stage, u8),
    /// A stage's records after their last attempt.
    DeadLetter(Stage),
}

/// How long records of a topic are kept by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// They are deleted after so many days.
    Days(u32),
    /// The latest of each key stays for ever.
    Latest,
}

/// A line of the catalogue.
#[derive(Debug, Clone, Copy)]
pub struct TopicSpec {
    /// The topic.
    pub topic: Topic,
    /// What stands in it.
    pub records: &'static [RecordName],
    /// Who appends to it.
    pub written_by: &'static [Party],
    /// Who consumes it.
    pub read_by: &'static [Party],
    /// How long records are kept by default.
    pub keep: Keep,
    /// Whether it carries what was said.
    pub carries_text: bool,
}

/// The topics of the dataflow. Beside them each stage has [`RETRY_TIERS`] retry topics and one for dead letters.
pub const CATALOGUE: &[TopicSpec] = {
    use Keep::{Days, Latest};
    use Party::{Gateway, Outside, Stage as By, Sweep};
    use RecordName as R;
    use Stage::{Aggregate, Merge, Notify, Split, Summarize, Transcribe};
    const EVERY_STAGE: &[Party] =
        &[By(Split), By(Transcribe), By(Aggregate), By(Merge), By(Summarize), By(Notify)];
    const AGGREGATE_OUTSIDE: &[Party] = &[By(Aggregate), Outside];
    const UPLOADS: &[R] = &[R::Open, R::Upload, R::Finish, R::Rerun, R::Erase];
    const UPLOADERS: &[Party] = &[Gateway, Outside, Sweep, By(Aggregate)];
    const OF_FINALIZES: &[Party] = &[By(Merge), By(Summarize), By(Aggregate), Outside];
    const fn line(
        topic: Topic,
        records: &'static [R],
        written_by: &'static [Party],
        read_by: &'static [Party],
        keep: Keep,
    ) -> TopicSpec {
        TopicSpec { topic, records, written_by, read_by, keep, carries_text: false }
    }
    const fn with_text(spec: TopicSpec) -> TopicSpec {
        TopicSpec { carries_text: true, ..spec }
    }
    // Uploads outlast the rest, so that they can wait for a Hansard that is down for long.
    &[
        line(Topic::Uploads, UPLOADS, UPLOADERS, &[By(Split), By(Aggregate)], Days(30)),
        line(Topic::Splits, &[R::Split], &[By(Split)], AGGREGATE_OUTSIDE, Days(7)),
        line(Topic::Segments, &[R::Segment], &[By(Split), By(Aggregate)], &[By(Transcribe)], Days(7)),
        with_text(line(Topic::Callbacks, &[R::Callback], &[Gateway], &[By(Transcribe)], Days(7))),
        with_text(line(Topic::Transcripts, &[R::Transcript], &[By(Transcribe)], AGGREGATE_OUTSIDE, Days(7))),
        line(Topic::Failures, &[R::Failure], EVERY_STAGE, AGGREGATE_OUTSIDE, Days(7)),
        line(Topic::Finalizes, &[R::Finalize], &[By(Aggregate)], OF_FINALIZES, Days(7)),
        line(Topic::Merges, &[R::Merge], &[By(Merge)], AGGREGATE_OUTSIDE, Days(7)),
        with_text(line(Topic::Summaries, &[R::Summary], &[By(Summarize)], AGGREGATE_OUTSIDE, Days(7))),
        line(Topic::Conversations, &[R::Conversation], &[By(Aggregate)], &[By(Notify), Outside], Latest),
        line(Topic::Deliveries, &[R::Delivery], &[By(Notify)], &[Outside], Days(7)),
    ]
};

impl Stage {
    /// All stages, in the order of the dataflow.
    pub const ALL: [Self; 6] =
        [Self::Split, Self::Transcribe, Self::Aggregate, Self::Merge, Self::Summarize, Self::Notify];

    /// The name, as in topics, groups and the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Split => "split",
            Self::Transcribe => "transcribe",
            Self::Aggregate => "aggregate",
            Self::Merge => "merge",
            Self::Summarize => "summarize",
            Self::Notify => "notify",
        }
    }

    /// The topics of the dataflow that this stage reads, in the order of the catalogue, without its retry topics.
    pub fn inputs(self) -> impl Iterator<Item = Topic> {
        CATALOGUE.iter().filter(move |spec| spec.read_by.contains(&Party::Stage(self))).map(|spec| spec.topic)
    }

    /// The retry topics of this stage, the shortest delay first.
    pub fn retries(self) -> impl Iterator<Item = Topic> {
        (1..=RETRY_TIERS).map(move |tier| Topic::Retry(self, tier))
    }

    /// All topics that this stage subscribes to: its inputs, its retry topics, and its dead letters, which it keeps rows
    /// of.
    pub fn reads(self) -> Vec<Topic> {
        self.inputs().chain(self.retries()).chain([Topic::DeadLetter(self)]).collect()
    }
}

/// The topic in which a record stands when it is new.
pub const fn topic_of(record: RecordName) -> Topic {
    use RecordName as R;
    match record {
        R::Open | R::Upload | R::Finish | R::Rerun | R::Erase => Topic::Uploads,
        R::Split => Topic::Splits,
        R::Segment => Topic::Segments,
        R::Callback => Topic::Callbacks,
        R::Transcript => Topic::Transcripts,
        R::Failure => Topic::Failures,
        R::Finalize => Topic::Finalizes,
        R::Merge => Topic::Merges,
        R::Summary => Topic::Summaries,
        R::Conversation => Topic::Conversations,
        R::Delivery => Topic::Deliveries,
    }
}

impl Topic {
    /// All topics: those of the catalogue, then each stage's.
    pub fn all() -> impl Iterator<Item = Self> {
        let own = |stage: Stage| stage.retries().chain([Self::DeadLetter(stage)]);
        CATALOGUE.iter().map(|spec| spec.topic).chain(Stage::ALL.into_iter().flat_map(own))
    }

    /// The line of the catalogue, for a topic of the dataflow.
    pub fn spec(self) -> Option<&'static TopicSpec> {
        CATALOGUE.iter().find(|spec| spec.topic == self)
    }

    /// The stage whose retry or dead-letter topic this is.
    pub fn owner(self) -> Option<Stage> {
        match self {
            Self::Retry(stage, _) | Self::DeadLetter(stage) => Some(stage),
            _ => None,
        }
    }

    /// What stands in it; in a stage's own topics whatever the stage reads.
    pub fn records(self) -> Vec<RecordName> {
        let of = |topic: Self| topic.spec().map_or(&[][..], |spec| spec.records);
        match self.owner() {
            Some(stage) => stage.inputs().flat_map(of).copied().collect(),
            None => of(self).to_vec(),
        }
    }

    /// Who appends to it.
    pub fn written_by(self) -> Vec<Party> {
        match self {
            Self::Retry(stage, _) => vec![Party::Stage(stage), Party::Redrive],
            Self::DeadLetter(stage) => vec![Party::Stage(stage)],
            _ => self.spec().map_or_else(Vec::new, |spec| spec.written_by.to_vec()),
        }
    }

    /// Who consumes it.
    pub fn read_by(self) -> Vec<Party> {
        match self {
            Self::Retry(stage, _) => vec![Party::Stage(stage)],
            Self::DeadLetter(stage) => vec![Party::Stage(stage), Party::Redrive, Party::Outside],
            _ => self.spec().map_or_else(Vec::new, |spec| spec.read_by.to_vec()),
        }
    }

    /// Whether it carries what was said.
    pub fn carries_text(self) -> bool {
        let carries = |topic: Self| topic.spec().is_some_and(|spec| spec.carries_text);
        match self.owner() {
            Some(stage) => stage.inputs().any(carries),
            None => carries(self),
        }
    }

    /// How long records are kept by default. Dead letters without text wait a month for somebody to look.
    pub fn keep(self) -> Keep {
        match (self, self.spec()) {
            (_, Some(spec)) => spec.keep,
            (Self::DeadLetter(_), None) if !self.carries_text() => Keep::Days(30),
            _ => Keep::Days(TEXT_RETENTION_DAYS_MAX),
        }
    }

    /// Kafka's configuration of the topic by default, without what depends on the cluster.
    pub fn config(self) -> Vec<(&'static str, String)> {
        let mut config = vec![("message.timestamp.type", "LogAppendTime".to_owned())];
        match self.keep() {
            Keep::Latest => config.push(("cleanup.policy", "compact".to_owned())),
            Keep::Days(days) => {
                config.push(("cleanup.policy", "delete".to_owned()));
                config.push(("retention.ms", (u64::from(days) * 86_400_000).to_string()));
            }
        }
        config
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A name that stands for nothing in the catalogue.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not in the catalogue of topics and stages")]
pub struct UnknownName(pub String);

impl FromStr for Stage {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        Self::ALL.into_iter().find(|stage| stage.as_str() == name).ok_or_else(|| UnknownName(name.to_owned()))
    }
}

/// The name without a prefix.
impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uploads => f.write_str("uploads"),
            Self::Splits => f.write_str("splits"),
            Self::Segments => f.write_str("segments"),
            Self::Callbacks => f.write_str("callbacks"),
            Self::Transcripts => f.write_str("transcripts"),
            Self::Failures => f.write_str("failures"),
            Self::Finalizes => f.write_str("finalizes"),
            Self::Merges => f.write_str("merges"),
            Self::Summaries => f.write_str("summaries"),
            Self::Conversations => f.write_str("conversations"),
            Self::Deliveries => f.write_str("deliveries"),
            Self::Retry(stage, tier) => write!(f, "{stage}.retry.{tier}"),
            Self::DeadLetter(stage) => write!(f, "{stage}.dead-letter"),
        }
    }
}

impl FromStr for Topic {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        Self::all().find(|topic| topic.to_string() == name).ok_or_else(|| UnknownName(name.to_owned()))
    }
}

/// The topics of one deployment, under its prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topics {
    prefix: String,
}

/// A prefix that no topic can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("topic prefix {0:?} must be at most 200 of the characters A-Z a-z 0-9 . _ -")]
pub struct InvalidPrefix(pub String);

impl Default for Topics {
    fn default() -> Self {
        Self { prefix: "hansard.".to_owned() }
    }
}

impl Topics {
    /// The topics under a prefix, for example `hansard.`.
    ///
    /// # Errors
    /// [`InvalidPrefix`] for what Kafka would refuse in a topic's name.
    pub fn new(prefix: &str) -> Result<Self, InvalidPrefix> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if prefix.len() > 200 || !prefix.bytes().all(allowed) {
            return Err(InvalidPrefix(prefix.to_owned()));
        }
        Ok(Self { prefix: prefix.to_owned() })
    }

    /// The full name of a topic.
    pub fn name(&self, topic: Topic) -> String {
        format!("{}{topic}", self.prefix)
    }

    /// The topic of a full name.
    ///
    /// # Errors
    /// [`UnknownName`] if the name lacks the prefix or is not in the catalogue.
    pub fn parse(&self, name: &str) -> Result<Topic, UnknownName> {
        name.strip_prefix(&self.prefix).ok_or_else(|| UnknownName(name.to_owned()))?.parse()
    }

    /// The schema registry's subjects with their records: TopicNameStrategy where a topic has one record,
    /// TopicRecordNameStrategy where it has several. A stage's own topics carry the original bytes and need none.
    pub fn subjects(&self) -> Vec<(String, RecordName)> {
        let subject = |spec: &TopicSpec, record| match spec.records {
            [_] => format!("{}-value", self.name(spec.topic)),
            _ => format!("{}-hansard.{record}", self.name(spec.topic)),
        };
        CATALOGUE
            .iter()
            .flat_map(|spec| spec.records.iter().map(move |record| (subject(spec, record), *record)))
            .collect()
    }
}
