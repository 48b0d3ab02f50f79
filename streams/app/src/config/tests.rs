//! Configuration: which layer wins, what is refused and how, and that no secret is shown.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;

use clap::CommandFactory as _;
use hansard_core::id::Millis;
use hansard_schemas::Stage;
use hansard_speech::LocalModel;
use tempfile::NamedTempFile;

use super::layers::{ConfigError, Layers, Source, Values};
use super::settings::SETTINGS;
use super::{ClientConfig, Config, Kind, to_json, to_toml};

fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("a file");
    file.write_all(text.as_bytes()).expect("written");
    file
}

fn joined(flags: &[(&str, &str)], environment: &[(&str, &str)], text: &str) -> Result<Values, ConfigError> {
    let file = file(text);
    let layers = Layers {
        flags: pairs(flags),
        environment: pairs(environment),
        file: Some(file.path().to_owned()),
        preset: pairs(&[("drain", "3 s")]),
    };
    layers.join()
}

fn config(text: &str) -> Result<Config, ConfigError> {
    joined(&[], &[], &format!("cache = \"/tmp\"\n{text}")).and_then(Config::read)
}

#[test]
fn recordings_are_decoded_by_this_program_or_by_another() {
    let child = |text: &str| config(text).expect("sound").audio.child;
    assert_eq!(child(""), None);
    let named = child("[audio]\nchild = \"/usr/local/bin/hansard-audio-child\"\n");
    assert_eq!(named, Some("/usr/local/bin/hansard-audio-child".into()));
}

#[test]
fn flag_beats_environment_beats_file_beats_preset_beats_default() {
    let flag = [("split.attempts", "1")];
    let environment = [("HANSARD_SPLIT_ATTEMPTS", "2")];
    let text = "drain = \"4 s\"\n[split]\nattempts = 3\n";
    let cases: [(&[_], &[_], &str, &str, Source); 4] = [
        (&flag, &environment, text, "1", Source::Flag),
        (&[], &environment, text, "2", Source::Environment),
        (&[], &[], text, "3", Source::File),
        (&[], &[], "", "4", Source::Default),
    ];
    for (flags, environment, text, expected, source) in cases {
        let values = joined(flags, environment, text).expect("joins");
        let found = &values.0["split.attempts"];
        assert_eq!((found.text.as_str(), found.source), (expected, source));
    }
    let drain = |text: &str| joined(&[], &[], text).expect("joins").0["drain"].text.clone();
    assert_eq!((drain(text), drain("")), ("4 s".to_owned(), "3 s".to_owned()));
}

#[test]
fn every_setting_is_read_and_every_default_is_right() {
    let mut values = Layers::default().join().expect("joins");
    ClientConfig::read(values.clone()).expect("the client's");
    // `Config::read` asserts that nobody left a setting of the server unread.
    values.0.get_mut("cache").expect("a setting").text = "/tmp".to_owned();
    let config = Config::read(values).expect("the server's");
    assert_eq!(
        config.jobs[&Stage::Transcribe].policy.tiers,
        [Millis(5_000), Millis(60_000), Millis(600_000)]
    );
    assert_eq!(config.limits, hansard_gateway::Limits::default());
    assert_eq!(config.audio.limits, hansard_audio::Limits::default());
    assert_eq!(config.aggregate.rules, hansard_core::Rules::default());
    assert_eq!((config.speech.order, config.speech.children), (vec![Kind::Local], 1));
    assert_eq!(config.speech.model, LocalModel::Tiny);
    assert!(config.summary.server.is_none());
}

#[test]
fn an_unknown_name_is_refused_with_the_nearest() {
    let refused = joined(&[], &[], "[splitt]\nattempt = 3\n").expect_err("unknown").to_string();
    assert!(refused.contains("\"splitt.attempt\"") && refused.contains("\"split.attempts\""), "{refused}");
    let refused = joined(&[], &[("HANSARD_LISTN", "x")], "").expect_err("unknown").to_string();
    assert!(refused.contains("HANSARD_LISTN") && refused.contains("HANSARD_LISTEN"), "{refused}");
    let foreign = [
        ("HANSARD_TEST_KAFKA", "x"),
        ("HANSARD_CONFIG", "x"),
        ("HANSARD_GATEWAY_SERVICE_HOST", "10.0.0.1"),
        ("HANSARD_GATEWAY_PORT", "tcp://10.0.0.1:80"),
        ("HANSARD_GATEWAY_PORT_80_TCP_ADDR", "10.0.0.1"),
    ];
    joined(&[], &foreign, "").expect("these are none of ours");
    joined(&[], &[("HANSARD_LISTEN_FILE", "x")], "").expect_err("only secrets come from files");
}

