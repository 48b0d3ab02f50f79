//! The table of all settings. Their defaults are read off the crates that they configure, so that the two cannot drift
//! apart; `hansard config print` shows them all.

use std::sync::LazyLock;

use hansard_audio::Limits as AudioLimits;
use hansard_core::Rules;
use hansard_core::id::Millis;
use hansard_gateway::Limits;
use hansard_jobs::aggregate::AggregateConfig;
use hansard_jobs::sweep::SweepConfig;
use hansard_jobs::topology::JobSettings;
use hansard_schemas::{PARTITIONS_DEFAULT, Stage};

use super::text::{show_bytes, show_duration, show_time};

/// Who uses a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Commands that run jobs.
    Server,
    /// Commands that call the gateway.
    Client,
}

/// A setting.
#[derive(Debug)]
pub(crate) struct Setting {
    /// Its name in the file, with dots between tables.
    pub(crate) key: String,
    /// Its flag without the leading dashes.
    pub(crate) flag: String,
    /// Its environment variable.
    pub(crate) variable: String,
    /// What it is without being set.
    pub(crate) default: String,
    /// What it does.
    pub(crate) help: String,
    /// Whether its value is never shown, and may be given by a file.
    pub(crate) secret: bool,
    /// Whether the short help shows it.
    pub(crate) common: bool,
    /// Who uses it.
    pub(crate) side: Side,
}

/// All settings.
pub(crate) static SETTINGS: LazyLock<Vec<Setting>> = LazyLock::new(settings);

/// The effect jobs, whose retries and bounds can be set each.
pub(crate) const EFFECT_JOBS: [Stage; 5] =
    [Stage::Split, Stage::Transcribe, Stage::Merge, Stage::Summarize, Stage::Notify];

/// The settings of some sides.
pub(crate) fn of(sides: &[Side]) -> impl Iterator<Item = &'static Setting> {
    SETTINGS.iter().filter(|setting| sides.contains(&setting.side))
}

impl Setting {
    pub(super) fn new(key: &str, default: impl Into<String>, help: &str) -> Self {
        Self {
            key: key.to_owned(),
            flag: key.replace('.', "-"),
            variable: format!("HANSARD_{}", key.replace(['.', '-'], "_").to_uppercase()),
            default: default.into(),
            help: help.to_owned(),
            secret: false,
            common: false,
            side: Side::Server,
        }
    }

    pub(super) fn common(self) -> Self {
        Self { common: true, ..self }
    }

    pub(super) fn secret(self) -> Self {
        Self { secret: true, ..self }
    }

    fn client(self) -> Self {
        Self { common: true, side: Side::Client, ..self }
    }
}

fn settings() -> Vec<Setting> {
    let mut all = process();
    all.extend(window());
    all.extend(limits());
    all.extend(super::speech::settings());
    all.extend(super::summary::settings());
    all.extend(audio());
    all.extend(webhook());
    all.extend(EFFECT_JOBS.into_iter().flat_map(job));
    all.extend(sweep());
    all.extend(cluster());
    all.push(Setting::new("url", "http://127.0.0.1:8080", "The gateway that is called.").client());
    all.push(Setting::new("key", "", "The key that the gateway wants, if it wants one.").client().secret());
    all
}

fn process() -> Vec<Setting> {
    let engine = hansard_embedded::Config::default();
    let aggregate = AggregateConfig::default();
    vec![
        Setting::new("data-dir", "hansard-data", "Everything durable is below this directory.").common(),
        Setting::new(
            "cache",
            "",
            "Models and recordings are kept here; by default the user's cache directory.",
        )
        .common(),
        Setting::new(
            "listen",
            "127.0.0.1:8080",
            "Where the gateway listens; without keys a loopback address.",
        )
        .common(),
        Setting::new(
            "keys",
            "",
            "Keys of callers, as name:role+role:secret; roles: producer, reader, operator.",
        )
        .common()
        .secret(),
        Setting::new("cors-origins", "", "Origins whose pages may call, as https://app.example.org."),
        Setting::new("drain", "10 s", "How long work under way may go on after a stop was asked for."),
        Setting::new(
            "log.filter",
            "info,fjall=warn,lsm_tree=warn,scylla=warn",
            "What is logged, as levels by module.",
        ),
        Setting::new("log.format", "auto", "text, json, or auto: text on a terminal, else json."),
        Setting::new(
            "traces.otlp",
            "",
            "An OTLP collector's address, as http://collector:4318; without one no traces are sent.",
        ),
        Setting::new(
            "traces.ca",
            "",
            "A file of authorities' certificates (PEM), trusted beside the system's; for https.",
        ),
        Setting::new(
            "traces.ratio",
            "1",
            "The share of conversations that is traced, 0 to 1; where a caller sends traceparent, that decides.",
        ),
        Setting::new(
            "engine.partitions",
            engine.partitions.to_string(),
            "Partitions; fixed once the data exists.",
        ),
        Setting::new(
            "engine.reserve",
            show_bytes(engine.reserve_bytes),
            "Writes stop when less disk is free.",
        ),
        Setting::new(
            "aggregate.cache",
            show_bytes(aggregate.cache_bytes_max as u64),
            "Memory for windows, about.",
        ),
        Setting::new("aggregate.pause", show_time(aggregate.pause_max), &format!("{PAUSE} (aggregate)")),
    ]
}

