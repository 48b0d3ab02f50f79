//! How fast the log is on the broker in `HANSARD_TEST_KAFKA`: appends, transactions of several sizes, and a member that
//! reads what it had not read. Run it with `--release`; it leaves topics behind.
#![allow(clippy::print_stdout, missing_docs)]

use std::error::Error;
use std::time::Instant;

use hansard_core::id::{Offset, Partition};
use hansard_kafka::{KafkaConfig, KafkaLog};
use hansard_runtime::ports::log::{
    Assignment, Committed, Event, Group, Log, Member, Outgoing, TopicPartition, Transaction,
};
use hansard_schemas::Topic;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;

const PARTITIONS: i32 = 4;
const RECORDS: usize = 400_000;
const BYTES: usize = 600;

fn records(topic: Topic, count: usize) -> Vec<Outgoing> {
    let value = vec![b'x'; BYTES];
    let to = |partition| TopicPartition { topic, partition: Partition(partition) };
    let record = |partition| Outgoing {
        to: to(partition),
        key: Some("conversation-0000".into()),
        value: Some(value.clone().into()),
        headers: Vec::new(),
    };
    (0..PARTITIONS).cycle().take(count).map(record).collect()
}

async fn assigned(member: &mut dyn Member) -> Result<Assignment, Box<dyn Error>> {
    loop {
        if let Event::Assigned(assignment) = member.next().await? {
            return Ok(assignment);
        }
    }
}

fn report(what: &str, count: usize, start: Instant) {
    let seconds = start.elapsed().as_secs_f64();
    println!("{what}: {count} records of {BYTES} bytes in {seconds:.2} s, {:.0}/s", count as f64 / seconds);
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let brokers = std::env::var("HANSARD_TEST_KAFKA")?;
    let config =
        KafkaConfig::new(&brokers, format!("throughput{}.", std::process::id()), PARTITIONS.unsigned_abs());
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", &brokers).create()?;
    for topic in [Topic::Uploads, Topic::Finalizes] {
        let name = format!("{}{topic}", config.prefix);
        let topic = NewTopic::new(&name, PARTITIONS, TopicReplication::Fixed(1));
        let topic = topic.set("message.timestamp.type", "LogAppendTime");
        admin.create_topics([&topic], &AdminOptions::new()).await?;
    }
    let log = KafkaLog::new(config)?;

    let start = Instant::now();
    for some in records(Topic::Uploads, RECORDS).chunks(10_000) {
        log.append(some.to_vec()).await?;
    }
    report("append", RECORDS, start);

    let group = Group { name: "aggregate".into(), instance: "a".into(), topics: vec![Topic::Uploads] };
    let start = Instant::now();
    let mut member = log.join(group).await?;
    let assignment = assigned(&mut *member).await?;
    println!("joined in {:.2} s", start.elapsed().as_secs_f64());
    let (start, mut read) = (Instant::now(), 0);
    while read < RECORDS {
        if let Event::Fetched(fetched) = member.next().await? {
            read += fetched.records.len();
        }
    }
    report("read by a member", read, start);

    for size in [100, 1_000, 5_000] {
        let batch = records(Topic::Finalizes, size);
        let committed = |from: &Committed| Committed { offset: Offset(1), ..from.clone() };
        let offsets: Vec<Committed> = assignment.partitions.iter().map(committed).collect();
        let (start, rounds) = (Instant::now(), 20);
        for _ in 0..rounds {
            let (records, offsets) = (batch.clone(), offsets.clone());
            member.transact(Transaction { epoch: assignment.epoch, records, offsets }).await?;
        }
        let each = start.elapsed().as_secs_f64() * 1000.0 / f64::from(rounds);
        report(&format!("transactions of {size}, {each:.1} ms each"), size * 20, start);
    }
    member.leave().await;
    Ok(())
}
