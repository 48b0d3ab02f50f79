//! Death at any moment, and a disk that is full: what was acknowledged is there, and transactions are whole.
//!
//! Each test starts itself again as the process that is to die, told so by a variable of its environment.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use hansard_core::id::{Digest, Generation, Offset, Partition, Timestamp};
use hansard_runtime::ports::facts::Row;
use hansard_runtime::ports::journal::{JournalKey, Step, SubmissionId};
use hansard_runtime::ports::log::{
    Committed, Event, Group, Log, LogRecord, Member, Outgoing, TopicPartition, Transaction,
};
use hansard_schemas::{Stage, Topic, Upload};
use rand::{Rng, SeedableRng};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::{open, small};
use crate::{Config, Engine};

const DIRECTORY: &str = "HANSARD_TEST_DIRECTORY";
const INPUT: TopicPartition = TopicPartition { topic: Topic::Uploads, partition: Partition(0) };
const OUTPUTS: [Topic; 2] = [Topic::Finalizes, Topic::Merges];

fn numbered(to: TopicPartition, number: i64, bytes: usize) -> Outgoing {
    let mut value = number.to_be_bytes().to_vec();
    value.resize(bytes.max(8), 0x5a);
    Outgoing {
        to,
        key: Some(Bytes::from_static(b"crash")),
        value: Some(Bytes::from(value)),
        headers: Vec::new(),
    }
}

fn number(record: &LogRecord) -> i64 {
    let value = record.value.as_ref().and_then(|value| value.first_chunk::<8>()).expect("a number");
    i64::from_be_bytes(*value)
}

fn row(number: i64) -> Row {
    let chunk_id = format!("chunk-{number}");
    let upload = Upload { conversation_id: "crash".to_owned(), chunk_id, ..Default::default() };
    Row { offset: Offset(number), time: Timestamp(number), record: Box::new(upload.into()) }
}

fn effect(number: i64) -> JournalKey {
    let generation = Generation(number);
    JournalKey { conversation: "crash".to_owned(), stage: Stage::Split, input: Digest([7; 32]), generation }
}

async fn join(log: &dyn Log) -> (Box<dyn Member>, hansard_runtime::ports::log::Assignment) {
    let group =
        Group { name: "aggregate".to_owned(), instance: "one".to_owned(), topics: vec![Topic::Uploads] };
    let mut member = log.join(group).await.expect("joined");
    match member.next().await.expect("an event") {
        Event::Assigned(assignment) => (member, assignment),
        other => panic!("{other:?} comes first"),
    }
}

fn committed(partitions: &[Committed]) -> i64 {
    partitions.iter().find(|line| line.from == INPUT).map_or(0, |line| line.offset.0)
}

async fn all(log: &dyn Log, from: TopicPartition) -> Vec<LogRecord> {
    let end = log.ends(&[from]).await.expect("the end")[0].end;
    let (mut position, mut records) = (Offset(0), Vec::new());
    while position < end {
        let fetched = log.read(from, position, 1 << 20, Duration::ZERO).await.expect("a read");
        position = fetched.position;
        records.extend(fetched.records);
    }
    records
}

/// Says on the standard output what was acknowledged.
fn say(what: &str, number: i64, offset: i64) {
    writeln!(std::io::stdout().lock(), "acknowledged {what} {number} {offset}")
        .expect("a parent that listens");
}