#[test]
fn a_secret_comes_from_a_file_and_is_never_shown() {
    let secret = file("s3cret-s3cret-s3cret\n");
    let path = secret.path().to_str().expect("a path");
    let environment = [
        ("HANSARD_OPENAI_KEY_FILE", path),
        ("HANSARD_SUMMARY_KEY_FILE", path),
        ("HANSARD_KEYS", "app:producer:0123456789abcdef"),
        ("HANSARD_KAFKA_BROKERS", "127.0.0.1:9092"),
        ("HANSARD_KAFKA_SET", "sasl.password=0123456789"),
        ("HANSARD_STORE_NODES", "127.0.0.1:9042"),
        ("HANSARD_STORE_USER", "hansard"),
        ("HANSARD_STORE_PASSWORD_FILE", path),
        ("HANSARD_REGISTRY_URL", "https://registry"),
        ("HANSARD_REGISTRY_USER", "hansard"),
        ("HANSARD_REGISTRY_PASSWORD_FILE", path),
        ("HANSARD_S3_BUCKET", "b"),
        ("HANSARD_S3_ACCESS_KEY", "0123456789"),
        ("HANSARD_S3_SECRET_KEY_FILE", path),
        ("HANSARD_RUN_SIGNING_KEY", "0123456789abcdef0123456789abcdef"),
    ];
    let values = joined(&[], &environment, "cache = \"/tmp\"").expect("joins");
    assert_eq!(values.0["openai.key"].text, "s3cret-s3cret-s3cret");
    for shown in
        [to_toml(&values), to_json(&values).to_string(), format!("{:?}", Config::read(values.clone()))]
    {
        assert!(!shown.contains("s3cret") && !shown.contains("0123456789"), "{shown}");
    }
    let twice = [("HANSARD_KEY", "a"), ("HANSARD_KEY_FILE", path)];
    assert!(matches!(joined(&[], &twice, ""), Err(ConfigError::Twice { .. })));
    let missing = [("HANSARD_KEY_FILE", "/nowhere/at/all")];
    assert!(matches!(joined(&[], &missing, ""), Err(ConfigError::Secret { .. })));
    let wrong = config("keys = \"app:s3cret-s3cret-s3cret:producer\"").expect_err("roles and secret swapped");
    assert!(!wrong.to_string().contains("s3cret"), "{wrong}");
}

#[test]
fn what_is_printed_reads_back_as_the_same() {
    let values = joined(&[], &[], "cache = \"/tmp\"\n[split]\ntiers = [\"1 s\", \"2 min\"]").expect("joins");
    let printed = to_toml(&values);
    let again = joined(&[], &[], &printed).expect("reads");
    let texts =
        |values: &Values| values.0.iter().map(|(key, found)| (*key, found.text.clone())).collect::<Vec<_>>();
    assert_eq!(texts(&values), texts(&again), "{printed}");
}