fn window() -> Vec<Setting> {
    let rules = Rules::default();
    let rule = |name: &str, default: Millis, help: &str| {
        Setting::new(&format!("window.{name}"), show_time(default), help)
    };
    vec![
        rule("idle-after", rules.idle_after, "A window is closing when nothing was uploaded for so long."),
        rule(
            "missing-after",
            rules.missing_after,
            "A closing window that waits for its producer ends after so long.",
        ),
        rule(
            "stalled-after",
            rules.stalled_after,
            "A closing window that waits for a stage ends after so long.",
        ),
        rule("abandon-after", rules.abandon_after, "A window without upload and finish ends after so long."),
        rule(
            "pace-base",
            rules.pace_base,
            "Least time between the first two revisions; it doubles with each.",
        ),
        rule("pace-cap", rules.pace_cap, "Greatest least time between two revisions."),
    ]
}

fn limits() -> Vec<Setting> {
    let limits = Limits::default();
    let limit =
        |name: &str, default: String, help: &str| Setting::new(&format!("limits.{name}"), default, help);
    let bytes = |bytes: usize| show_bytes(bytes as u64);
    vec![
        limit("request-bytes", bytes(limits.body_bytes), "Bytes of a request's body."),
        limit("upload-bytes", show_bytes(limits.upload_bytes), "Bytes of one recording."),
        limit("single-bytes", show_bytes(limits.single_bytes), "Larger recordings are uploaded in parts."),
        limit("part-bytes", show_bytes(limits.part_bytes), "Bytes of a part."),
        limit("link-lifetime", show_duration(limits.link_lifetime), "How long a link to an object works."),
        limit("token-lifetime", show_time(limits.token_lifetime), "How long an upload token works."),
        limit(
            "confirm-within",
            show_time(limits.confirm_within),
            "Older uploads are not confirmed any more; at most 20 h, well before they are swept.",
        ),
        limit("streams", limits.streams.to_string(), "Event streams that are open at once."),
        limit("page", limits.page.to_string(), "Conversations or dead letters in one page."),
        limit("redrive", limits.redrive.to_string(), "Dead letters in one redrive or dismissal."),
        limit(
            "database-patience",
            show_duration(limits.database_patience),
            "How long an upload's call waits for the database, which it can do without.",
        ),
    ]
}

fn audio() -> Vec<Setting> {
    let limits = AudioLimits::default();
    let seconds = |seconds: u64| show_duration(std::time::Duration::from_secs(seconds));
    let decoded = show_duration(std::time::Duration::from_millis(limits.decoded_ms));
    let audio =
        |name: &str, default: String, help: &str| Setting::new(&format!("audio.{name}"), default, help);
    vec![
        audio(
            "child",
            String::new(),
            "The program that decodes and merges, hansard-audio-child of the same build, which starts in less than half the time; else this one.",
        ),
        audio("decoded", decoded, "The longest recording."),
        audio("segments", limits.segments.to_string(), "Segments of one recording, at most."),
        audio("cpu-time", seconds(limits.cpu_seconds), "Processor time of a decode."),
        audio("wall-time", seconds(limits.wall_seconds), "Time of a decode."),
        audio("memory", show_bytes(limits.memory_bytes), "Memory of a decode."),
        audio(
            "output",
            show_bytes(limits.output_bytes),
            "Bytes of all segments of a recording, or of a merged file.",
        ),
        audio(
            "header",
            show_bytes(limits.header_bytes),
            "Of the first of a browser's slices so much is looked at for the header of the others.",
        ),
        audio(
            "merge-format",
            "auto".to_owned(),
            "auto, opus, flac or wav: the format of merged files; auto is MP4 where all are AAC alike, else opus.",
        ),
        audio("lost-share", "0.5".to_owned(), "A merge that loses a greater share of its inputs fails."),
        audio(
            "fill-gaps",
            "0 ms".to_owned(),
            "Gaps between chunks up to this length stay as silence when merging.",
        ),
    ]
}

fn webhook() -> Vec<Setting> {
    vec![
        Setting::new(
            "webhook.secret",
            "",
            "Signs webhooks: whsec_ and the base64 of 24 to 64 random bytes; several, with commas, while receivers change.",
        )
        .secret(),
        Setting::new(
            "webhook.networks",
            "",
            "Networks that webhooks may reach beside public addresses, also by plain http, as 10.1.0.0/16.",
        ),
        Setting::new("webhook.answer-within", "10 s", "How long one call may take."),
    ]
}

