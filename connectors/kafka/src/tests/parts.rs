//! Tests of parts that need no broker: the settings, and the queue to the loop.

use futures::FutureExt;
use hansard_core::id::{Offset, Partition};
use hansard_runtime::ports::log::{Event, Fetched, LogError, TopicPartition};
use hansard_schemas::Topic;

use crate::outbox::Outbox;
use crate::{ConfigError, KafkaConfig};

fn with(setting: &str, value: &str) -> KafkaConfig {
    let mut config = KafkaConfig::new("127.0.0.1:9", "t.", 1);
    config.overrides.insert(setting.into(), value.into());
    config
}

#[test]
fn what_delivery_rests_on_cannot_be_overridden() {
    for setting in
        ["isolation.level", "consumer.enable.auto.commit", "producer.enable.idempotence", "group.id"]
    {
        let expected = ConfigError::Fixed { setting: setting.into() };
        assert_eq!(with(setting, "x").check(), Err(expected));
    }
    for (setting, value) in [("no.such.setting", "1"), ("session.timeout.ms", "soon")] {
        let refused = with(setting, value).check();
        assert!(
            matches!(&refused, Err(ConfigError::Client { cause }) if cause.contains(setting)),
            "{refused:?}"
        );
    }
}

#[test]
fn overrides_reach_the_clients_that_they_are_for() {
    let config = with("consumer.fetch.wait.max.ms", "7");
    assert_eq!(config.check(), Ok(()));
    assert_eq!(config.member("g", None).get("fetch.wait.max.ms"), Some("7"));
    assert_eq!(config.appender().get("fetch.wait.max.ms"), None);
    let config = with("client.id", "us");
    let clients =
        [config.member("g", None), config.appender(), config.transactional("i"), config.watermarks()];
    assert!(clients.iter().all(|client| client.get("client.id") == Some("us")));
}

fn fetched(position: i64) -> Fetched {
    let from = TopicPartition { topic: Topic::Uploads, partition: Partition(0) };
    Fetched { from, records: Vec::new(), position: Offset(position) }
}

#[test]
fn a_new_assignment_voids_what_was_not_taken() {
    let outbox = Outbox::new(100);
    outbox.control(Ok(Event::Lost));
    outbox.fetched(60, fetched(1));
    assert!(outbox.has_room());
    outbox.fetched(60, fetched(2));
    assert!(!outbox.has_room());
    outbox.control(Ok(Event::Revoking));
    assert!(outbox.has_room());
    outbox.fetched(120, fetched(3));
    outbox.close();
    let taken: Vec<_> = std::iter::repeat_with(|| outbox.next(true).now_or_never()).take(4).collect();
    let expected =
        [Ok(Event::Lost), Ok(Event::Revoking), Ok(Event::Fetched(fetched(3))), Err(LogError::Closed)];
    assert_eq!(taken, expected.map(Some));
    assert!(outbox.has_room());
}

#[test]
fn changes_are_given_without_records() {
    let outbox = Outbox::new(100);
    outbox.control(Ok(Event::Lost));
    outbox.fetched(120, fetched(1));
    assert_eq!(outbox.next(false).now_or_never(), Some(Ok(Event::Lost)));
    assert_eq!(outbox.next(false).now_or_never(), None);
    assert!(!outbox.has_room(), "the records stay and count");
    assert_eq!(outbox.next(true).now_or_never(), Some(Ok(Event::Fetched(fetched(1)))));
    outbox.fetched(1, fetched(2));
    outbox.close();
    assert_eq!(outbox.next(false).now_or_never(), Some(Err(LogError::Closed)));
}

#[test]
fn room_is_waited_for_until_half_is_free() {
    let outbox = Outbox::new(100);
    for position in 0..4 {
        outbox.fetched(30, fetched(position));
    }
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| outbox.wait_for_room(std::time::Duration::from_secs(30)));
        for _ in 0..3 {
            outbox.next(true).now_or_never().expect("an event").expect("records");
        }
        assert!(waiting.join().expect("no panic"));
    });
    outbox.fetched(30, fetched(9));
    assert!(!outbox.wait_for_room(std::time::Duration::ZERO), "60 of 100 bytes are more than half");
}
