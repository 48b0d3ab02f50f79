//! How fast the store is on the server in `HANSARD_TEST_CQL`: transcripts with their texts written by conversation, and
//! windows read back. Run it with `--release`; it leaves a keyspace behind.
#![allow(clippy::print_stdout, missing_docs)]

use std::error::Error;
use std::time::Instant;

use futures::stream::{self, StreamExt, TryStreamExt};
use hansard_core::id::{Offset, Timestamp};
use hansard_runtime::ports::facts::{Facts, Row};
use hansard_schemas::{Transcript, text_sha256};
use hansard_scylla::{ScyllaConfig, ScyllaStore, migrate};

const CONVERSATIONS: usize = 2_000;
const SEGMENTS: i32 = 40;

fn conversation(number: usize) -> Vec<Row> {
    let row = |segment: i32| {
        let mut transcript = Transcript {
            conversation_id: format!("conversation-{number}"),
            chunk_id: "chunk-0".into(),
            upload_digest: "0".repeat(64),
            split_digest: "1".repeat(64),
            provider: "measured".into(),
            text: format!("{segment} ").repeat(130),
            segment,
            ..Transcript::default()
        };
        transcript.text_sha256 = text_sha256(&transcript);
        Row {
            offset: Offset(segment.into()),
            time: Timestamp(1_700_000_000_000),
            record: Box::new(transcript.into()),
        }
    };
    (0..SEGMENTS).map(row).collect()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let keyspace = format!("throughput_{}", std::process::id());
    let mut config = ScyllaConfig::new(vec![std::env::var("HANSARD_TEST_CQL")?], keyspace, 4);
    config.replication = "{'class': 'SimpleStrategy', 'replication_factor': 1}".into();
    migrate(&config).await?;
    let store = ScyllaStore::new(config);

    let all: Vec<Vec<Row>> = (0..CONVERSATIONS).map(conversation).collect();
    let start = Instant::now();
    for some in all.chunks(125) {
        Facts::write(&store, &some.concat()).await?;
    }
    let (rows, seconds) = (CONVERSATIONS * SEGMENTS as usize, start.elapsed().as_secs_f64());
    println!(
        "written: {rows} facts and as many texts in {seconds:.2} s, {:.0} facts/s",
        rows as f64 / seconds
    );

    let start = Instant::now();
    let ids: Vec<String> = (0..CONVERSATIONS).map(|number| format!("conversation-{number}")).collect();
    let windows = stream::iter(&ids).map(|id| Facts::read(&store, id)).buffer_unordered(32);
    let read: usize = windows.try_fold(0, async |sum, rows| Ok(sum + rows.len())).await?;
    assert_eq!(read, rows, "every row is read");
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "read: {CONVERSATIONS} windows of {SEGMENTS} rows in {seconds:.2} s, {:.0} windows/s",
        CONVERSATIONS as f64 / seconds
    );
    Ok(())
}