/// Appends, writes effects, and writes rows with transactions that rest on them, until it is killed.
fn live(dir: &Path) {
    let engine = open(dir, &small());
    let (log, facts, journal) = (engine.log(), engine.facts(), engine.journal());
    Runtime::new().expect("a runtime").block_on(async {
        let (mut member, assignment) = join(&*log).await;
        let mut done = committed(&assignment.partitions);
        let appending = async {
            for count in log.ends(&[INPUT]).await.expect("the end")[0].end.0.. {
                let offsets = log.append(vec![numbered(INPUT, count, 600)]).await.expect("appended");
                say("append", count, offsets[0].0);
            }
        };
        let paying = async {
            for count in i64::from(std::process::id()).. {
                let id = SubmissionId(*b"sixteen bytes id");
                let step = Step::Result(Bytes::copy_from_slice(&count.to_be_bytes()));
                journal.write(&effect(count), id, step).await.expect("written");
                say("effect", count, 0);
            }
        };
        let transacting = async {
            loop {
                done += 1;
                facts.write(&[row(done)]).await.expect("written");
                let to = OUTPUTS.map(|topic| TopicPartition { topic, partition: Partition(0) });
                let records = to.map(|to| numbered(to, done, 3_000)).to_vec();
                let offsets =
                    vec![Committed { from: INPUT, offset: Offset(done), metadata: done.to_string() }];
                let transaction = Transaction { epoch: assignment.epoch, records, offsets };
                member.transact(transaction).await.expect("committed");
                say("transaction", done, done);
            }
        };
        tokio::join!(appending, paying, transacting);
    });
}

/// Starts this test again as a child that works in `dir`.
fn child(test: &str, dir: &Path, shell: Option<&str>) -> Command {
    let test_binary = std::env::current_exe().expect("this test's own path");
    let mut command = match shell {
        Some(script) => {
            let mut command = Command::new("sh");
            command.args(["-c", script]).arg(test_binary);
            command
        }
        None => Command::new(test_binary),
    };
    command.args([test, "--exact", "--nocapture", "--test-threads=1"]).env(DIRECTORY, dir);
    command.stdout(Stdio::piped()).stdin(Stdio::null());
    command
}

fn told_to_work_in() -> Option<PathBuf> {
    std::env::var_os(DIRECTORY).map(PathBuf::from)
}

/// What a life acknowledged: (what, number, offset).
type Acknowledged = Vec<(String, i64, i64)>;

/// Lets a child live for a while and kills it; gives what it acknowledged.
fn life_and_death(dir: &Path, lives: Duration) -> Acknowledged {
    let mut child = child("tests::crash::killed_at_any_moment", dir, None).spawn().expect("a child");
    let output = BufReader::new(child.stdout.take().expect("its output"));
    let reading = std::thread::spawn(move || {
        let lines = output.lines().map_while(Result::ok);
        let parsed = lines.filter_map(|line| {
            let mut words = line.strip_prefix("acknowledged ")?.split(' ').map(str::to_owned);
            Some((words.next()?, words.next()?.parse().ok()?, words.next()?.parse().ok()?))
        });
        parsed.collect()
    });
    // The moment of death is the point of the test, not something that is waited for.
    std::thread::park_timeout(lives);
    child.kill().expect("killed");
    child.wait().expect("dead");
    reading.join().expect("read to the end")
}

async fn verify(engine: &Engine, acknowledged: &Acknowledged) {
    let (log, facts, journal) = (engine.log(), engine.facts(), engine.journal());
    let input: Vec<_> =
        all(&*log, INPUT).await.iter().map(|record| (record.offset.0, number(record))).collect();
    assert!(input.iter().zip(0..).all(|((offset, number), at)| *offset == at && *number == at));
    let outputs = OUTPUTS.map(|topic| TopicPartition { topic, partition: Partition(0) });
    let first: Vec<_> = all(&*log, outputs[0]).await.iter().map(number).collect();
    let second: Vec<_> = all(&*log, outputs[1]).await.iter().map(number).collect();
    assert_eq!(first, second, "a transaction is whole in both of its topics");
    assert!(first.iter().copied().eq(1..=first.len() as i64), "none is missing, none is double: {first:?}");
    let (_member, assignment) = join(&*log).await;
    let done = committed(&assignment.partitions);
    assert_eq!(done, first.len() as i64, "the offset is committed with the records");
    let rows: BTreeSet<_> = facts.read("crash").await.expect("rows").iter().map(|row| row.offset.0).collect();
    assert!((1..=done).all(|number| rows.contains(&number)), "no transaction without its row");
    for (what, number, offset) in acknowledged {
        match what.as_str() {
            // Numbers are offsets here, as was asserted of all of them.
            "append" => {
                assert!(offset == number && *offset < input.len() as i64, "append {number} at {offset}");
            }
            "transaction" => assert!(*number <= done, "transaction {number} of {done}"),
            "effect" => {
                let read = journal.read(&effect(*number)).await.expect("effect");
                assert_eq!(read.len(), 1, "effect {number}");
            }
            other => panic!("{other} is none of ours"),
        }
    }
}

