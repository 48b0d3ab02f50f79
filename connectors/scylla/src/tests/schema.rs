//! The schema: it can be applied again and to an older one, its columns agree with the records, and a deployment keeps
//! its partition count.

use std::collections::BTreeMap;
use std::time::Duration;

use hansard_core::id::{Offset, Timestamp};
use hansard_runtime::ports::PortError;
use hansard_runtime::ports::facts::{Facts, Row};
use hansard_schemas::{Options, Upload};
use tokio::net::{TcpListener, TcpStream};

use super::{PARTITIONS, config, connected};
use crate::cql::Cql;
use crate::records::kinds;
use crate::schema::{definitions, tables, types};
use crate::{ScyllaConfig, ScyllaStore, migrate};

async fn attempt(config: &ScyllaConfig) -> Result<(), PortError> {
    ScyllaStore::new(config.clone()).connect().await
}

fn refusal<T>(result: Result<T, PortError>) -> String {
    match result {
        Err(PortError::Refused { cause, .. }) => cause,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was not refused"),
    }
}

#[test]
fn a_column_has_one_type_for_all_kinds() {
    let mut types: BTreeMap<&str, String> = BTreeMap::new();
    for (kind, columns) in kinds() {
        for (name, cql_type) in columns {
            let known = types.entry(name).or_insert_with(|| cql_type.clone());
            assert_eq!(*known, cql_type, "{name} of {kind}");
        }
    }
}

/// A schema without a column and a field that this version has.
async fn older(config: &ScyllaConfig) {
    let (cql, keyspace) = (Cql::connect(config).await.expect("connected"), &config.keyspace);
    cql.define(&format!("CREATE KEYSPACE \"{keyspace}\" WITH replication = {}", config.replication))
        .await
        .expect("made");
    for (name, mut fields) in types() {
        fields.retain(|(field, _)| field != "diarize");
        let fields = definitions(&fields);
        cql.define(&format!("CREATE TYPE \"{keyspace}\".\"{name}\" ({fields})")).await.expect("made");
    }
    let mut facts = tables().remove(0);
    facts.columns.retain(|(column, _)| column != "track");
    cql.define(&facts.create(keyspace)).await.expect("made");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn migrating_adds_what_an_older_version_lacks() {
    let config = config("migrate");
    assert!(refusal(attempt(&config).await).contains("store migrate"));
    older(&config).await;
    assert!(refusal(attempt(&config).await).contains("store migrate"));
    for _ in 0..2 {
        migrate(&config).await.expect("migrated again");
    }
    let store = connected(&config).await;
    let upload = Upload {
        conversation_id: "c".into(),
        track: "left".into(),
        options: Some(Options {
            keyterms: vec!["Hansard".into()],
            diarize: Some(false),
            ..Options::default()
        }),
        ..Upload::default()
    };
    let row = Row { offset: Offset(1), time: Timestamp(2), record: Box::new(upload.into()) };
    Facts::write(&*store, std::slice::from_ref(&row)).await.expect("written");
    assert_eq!(Facts::read(&*store, "c").await.expect("read"), [row]);

    let other = ScyllaConfig { partitions: PARTITIONS + 1, ..config };
    let expected = format!("the deployment has {PARTITIONS} partitions, not {}", PARTITIONS + 1);
    assert_eq!(refusal(attempt(&other).await), expected);
    assert_eq!(refusal(migrate(&other).await), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_may_migrate_at_once() {
    let config = config("migrates");
    older(&config).await;
    let migrates = (0..4).map(|_| migrate(&config));
    for migrated in futures::future::join_all(migrates).await {
        migrated.expect("whoever is faster");
    }
    attempt(&config).await.expect("it is as this version wants it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_may_come_later() {
    let mut config = config("later");
    migrate(&config).await.expect("migrated");
    let database = std::mem::take(&mut config.nodes).remove(0);
    // Nobody listens on the port of a socket that was just closed.
    let free =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port");
    config.nodes = vec![free.to_string()];
    let store = ScyllaStore::new(config);
    for _ in 0..2 {
        let away = store.read("c").await;
        assert!(matches!(away, Err(PortError::Unavailable { .. })), "{away:?}");
    }
    let listener = TcpListener::bind(free).await.expect("the port is still free");
    let forwarding = tokio::spawn(async move {
        while let Ok((mut from, _)) = listener.accept().await {
            let mut to = TcpStream::connect(&database).await.expect("the database");
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut from, &mut to).await });
        }
    });
    let came = async {
        while let Err(away) = store.read("c").await {
            assert!(matches!(away, PortError::Unavailable { .. }), "{away:?}");
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), came).await.expect("connected by itself");
    forwarding.abort();
}

/// As where the address is another service's, which waits for more of what it takes for a request.
#[tokio::test]
async fn a_silent_peer_is_not_waited_for() {
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = silent.local_addr().expect("an address").to_string();
    let mut config = ScyllaConfig::new(vec![address.clone()], "any", 1);
    config.connect_within = Duration::from_millis(300);
    let answer = tokio::time::timeout(Duration::from_secs(30), ScyllaStore::new(config).connect()).await;
    match answer.expect("an answer in time") {
        Err(PortError::Unavailable { cause, .. }) => assert!(cause.contains(&address), "{cause}"),
        other => panic!("{other:?}"),
    }
}
