//! The tables, as data: what they are, and how they come to be. Nothing here is ever dropped or renamed; a later version
//! adds columns, which `migrate` finds missing.

use std::collections::BTreeMap;

use crate::records::{TEXTS, kinds, part_types};

/// A table.
pub(crate) struct Table {
    pub(crate) name: &'static str,
    /// What it is for, as an operator sees it in `DESCRIBE`.
    comment: &'static str,
    pub(crate) partition: &'static [&'static str],
    pub(crate) clustering: &'static [&'static str],
    pub(crate) columns: Vec<(String, String)>,
    /// How long a delete keeps late writes dead, in seconds.
    grace_seconds: u32,
}

/// Longer than any record can wait in a topic, so that no replay brings back what was erased.
const GRACE_ERASED: u32 = 200 * 86_400;
/// An entry too many is harmless, and tombstones slow down listing.
const GRACE_INDEX: u32 = 3_600;

/// The user-defined type of a dead letter's header.
pub(crate) const HEADER: (&str, &str) = ("header", "name text, value blob");

/// All tables.
pub(crate) fn tables() -> Vec<Table> {
    let all = [of_conversations(), of_open_windows(), of_dead_letters(), of_the_deployment()];
    all.into_iter().flatten().collect()
}

/// What is known of each conversation.
fn of_conversations() -> Vec<Table> {
    vec![
        Table {
            name: "facts",
            comment: "One row a fact. rank orders those that compete, content tells them apart.",
            partition: &["conversation"],
            clustering: &["kind", "chunk", "segment", "rank", "content"],
            columns: fact_columns(),
            grace_seconds: GRACE_ERASED,
        },
        Table {
            name: "texts",
            comment: "Transcripts with their texts.",
            partition: &["conversation"],
            clustering: &["chunk", "segment", "sha256"],
            columns: text_columns(),
            grace_seconds: GRACE_ERASED,
        },
        Table {
            name: "erasures",
            comment: "Conversations that were erased. Never removed.",
            partition: &["conversation"],
            clustering: &[],
            columns: listed("conversation text, erased_at timestamp, reason text"),
            grace_seconds: GRACE_ERASED,
        },
        Table {
            name: "journal",
            comment: "One row a submission to a provider; each step has cells of its own.",
            partition: &["conversation"],
            clustering: &["stage", "input", "generation", "submission"],
            columns: listed(
                "conversation text, stage text, input blob, generation bigint, submission blob, started_at timestamp, \
                 until_at timestamp, job text, deadline_at timestamp, asked blob, ended_class text, ended_code text, result blob",
            ),
            grace_seconds: GRACE_ERASED,
        },
        Table {
            name: "jobs",
            comment: "Job ids at providers. They outlive an erasure, which has to undo them.",
            partition: &["conversation"],
            clustering: &["stage", "input", "generation", "submission"],
            columns: listed(
                "conversation text, stage text, input blob, generation bigint, submission blob, job text",
            ),
            grace_seconds: GRACE_ERASED,
        },
    ]
}

/// The index of open windows.
fn of_open_windows() -> Vec<Table> {
    vec![
        Table {
            name: "open_windows",
            comment: "Conversations of which a revision is awaited, by the day on which that began.",
            partition: &["partition", "day"],
            clustering: &["conversation", "revision"],
            columns: listed("partition int, day int, conversation text, revision int"),
            grace_seconds: GRACE_INDEX,
        },
        Table {
            name: "open_window_days",
            comment: "The days that open_windows has.",
            partition: &["partition"],
            clustering: &["day"],
            columns: listed("partition int, day int"),
            grace_seconds: GRACE_INDEX,
        },
    ]
}