#[test]
fn values_are_taken_up_to_their_limits() {
    let (language, terms) = ("l".repeat(128), vec!["term"; 500].join(","));
    let (too_long, too_many) = (format!("{language}l"), format!("{terms},term"));
    let cases = [
        ("engine.partitions", "1", "1024", &["0", "1025", "x"][..]),
        ("split.tiers", "1 s", "1 s, 2 s, 3 s", &["", "1 s, 2 s, 3 s, 4 s", "1"]),
        ("limits.part-bytes", "5 MiB", "5 GiB", &["5242879", "5 MB"]),
        ("audio.lost-share", "0", "1", &["-0.1", "1.1"]),
        ("traces.ratio", "0", "1", &["-0.1", "1.1", "all"]),
        ("traces.otlp", "", "https://c:4318/", &["c:4318", "http://user:secret@c:4318"]),
        ("audio.merge-format", "auto", "wav", &["mp3", "mp4"]),
        ("window.idle-after", "1 ms", "3650 d", &["1", "-1 s", "3651 d", "99999999999 d"]),
        ("listen", "127.0.0.1:0", "[::1]:80", &["127.0.0.1", "localhost:80"]),
        ("local.children", "1", "64", &["0", "65"]),
        ("summary.tokens-max", "6500", "10000000", &["0", "10000001"]),
        ("summary.answer-tokens", "100", "25000", &["99", "100001"]),
        ("summary.passages-max", "1", "5000", &["0", "5001"]),
        ("summary.structure", "schema", "object", &["text"]),
        ("summary.price-in", "", "0.15", &["-1", "0.1234567"]),
        ("summary.calls-per-second", "0.001", "100000", &["0", "-1", "fast"]),
        ("speech.redact", "true", "false", &["", "yes"]),
        ("speech.language", "", &language, &[&too_long]),
        ("speech.keyterms", "", &terms, &[&too_many]),
        ("speech.diarize", "", "true", &["yes"]),
        ("topics.partitions", "1", "1024", &["0", "1025"]),
        ("topics.prefix", "", "a-Z_9.", &["a/b"]),
        ("instance", "", "a-Z_9.", &["a b"]),
        ("kafka.progress-within", "10 s", "1 d", &["9999 ms", "soon"]),
        ("split.pause", "1 s", "1 h", &["999 ms"]),
        ("split.pause-asked", "1 ms", "3650 d", &["5", "3651 d"]),
        ("split.retry-after", "1 ms", "3650 d", &["5", "3651 d"]),
        ("speech.give-up-after", "1 ms", "3650 d", &["5", "3651 d"]),
        ("audio.header", "1 B", "1 GiB", &["1 MB", "-1 MiB"]),
        ("aggregate.pause", "1 s", "1 h", &["0 s"]),
        ("store.connect-within", "1 s", "1 h", &["999 ms", "0 s"]),
        ("store.keyspace", "k", "K_9", &["", "a-b", "a\'b"]),
        ("upload.prefixes", "", "a/b, c/", &["a", "/a"]),
        ("kafka.set", "", "a=b, consumer.c=d=e", &["a", "=b"]),
        ("run.signing-key", "", "0123456789abcdef0123456789abcdef", &["short"]),
        (
            "keys",
            "",
            "a:reader+operator:0123456789abcdef",
            &["a:reader:short", "a:king:0123456789abcdef", "a"],
        ),
    ];
    for (key, least, most, wrong) in cases {
        let line = |value: &str| format!("{key} = \"{value}\"");
        for right in [least, most] {
            config(&line(right)).unwrap_or_else(|error| panic!("{key} {right}: {error}"));
        }
        for wrong in wrong {
            let refused = config(&line(wrong)).expect_err(wrong);
            assert!(matches!(&refused, ConfigError::Value { name, .. } if name == key), "{refused}");
        }
    }
}

#[test]
fn a_summary_has_room_for_what_is_summarised() {
    let of = |tokens_max: usize| {
        config(&format!("summary.answer-tokens = 1000\nsummary.tokens-max = {tokens_max}\n"))
    };
    let server = config("summary.provider = \"openai\"").expect("reads").summary.server.expect("a server");
    let least = server.chat.tokens_min() - server.chat.answer_tokens_max + 1_000;
    of(least).expect("just enough");
    assert!(
        matches!(of(least - 1), Err(ConfigError::Contradiction(cause)) if cause.contains("summary.answer-tokens"))
    );
}

#[test]
fn a_floor_of_redaction_holds_for_everybody() {
    let asked = |redact_pii| hansard_schemas::Options { redact_pii, ..Default::default() };
    for (text, expected) in [("", [false, false, true]), ("speech.redact = true", [true, true, true])] {
        let redaction = config(text).expect("reads").redaction;
        let applied = [None, Some(false), Some(true)].map(|asks| redaction.applies(&asked(asks)));
        assert_eq!(applied, expected, "{text}");
    }
}

#[test]
fn wrong_rules_of_redaction_are_told_with_file_and_rule() {
    let rule = "[[rule]]\nkind = \"member\"\nlabel = \"[MEMBER]\"\npattern = 'M-[0-9]{6}'\n";
    let read = |text: &str| {
        let rules = file(text);
        let path = rules.path().display().to_string();
        config(&format!("speech.redaction-rules = \"{path}\"")).map_err(|error| (path, error.to_string()))
    };
    read(rule).expect("reads");
    for (text, expected) in [
        (rule.replace("{6}", "{6"), "rule 1 (kind \"member\"): the pattern is wrong"),
        (rule.replace("{6}", "+"), "rule 1 (kind \"member\"): the pattern can match more than 4096 bytes"),
        (format!("{rule}chek = \"card\""), "unknown field `chek`, expected one of `kind`"),
        (format!("{rule}check = \"lune\""), "there is no check \"lune\"; known are card,"),
    ] {
        let (path, told) = read(&text).expect_err(&text);
        assert!(told.starts_with(&format!("speech.redaction-rules is wrong: {path}: ")), "{told}");
        assert!(told.contains(expected), "{told}");
    }
    let missing = config("speech.redaction-rules = \"/none\"").expect_err("no file").to_string();
    assert!(missing.starts_with("speech.redaction-rules is wrong: cannot read /none"), "{missing}");
}

