//! `hansard dead-letters`: records after their last attempt.

use anyhow::Result;
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use crate::config::ClientFlags;
use crate::output;

/// Looks at dead letters, sends them through again, or gives them up.
#[derive(Debug, Args)]
pub(crate) struct DeadLetters {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Lists them.
    List(List),
    /// Shows one with its record.
    Show(Show),
    /// Sends them through their stage again.
    Redrive(Judge),
    /// Gives them up.
    Dismiss(Judge),
}

/// Which are meant; what is absent does not restrict.
#[derive(Debug, Args)]
struct Filter {
    /// Of a stage.
    #[arg(long)]
    stage: Option<String>,
    /// Of a class of failure.
    #[arg(long)]
    class: Option<String>,
    /// Of a code of failure.
    #[arg(long)]
    code: Option<String>,
    /// Of a conversation.
    #[arg(long)]
    conversation: Option<String>,
    /// Older than so many seconds.
    #[arg(long, value_name = "SECONDS")]
    older_than: Option<u64>,
}

#[derive(Debug, Args)]
struct List {
    #[command(flatten)]
    filter: Filter,
    /// Print JSON lines.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    flags: ClientFlags,
}

#[derive(Debug, Args)]
struct Show {
    /// The dead letter's id.
    id: String,
    #[command(flatten)]
    flags: ClientFlags,
}

#[derive(Debug, Args)]
struct Judge {
    /// Their ids; without, the filter chooses.
    ids: Vec<String>,
    #[command(flatten)]
    filter: Filter,
    /// All that rest, if neither ids nor a filter are given.
    #[arg(long)]
    all: bool,
    /// Show what would be done.
    #[arg(long)]
    dry_run: bool,
    /// At most so many.
    #[arg(long)]
    limit: Option<u32>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    flags: ClientFlags,
}

impl DeadLetters {
    /// Does what was asked for.
    ///
    /// # Errors
    /// The gateway cannot be reached, or refuses.
    pub(crate) async fn run(self) -> Result<()> {
        match self.action {
            Action::List(list) => list.run().await,
            Action::Show(Show { id, flags }) => {
                let path = format!("/v1/dead-letters/{}", super::segment(&id));
                output::json(&super::client(&flags)?.get(&path).await?)
            }
            Action::Redrive(judge) => judge.run("redrive", "redriven").await,
            Action::Dismiss(judge) => judge.run("dismiss", "dismissed").await,
        }
    }
}

impl Filter {
    fn given(self) -> Vec<(&'static str, Value)> {
        let text = |value: Option<String>| value.map(Value::from);
        let all = [
            ("stage", text(self.stage)),
            ("class", text(self.class)),
            ("code", text(self.code)),
            ("conversation", text(self.conversation)),
            ("older_than_s", self.older_than.map(Value::from)),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

impl List {
    async fn run(self) -> Result<()> {
        let client = super::client(&self.flags)?;
        let text = |value: Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let filter = self.filter.given().into_iter();
        let query: String =
            filter.map(|(name, value)| format!("&{name}={}", super::segment(&text(value)))).collect();
        let mut cursor = String::new();
        loop {
            let page = client.get(&format!("/v1/dead-letters?limit=100{query}{cursor}")).await?;
            for letter in page["dead_letters"].as_array().into_iter().flatten() {
                output::line(&if self.json { letter.to_string() } else { line(letter) })?;
            }
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={}", super::segment(next)),
                None => return Ok(()),
            }
        }
    }
}

impl Judge {
    async fn run(self, call: &str, done: &str) -> Result<()> {
        let mut asked = json!({ "ids": self.ids, "dry_run": self.dry_run });
        let filter = self.filter.given();
        if self.ids.is_empty() && filter.is_empty() && !self.all {
            anyhow::bail!("say which: give ids, a filter, or --all");
        }
        for (name, value) in filter {
            asked[name] = value;
        }
        if let Some(limit) = self.limit {
            asked["limit"] = limit.into();
        }
        let client = super::client(&self.flags)?;
        let answer = client.call(Method::POST, &format!("/v1/dead-letters/{call}"), &asked).await?;
        if self.json {
            return output::json(&answer);
        }
        for letter in answer["dead_letters"].as_array().into_iter().flatten() {
            output::line(&line(letter))?;
        }
        output::line(&format!("{} matched, {} {done}", answer["matched"], answer[done]))
    }
}

fn line(letter: &Value) -> String {
    let text = |name: &str| letter[name].as_str().unwrap_or("none").to_owned();
    let what = (text("stage"), text("conversation"), text("class"), text("code"), text("cause"));
    format!("{} {} {} {} {}: {}", text("id"), what.0, what.1, what.2, what.3, what.4)
}
