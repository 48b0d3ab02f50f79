//! `hansard check`: whether what a deployment needs can be reached, and is set up.

use anyhow::{Context as _, Result, bail};
use clap::Args;
use hansard_jobs::ports::Summarizer as _;
use hansard_kafka::TopicAdmin;
use hansard_registry::SchemaRegistry;
use hansard_runtime::pace::Pace;
use hansard_runtime::ports::objects::Objects as _;
use hansard_s3::S3Objects;
use hansard_scylla::ScyllaStore;
use hansard_summary::Chat;
use serde_json::{Value, json};

use crate::client::{Client, Refused};
use crate::config::{AllFlags, ClientConfig, Cluster, Config, Kind, given};
use crate::output;
use crate::providers::speakers;

/// Checks what is configured of kafka, registry, store and s3, each for itself: that it answers, and has its topics,
/// schemas, tables or bucket; and that the servers of speech and of summaries answer and take the key. Where none of the
/// first four is configured, asks the gateway for itself and for what it needs.
#[derive(Debug, Args)]
pub(crate) struct Check {
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    flags: AllFlags,
}

impl Check {
    /// Asks each.
    ///
    /// # Errors
    /// Something cannot be reached, or is not set up.
    pub(crate) async fn run(self) -> Result<()> {
        let values = self.flags.values()?;
        let config = Config::read(values.clone())?;
        let Cluster { kafka, topics: names, replication, registry, store, objects, .. } =
            config.cluster.clone();
        let mut asked = Vec::new();
        if let Ok(kafka) = kafka {
            let admin = TopicAdmin::new(&kafka, replication.into())?;
            asked.push(("kafka", topics(&admin).await));
        }
        if let Some(registry) = registry {
            let ids = SchemaRegistry::new(registry)?.ids(&names).await;
            asked.push(("registry", ids.map(drop).context("see `hansard schemas check`")));
        }
        if let Ok(store) = store {
            asked.push(("store", ScyllaStore::new(store).connect().await.map_err(Into::into)));
        }
        match objects {
            Ok(bucket) => {
                let found = S3Objects::new(&bucket.service).list(&bucket.name, "uploads/", None, 1).await;
                asked.push(("objects", found.map(drop).map_err(Into::into)));
            }
            Err("s3.bucket") => {}
            Err(_) => asked.push(("objects", given(objects).map(drop).map_err(Into::into))),
        }
        if asked.is_empty() {
            return gateway(ClientConfig::read(values)?, self.json).await;
        }
        match servers(&config).await {
            Ok(servers) => asked.extend(servers),
            Err(error) => asked.push(("servers", Err(error))),
        }
        let failed = asked.iter().filter(|(_, answer)| answer.is_err()).count();
        let told = |answer: &Result<()>| answer.as_ref().err().map(|error| format!("{error:#}"));
        if self.json {
            let each = asked.iter().map(|(name, answer)| ((*name).to_owned(), json!(told(answer))));
            output::json(
                &json!({ "ready": failed == 0, "errors": each.collect::<serde_json::Map<_, _>>() }),
            )?;
        } else {
            for (name, answer) in &asked {
                let answer = told(answer).map_or("yes".to_owned(), |error| format!("no: {error}"));
                output::line(&format!("{name}: {answer}"))?;
            }
        }
        if failed > 0 {
            bail!("{failed} of {} cannot be used", asked.len());
        }
        Ok(())
    }
}

/// That the topics are as the catalogue says.
async fn topics(admin: &TopicAdmin) -> Result<()> {
    match admin.diff().await?.len() {
        0 => Ok(()),
        differences => bail!("{differences} differences; see `hansard topics diff`"),
    }
}

/// Asks the servers of speech and of summaries for what costs nothing.
async fn servers(config: &Config) -> Result<Vec<(&'static str, Result<()>)>> {
    let pace = Pace::unlimited();
    let permit = pace.permit().await;
    let mut asked = Vec::new();
    for (kind, speech) in speakers(config, false).await? {
        if kind != Kind::Local {
            asked.push((kind.name(), speech.probe(&permit).await.map_err(Into::into)));
        }
    }
    if let Some(server) = &config.summary.server {
        let chat = Chat::new(server.chat.clone())?;
        asked.push(("summary", chat.probe(&permit).await.map_err(Into::into)));
    }
    Ok(asked)
}

/// Asks a running gateway.
async fn gateway(config: ClientConfig, json: bool) -> Result<()> {
    let client = Client::new(config)?;
    client.get_bytes("/healthz").await?;
    let ready = match client.get("/readyz").await {
        Err(error) if error.downcast_ref::<Refused>().is_some() => json!({ "ready": false }),
        answer => answer?,
    };
    if json {
        output::json(&ready)?;
    } else {
        output::line("gateway: yes")?;
        for name in ["log", "objects", "database"] {
            output::line(&format!("{name}: {}", if ready[name] == true { "yes" } else { "no" }))?;
        }
        for (what, cause) in ready["why"].as_object().into_iter().flatten() {
            output::line(&format!("{what}: {}", cause.as_str().unwrap_or_default()))?;
        }
    }
    if ready["ready"] != Value::Bool(true) {
        bail!("Hansard is not ready");
    }
    Ok(())
}
