//! How many records and rows the engine takes a second, and what they cost: `cargo run --release --example throughput
//! -- DIRECTORY [MILLIONS]`. Each phase tells its wall time and the processor's time per item.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use bytes::Bytes;
use hansard_core::id::{Offset, Partition, Timestamp};
use hansard_embedded::{Config, Engine};
use hansard_runtime::ports::facts::Row;
use hansard_runtime::ports::log::{
    Assignment, Committed, Event, Group, Member, Outgoing, TopicPartition, Transaction,
};
use hansard_schemas::{Record, Topic, Transcript, Upload, encode};

const PARTITIONS: i32 = 8;
const STEP: usize = 5_000;

/// Processor time of this process in microseconds, user and system; 0 where the system does not tell.
fn cpu_us() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    (ticks(11) + ticks(12)) * 10_000
}

fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) / 1024
}

fn say(text: &str) {
    writeln!(std::io::stdout().lock(), "{text}").expect("somebody reads");
}

struct Phase(&'static str, Instant, u64);

impl Phase {
    fn begin(name: &'static str) -> Self {
        Self(name, Instant::now(), cpu_us())
    }

    /// Does not count what another phase, which ends now, took.
    fn leave_out(&mut self, other: &Self) {
        self.1 += other.1.elapsed();
        self.2 += cpu_us() - other.2;
    }

    fn end(self, items: usize) {
        let (wall, cpu) = (self.1.elapsed(), cpu_us() - self.2);
        let rate = items as f64 / wall.as_secs_f64();
        let each = cpu as f64 / items as f64;
        let peak = resident_mib();
        say(&format!(
            "{:<34} {rate:>9.0}/s {each:>6.2} us cpu each, wall {wall:.1?}, peak {peak} MiB",
            self.0
        ));
    }
}

fn transcript(number: usize) -> Transcript {
    let conversation_id = format!("0198c1b2-7d3e-7c4f-{:012x}", number / 40);
    let text = "So the plan for the next weeks is to look at what we have, and then to decide. ".repeat(5);
    Transcript {
        conversation_id,
        event_id: "5f".repeat(32),
        occurred_at: 1_700_000_000_000,
        source: "transcribe-0".to_owned(),
        chunk_id: format!("chunk-{}", number % 40 / 4),
        upload_digest: "0a".repeat(32),
        split_digest: "0b".repeat(32),
        provider: "local".to_owned(),
        model: "tiny".to_owned(),
        text,
        text_sha256: format!("{number:064x}"),
        segment: i32::try_from(number % 4).expect("small"),
        ..Default::default()
    }
}

fn fact(number: usize) -> Record {
    if number.is_multiple_of(2) {
        return transcript(number).into();
    }
    let conversation_id = format!("0198c1b2-7d3e-7c4f-{:012x}", number / 40);
    Upload { conversation_id, chunk_id: format!("chunk-{}", number % 40), ..Default::default() }.into()
}

fn partition(number: usize) -> Partition {
    Partition(i32::try_from(number / 40).unwrap_or(0) % PARTITIONS)
}

fn outgoing(topic: Topic, number: usize, record: &Record) -> Outgoing {
    let to = TopicPartition { topic, partition: partition(number) };
    let key = Some(Bytes::copy_from_slice(record.conversation_id().as_bytes()));
    Outgoing { to, key, value: Some(encode(record)), headers: Vec::new() }
}

async fn join(engine: &Engine, name: &str) -> (Box<dyn Member>, Assignment) {
    let group = Group { name: name.to_owned(), instance: "0".to_owned(), topics: vec![Topic::Transcripts] };
    let mut member = engine.log().join(group).await.expect("joined");
    match member.next().await.expect("an event") {
        Event::Assigned(assignment) => (member, assignment),
        other => panic!("{other:?} comes first"),
    }
}

fn open(dir: &Path) -> Engine {
    let config = Config { partitions: PARTITIONS.cast_unsigned(), ..Config::default() };
    Engine::open(dir, config).expect("an engine")
}

async fn append(engine: &Engine, count: usize) {
    let (mut member, assignment) = join(engine, "producer").await;
    let records: Vec<_> = (0..STEP).map(|number| transcript(number).into()).collect::<Vec<Record>>();
    let outgoing: Vec<_> = (0..STEP).map(|at| outgoing(Topic::Transcripts, at, &records[at])).collect();
    let bytes: usize = outgoing.iter().filter_map(|record| record.value.as_ref()).map(Bytes::len).sum();
    say(&format!("{} bytes a record", bytes / STEP));
    let phase = Phase::begin("append in transactions of 5,000");
    for at in 1..=count / STEP {
        let offset = Offset(i64::try_from(at).expect("small"));
        let offsets = assignment.partitions.iter().map(|line| Committed { offset, ..line.clone() }).collect();
        let transaction = Transaction { epoch: assignment.epoch, records: outgoing.clone(), offsets };
        member.transact(transaction).await.expect("committed");
    }
    phase.end(count);
}

async fn read(engine: &Engine, count: usize, name: &'static str) {
    let (mut member, _) = join(engine, name).await;
    let phase = Phase::begin("read by a member that lags");
    let mut seen = 0;
    while seen < count {
        if let Event::Fetched(fetched) = member.next().await.expect("an event") {
            seen += fetched.records.len();
        }
    }
    phase.end(count);
}

fn row(number: usize) -> Row {
    let offset = Offset(i64::try_from(number).expect("small"));
    Row { offset, time: Timestamp(1_700_000_000_000), record: Box::new(fact(number)) }
}

/// Rows are made in portions between the measured writes, so that making them counts for nothing.
async fn rows(engine: &Engine, count: usize) {
    const PORTION: usize = 20 * STEP;
    let facts = engine.facts();
    let mut total = Phase::begin("fact rows, half with a text");
    for start in (0..count).step_by(PORTION) {
        let making = Phase::begin("");
        let rows: Vec<_> = (start..start + PORTION).map(row).collect();
        total.leave_out(&making);
        for rows in rows.chunks(STEP) {
            facts.write(rows).await.expect("written");
        }
        let freeing = Phase::begin("");
        drop(rows);
        total.leave_out(&freeing);
    }
    total.end(count);
    let phase = Phase::begin("read windows of 40 rows");
    for conversation in 0..10_000 {
        let id = format!("0198c1b2-7d3e-7c4f-{conversation:012x}");
        assert_eq!(facts.read(&id).await.expect("rows").len(), 40);
    }
    phase.end(10_000);
}

async fn latency(engine: &Engine) {
    let log = engine.log();
    let record = transcript(1).into();
    let mut times = Vec::new();
    for _ in 0..300 {
        let begin = Instant::now();
        log.append(vec![outgoing(Topic::Transcripts, 1, &record)]).await.expect("appended");
        times.push(begin.elapsed());
    }
    times.sort();
    let at = |share: usize| times[times.len() * share / 100];
    say(&format!("one append: median {:.1?}, 99 % {:.1?}", at(50), at(99)));
}

fn main() {
    let mut arguments = std::env::args_os().skip(1);
    let dir = arguments.next().map(PathBuf::from).expect("a directory");
    let millions = arguments.next().and_then(|text| text.to_str()?.parse::<usize>().ok()).unwrap_or(1);
    let count = millions * 1_000_000;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let engine = open(&dir);
        append(&engine, count).await;
        latency(&engine).await;
        drop(engine);
        let begin = Instant::now();
        let engine = open(&dir);
        say(&format!("opened again in {:.1?}", begin.elapsed()));
        read(&engine, count, "cold").await;
        read(&engine, count, "again").await;
        rows(&engine, count).await;
        let phase = Phase::begin("closing");
        drop(engine);
        phase.end(1);
    });
}