fn sweep() -> Vec<Setting> {
    let sweep = SweepConfig::default();
    vec![
        Setting::new("sweep.every", show_time(sweep.every), "From the end of a sweep to the next."),
        Setting::new(
            "sweep.dry-run",
            sweep.dry_run.to_string(),
            "true: sweeps by the clock delete nothing, erased objects included, and only tell what they would.",
        ),
        Setting::new(
            "retention.days",
            "0",
            "A conversation is erased so many days after its newest fact; 0: never.",
        ),
    ]
}

/// What `hansard run` and the deployment steps need, and the embedded mode has in itself.
fn cluster() -> Vec<Setting> {
    let new = |key: &str, default: &str, help: &str| Setting::new(key, default, help);
    let partitions = PARTITIONS_DEFAULT.to_string();
    vec![
        new("kafka.brokers", "", "Brokers to begin with, as host:port."),
        new(
            "kafka.set",
            "",
            "Settings of librdkafka, as name=value; with consumer. or producer. before it for those clients only.",
        )
        .secret(),
        new("kafka.ca", "", "A file of authorities' certificates (PEM), trusted instead of the system's; for TLS."),
        new(
            "kafka.static-membership",
            "false",
            "true: a process that comes back under its instance's name has its partitions again at once.",
        ),
        new(
            "kafka.progress-within",
            "1 min",
            "A consumer that hands over nothing of what is there for so long is thrown away, and the group joined anew.",
        ),
        new("topics.prefix", "hansard.", "Stands before the names of topics, groups and transactional ids."),
        new("topics.partitions", &partitions, "Partitions of each topic; never to be changed."),
        new("topics.replication", "3", "Replicas of each topic that is created."),
        new("instance", "", "This process's name among all; by default its host and process id."),
        new("registry.url", "", "The schema registry's URL; without one, records carry their schema's fingerprint."),
        new("registry.user", "", "The registry's user, if it wants one."),
        new("registry.password", "", "The user's password.").secret(),
        new("registry.ca", "", "A file of authorities' certificates (PEM), trusted beside the system's; for https."),
        new("store.nodes", "", "Nodes of the CQL database to begin with, as host:port."),
        new("store.keyspace", "hansard", "The deployment's keyspace."),
        new("store.replication", "3", "Replicas of a keyspace that is created."),
        new("store.datacenter", "", "The datacenter whose nodes are asked first."),
        new("store.connect-within", "20 s", "How long connecting to the database may take before it is tried again."),
        new("store.user", "", "The database's user, if it wants one."),
        new("store.password", "", "The user's password.").secret(),
        new("store.tls", "false", "true: by TLS; each node's certificate has to name its IP address."),
        new("store.ca", "", "A file of authorities' certificates (PEM), trusted beside the system's; for TLS."),
        new("s3.endpoint", "", "The object store's URL; by default AWS."),
        new("s3.public-endpoint", "", "The URL that links to objects name, where it is another."),
        new("s3.region", "us-east-1", "The object store's region."),
        new("s3.bucket", "", "The bucket of all objects."),
        new("s3.access-key", "", "The object store's access key.").secret(),
        new("s3.secret-key", "", "The object store's secret key.").secret(),
        new("s3.ca", "", "A file of authorities' certificates (PEM), trusted beside the system's; for https."),
        new("upload.prefixes", "", "Where recordings of foreign producers may lie, as bucket/prefix."),
        new("run.listen", "127.0.0.1:8080", "Where the job gateway listens."),
        new("run.admin-listen", "127.0.0.1:8081", "Where probes, metrics and the operators' calls are answered."),
        new("run.signing-key", "", "Signs upload tokens; the same for all gateways, 32 letters or more.").secret(),
    ]
}

/// What `STAGE.pause` and `aggregate.pause` are.
const PAUSE: &str = "The longest between two attempts while a dependency is down.";

fn job(stage: Stage) -> Vec<Setting> {
    let JobSettings { policy, effects, call_max } = JobSettings::of(stage);
    let of = |name: &str, default: String, help: &str| {
        Setting::new(&format!("{}.{name}", stage.as_str()), default, &format!("{help} ({})", stage.as_str()))
    };
    let tiers: Vec<String> = policy.tiers.iter().map(|tier| show_time(*tier)).collect();
    let bounds = effects.bounds;
    vec![
        of("tiers", tiers.join(", "), "Delays of the retry tiers, one to three."),
        of("pause", show_time(policy.pause_cap), PAUSE),
        of(
            "pause-asked",
            show_time(policy.pause_wish_cap),
            "The longest pause that a dependency which is down may ask for, by Retry-After.",
        ),
        of(
            "retry-after",
            show_time(policy.retry_after_cap),
            "The longest wait of one record that a server may ask for, by Retry-After.",
        ),
        of("attempts", policy.attempts.to_string(), "So many failures end in the dead letters."),
        of("call", show_time(call_max), "The longest that one effect may take."),
        of("in-flight", bounds.in_flight_max.to_string(), "Records under way at once."),
        of(
            "in-flight-per-conversation",
            bounds.in_flight_per_conversation_max.to_string(),
            "Records of one conversation under way at once.",
        ),
    ]
}