#[test]
fn killed_at_any_moment() {
    if let Some(dir) = told_to_work_in() {
        return live(&dir);
    }
    let seed: u64 = rand::rng().random();
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    let dir = TempDir::new().expect("a directory");
    let mut count = 0;
    for life in 0..10 {
        let lives = Duration::from_millis(random.random_range(100..500));
        let acknowledged = life_and_death(dir.path(), lives);
        count += acknowledged.len();
        let engine = open(dir.path(), &small());
        let verified = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            Runtime::new().expect("a runtime").block_on(verify(&engine, &acknowledged));
        }));
        assert!(verified.is_ok(), "seed {seed}, life {life} of {lives:?}");
    }
    assert!(count > 100, "{count} acknowledgements in ten lives prove nothing, seed {seed}");
}

/// Appends until the limit of a file's size stops it, then lifts the limit.
fn fill(dir: &Path) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let config = Config { write_buffer_bytes: 512 << 20, ..small() };
    let engine = open(dir, &config);
    let log = engine.log();
    let limit = getrlimit(Resource::Fsize);
    setrlimit(Resource::Fsize, Rlimit { current: Some(72 << 20), ..limit }).expect("a limit");
    Runtime::new().expect("a runtime").block_on(async {
        let (mut member, assignment) = join(&*log).await;
        let mut count = 0;
        let refused = loop {
            let records = (count..count + 100).map(|number| numbered(INPUT, number, 10_000)).collect();
            match log.append(records).await {
                Ok(offsets) => count = offsets[99].0 + 1,
                Err(refused) => break refused,
            }
        };
        assert!(refused.to_string().contains("unavailable"), "{refused}");
        let records = all(&*log, INPUT).await;
        assert!(records.iter().map(number).eq(0..count), "reading goes on with what was acknowledged");
        setrlimit(Resource::Fsize, limit).expect("no limit");
        let next = log.append(vec![numbered(INPUT, count, 8)]).await.expect("writing goes on")[0].0;
        let records = all(&*log, INPUT).await;
        // What was refused may have become durable all the same, then as a whole.
        assert!(next == count || next == count + 100, "{next} after {count}");
        assert!(
            records.iter().map(number).take_while(|number| *number < count).eq(0..count),
            "nothing acknowledged is lost"
        );
        // Everything that was handed over is void: rows that were not yet synced may be gone.
        let events = [member.next().await, member.next().await].map(|event| event.expect("an event"));
        assert!(
            matches!(&events, [Event::Lost, Event::Assigned(new)] if new.epoch > assignment.epoch),
            "{events:?}"
        );
        let line = Committed { from: INPUT, offset: Offset(1), metadata: String::new() };
        let stale = Transaction { epoch: assignment.epoch, records: Vec::new(), offsets: vec![line] };
        member.transact(stale).await.expect_err("work from before is refused");
        say("recovery", count, next);
    });
}

#[test]
fn a_full_disk_loses_nothing_and_is_left_behind() {
    if let Some(dir) = told_to_work_in() {
        return fill(&dir);
    }
    let dir = TempDir::new().expect("a directory");
    // By default the signal that comes with the limit kills; ignored, the write fails, as on a full disk.
    let script = r#"trap "" XFSZ; exec "$0" "$@""#;
    let test = "tests::crash::a_full_disk_loses_nothing_and_is_left_behind";
    let output = child(test, dir.path(), Some(script)).output().expect("a child");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("acknowledged recovery"), "{said}");
}