#[test]
fn only_keys_open_an_address_that_others_reach() {
    let (here, open) = ("127.0.0.1:1".parse().expect("here"), "0.0.0.0:8080".parse().expect("everywhere"));
    let without = config("").expect("reads");
    without.refuse_open(&[here]).expect("only this machine");
    assert!(matches!(without.refuse_open(&[here, open]), Err(ConfigError::Contradiction(_))));
    let with = config("keys = [\"a:operator:0123456789abcdef\"]").expect("reads");
    with.refuse_open(&[here, open]).expect("with keys");
}

#[test]
fn settings_of_librdkafka_may_hold_lists() {
    let read = |text: &str| {
        let text = format!("[kafka]\nbrokers = \"a:1\"\nset = {text}\nstatic-membership = true");
        config(&text).map(|config| config.cluster.kafka.expect("brokers"))
    };
    let kafka = read("[\"debug=broker,topic\", \"consumer.fetch.wait.max.ms = 7\", \"sasl.password=a=b\"]");
    let kafka = kafka.expect("reads");
    let expected =
        pairs(&[("debug", "broker,topic"), ("consumer.fetch.wait.max.ms", "7"), ("sasl.password", "a=b")]);
    assert_eq!((kafka.overrides, kafka.static_members), (expected, true));
    for wrong in ["\"secret\"", "\"=secret\""] {
        let refused = read(wrong).err().expect("no setting").to_string();
        assert!(refused.contains("entry 1") && !refused.contains("secret"), "{refused}");
    }
}

#[test]
fn the_embedded_mode_refuses_a_cluster() {
    for (text, refused) in
        [("", false), ("[kafka]\nbrokers = \"a:1\"", true), ("[store]\nnodes = \"a:1\"", true)]
    {
        let config = config(text).expect("reads");
        assert_eq!(config.refuse_cluster().is_err(), refused, "{text}");
    }
}

#[test]
fn a_cluster_is_read_as_it_is_written() {
    let text = "[kafka]\nbrokers = [\"a:1\", \"b:2\"]\nset = [\"sasl.username=u\"]\n[topics]\npartitions = 4\n\
                [store]\nnodes = [\"c:3\", \"d:4\"]\nreplication = 1\n[s3]\nbucket = \"b\"\n";
    let keyless = config(text).expect("only who needs the bucket needs its keys").cluster;
    assert_eq!(keyless.objects.err(), Some("s3.access-key"));
    let cluster = config(&format!("{text}access-key = \"k\"\nsecret-key = \"s\"\n")).expect("reads").cluster;
    let kafka = cluster.kafka.expect("brokers");
    assert_eq!((kafka.brokers.as_str(), kafka.prefix.as_str(), kafka.partitions), ("a:1,b:2", "hansard.", 4));
    assert_eq!(kafka.overrides["sasl.username"], "u");
    let store = cluster.store.expect("nodes");
    assert_eq!((store.nodes, store.partitions), (vec!["c:3".to_owned(), "d:4".to_owned()], 4));
    assert_eq!(store.replication, "{'class': 'NetworkTopologyStrategy', 'replication_factor': 1}");
    assert!(!cluster.objects.expect("a bucket").service.path_style);
    assert!(cluster.instance.ends_with(&std::process::id().to_string()), "{}", cluster.instance);
    let nothing = config("").expect("reads").cluster;
    for address in ["registry:8081", "http://u:p@registry", "http://registry?x"] {
        config(&format!("[registry]\nurl = \"{address}\"")).expect_err(address);
    }
    let registry = config("[registry]\nurl = \"http://registry/v7/\"").expect("reads").cluster.registry;
    assert_eq!(registry.expect("a registry").url, "http://registry/v7");
    assert!(nothing.registry.is_none());
    assert!(nothing.kafka.is_err() && nothing.store.is_err() && nothing.objects.is_err());
}