/// Dead letters, and the ways to find them.
fn of_dead_letters() -> Vec<Table> {
    vec![
        Table {
            name: "dead_letters",
            comment: "One row each time a record came to rest, with the verdict on it.",
            partition: &["stage", "origin_topic", "origin_partition", "origin_offset"],
            clustering: &["redrives"],
            columns: listed(
                "stage text, origin_topic text, origin_partition int, origin_offset bigint, redrives int, \
                 conversation text, class text, code text, cause text, attempts int, rested_at timestamp, key blob, \
                 value blob, headers frozen<list<frozen<header>>>, verdict text, judged_at timestamp",
            ),
            grace_seconds: GRACE_ERASED,
        },
        Table {
            name: "dead_letters_by_time",
            comment: "Dead letters of a stage, oldest first.",
            partition: &["stage", "day"],
            clustering: &["rested_at", "origin_topic", "origin_partition", "origin_offset", "redrives"],
            columns: listed(
                "stage text, day int, rested_at timestamp, origin_topic text, origin_partition int, \
                 origin_offset bigint, redrives int",
            ),
            grace_seconds: GRACE_ERASED,
        },
        Table {
            name: "dead_letter_days",
            comment: "The days that dead_letters_by_time has.",
            partition: &["stage"],
            clustering: &["day"],
            columns: listed("stage text, day int"),
            grace_seconds: GRACE_ERASED,
        },
        Table {
            name: "dead_letters_by_conversation",
            comment: "Dead letters of a conversation, for its erasure.",
            partition: &["conversation"],
            clustering: &["stage", "origin_topic", "origin_partition", "origin_offset"],
            columns: listed(
                "conversation text, stage text, origin_topic text, origin_partition int, origin_offset bigint",
            ),
            grace_seconds: GRACE_ERASED,
        },
    ]
}

/// What the whole deployment agrees on.
fn of_the_deployment() -> Vec<Table> {
    vec![Table {
        name: "meta",
        comment: "What the whole deployment agrees on.",
        partition: &["name"],
        clustering: &[],
        columns: listed("name text, value text"),
        grace_seconds: GRACE_ERASED,
    }]
}

/// The key of a fact, its place in the log, and the fields of all kinds of facts; a row has those of its kind.
pub(crate) fn fact_columns() -> Vec<(String, String)> {
    let mut columns = listed(
        "conversation text, kind text, chunk text, segment int, rank bigint, content blob, log_offset bigint, \
         logged_at timestamp",
    );
    let own = kinds().into_iter().flat_map(|(kind, columns)| {
        // A transcript's text stands in the texts only.
        let keep = move |name: &str| kind != "transcript" || !TEXTS.contains(&name);
        columns.into_iter().filter(move |(name, _)| keep(name))
    });
    let own: BTreeMap<&str, String> = own.collect();
    columns.extend(own.into_iter().map(|(name, cql_type)| (name.to_owned(), cql_type)));
    columns
}

/// The key of a text, and the fields of a transcript.
pub(crate) fn text_columns() -> Vec<(String, String)> {
    let mut columns = listed("conversation text, chunk text, segment int, sha256 blob");
    let own = kinds().into_iter().filter(|(kind, _)| *kind == "transcript").flat_map(|(_, columns)| columns);
    columns.extend(own.map(|(name, cql_type)| (name.to_owned(), cql_type)));
    columns
}

/// Columns from their definition; types with commas of their own do not occur here.
fn listed(definition: &str) -> Vec<(String, String)> {
    let column = |line: &str| line.trim().split_once(' ').map(|(name, of)| (name.to_owned(), of.to_owned()));
    definition.split(',').filter_map(column).collect()
}

fn quoted(names: &[&str]) -> String {
    names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
}

/// User-defined types as statements' parts: name, and fields with their types.
pub(crate) fn types() -> Vec<(String, Vec<(String, String)>)> {
    let own =
        |fields: Vec<(&str, String)>| fields.into_iter().map(|(name, of)| (name.to_owned(), of)).collect();
    let mut types: Vec<_> =
        part_types().into_iter().map(|(name, fields)| (name.to_owned(), own(fields))).collect();
    types.push((HEADER.0.to_owned(), listed(HEADER.1)));
    types
}

/// Names with types, as they stand in `CREATE`.
pub(crate) fn definitions(columns: &[(String, String)]) -> String {
    columns.iter().map(|(name, of)| format!("\"{name}\" {of}")).collect::<Vec<_>>().join(", ")
}

impl Table {
    /// The statement that creates it where it is missing.
    pub(crate) fn create(&self, keyspace: &str) -> String {
        let clustering =
            if self.clustering.is_empty() { String::new() } else { format!(", {}", quoted(self.clustering)) };
        format!(
            "CREATE TABLE IF NOT EXISTS \"{keyspace}\".\"{}\" ({}, PRIMARY KEY (({}){clustering})) \
             WITH comment = '{}' AND gc_grace_seconds = {}",
            self.name,
            definitions(&self.columns),
            quoted(self.partition),
            self.comment,
            self.grace_seconds,
        )
    }
}