/// An authority's certificate, of P-256, until 2126.
const AUTHORITY: &str = "\
-----BEGIN CERTIFICATE-----
MIIBbjCCARWgAwIBAgIUI8r9cMoALJM1rSLrAwCgrjM3mj8wCgYIKoZIzj0EAwIw
DDEKMAgGA1UEAwwBYTAgFw0yNjExMjYwMTI2MzhaGA8yMTI2MTEwMjAxMjYzOFow
DDEKMAgGA1UEAwwBYTBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABNHXCXCewq3L
gGlmTUwspChjni0kQW8plEU6GwmhDMHHTL5Eu5Uu/L/27qmB+eRgDm6TEPG9qoyL
sUVjbkjxCw2jUzBRMB0GA1UdDgQWBBSKgXFj1bRxVCh+OGkrerZuKEHiiDAfBgNV
HSMEGDAWgBSKgXFj1bRxVCh+OGkrerZuKEHiiDAPBgNVHRMBAf8EBTADAQH/MAoG
CCqGSM49BAMCA0cAMEQCICMupLSZUZGuxs8iVHswcwcHl+tgjFcyFduLeb18BF0+
AiAcIvq+AHl2zbelbby4lsP+0bSbjboi904D4atwRV1S3Q==
-----END CERTIFICATE-----
";

#[test]
fn authorities_are_read_at_the_start() {
    let no_certificate = file("none");
    let at = no_certificate.path().display();
    let cases = [
        ("registry.ca", "registry.url = \"https://r\"\n", "registry.url = \"http://r\"\n"),
        ("store.ca", "store.tls = true\n", ""),
        ("s3.ca", "s3.endpoint = \"https://s\"\n", "s3.endpoint = \"http://s\"\n"),
        (
            "kafka.ca",
            "kafka.set = \"security.protocol=SASL_SSL\"\n",
            "kafka.set = \"security.protocol=PLAINTEXT\"\n",
        ),
        ("summary.ca", "summary.url = \"https://s\"\n", "summary.url = \"http://s\"\n"),
        ("openai.ca", "openai.url = \"https://s\"\n", "openai.url = \"http://s\"\n"),
        ("traces.ca", "traces.otlp = \"https://t\"\n", "traces.otlp = \"http://t\"\n"),
    ];
    let authority = file(AUTHORITY);
    let named = authority.path().display();
    for (setting, https, plain) in cases {
        let given = format!("{setting} = \"{named}\"\n");
        assert!(config(&format!("{https}{given}")).is_ok(), "{setting}");
        let contradicts = config(&format!("{plain}{given}")).expect_err("nothing is encrypted").to_string();
        assert!(contradicts.starts_with(&format!("{setting} is set, and ")), "{contradicts}");
        let told = |text: String| config(&text).expect_err("no authority is there").to_string();
        let missing = told(format!("{https}{setting} = \"/none\"\n"));
        assert!(missing.starts_with(&format!("{setting} is wrong: cannot read /none")), "{missing}");
        let empty = told(format!("{https}{setting} = \"{at}\"\n"));
        assert_eq!(empty, format!("{setting} is wrong: {at}: it holds no certificate in PEM"));
        assert!(config(&format!("{https}{setting} = \"\"\n")).is_ok());
    }
}

#[test]
fn kafka_goes_by_the_authorities_of_one_setting() {
    let authority = file(AUTHORITY);
    let path = authority.path().display();
    let given =
        |set: &str| config(&format!("kafka.brokers = \"b\"\nkafka.ca = \"{path}\"\nkafka.set = \"{set}\"\n"));
    let kafka = given("security.protocol=ssl").expect("reads").cluster.kafka.expect("brokers");
    assert_eq!(kafka.overrides["ssl.ca.location"], path.to_string());
    let twice = given("security.protocol=SSL, ssl.ca.location=/x").expect_err("two places").to_string();
    assert!(twice.contains("kafka.set has ssl.ca.location"), "{twice}");
}

#[test]
fn names_are_distinct_and_the_command_line_holds_together() {
    let names: BTreeSet<&str> = SETTINGS.iter().map(|setting| setting.flag.as_str()).collect();
    assert_eq!(names.len(), SETTINGS.len());
    crate::cmd::Arguments::command().debug_assert();
}
