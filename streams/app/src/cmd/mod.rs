//! The commands: one file each.

mod audio;
mod check;
mod config;
mod dead_letters;
mod demo;
mod differences;
mod erase;
mod explain;
mod rerun;
mod run;
mod schemas;
mod status;
mod store;
mod summary;
mod sweep;
mod tail;
mod topics;
mod transcript;
mod up;
mod upload;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::client::Client;
use crate::config::{ClientConfig, ClientFlags};

/// Turns a stream of uploaded recordings into complete conversations: split, transcribed, merged and summarised, exactly
/// when nothing is missing.
#[derive(Debug, Parser)]
#[command(name = "hansard", version, arg_required_else_help = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Shows everything at work over real recordings, in a temporary directory.
    Demo(demo::Demo),
    /// Runs everything in one process, durable in a data directory.
    Up(up::Up),
    /// Runs jobs against Kafka, a CQL database and S3.
    Run(run::Run),
    /// Uploads recordings into a conversation.
    Upload(upload::Upload),
    /// Shows what is known of a conversation.
    Status(status::Status),
    /// Shows what a conversation waits for, since when, and who owes it.
    Explain(explain::Explain),
    /// Writes the transcript of a conversation.
    Transcript(transcript::Transcript),
    /// Writes the summary of a conversation.
    Summary(summary::Summary),
    /// Fetches the merged audio of a conversation.
    Audio(audio::Audio),
    /// Runs a stage of a conversation again.
    Rerun(rerun::Rerun),
    /// Erases a conversation for good.
    Erase(erase::Erase),
    /// Writes the records of a topic as JSON lines.
    Tail(tail::Tail),
    /// Looks at dead letters, sends them through again, or gives them up.
    DeadLetters(dead_letters::DeadLetters),
    /// Sweeps once: carries erasures out, and removes what nothing refers to.
    Sweep(sweep::Sweep),
    /// Creates the topics of a deployment, or shows what differs.
    Topics(topics::TopicsCommand),
    /// Registers the schemas of all records, or shows what differs.
    Schemas(schemas::SchemasCommand),
    /// Brings the database's tables up to this version.
    Store(store::StoreCommand),
    /// Checks that a running Hansard and what it needs can be reached.
    Check(check::Check),
    /// Checks or shows the configuration.
    Config(config::ConfigCommand),
}

impl Arguments {
    /// Runs the command.
    ///
    /// # Errors
    /// Whatever ended it.
    pub(crate) async fn run(self) -> Result<ExitCode> {
        match self.command {
            Command::Demo(command) => command.run().await,
            Command::Up(command) => command.run().await,
            Command::Run(command) => command.run().await,
            Command::Upload(command) => command.run().await,
            Command::Status(command) => command.run().await,
            Command::Explain(command) => command.run().await,
            Command::Transcript(command) => command.run().await,
            Command::Summary(command) => command.run().await,
            Command::Audio(command) => command.run().await,
            Command::Rerun(command) => command.run().await,
            Command::Erase(command) => command.run().await,
            Command::Tail(command) => command.run().await,
            Command::DeadLetters(command) => command.run().await,
            Command::Sweep(command) => command.run().await,
            Command::Topics(command) => command.run().await,
            Command::Schemas(command) => command.run().await,
            Command::Store(command) => command.run().await,
            Command::Check(command) => Box::pin(command.run()).await,
            Command::Config(command) => command.run(),
        }
        .map(|()| ExitCode::SUCCESS)
    }
}

/// The client that the configuration names.
fn client(flags: &ClientFlags) -> Result<Client> {
    Client::new(ClientConfig::read(flags.values()?)?)
}

/// The path of a conversation's call.
fn of(id: &str, call: &str) -> String {
    format!("/v1/conversations/{}{call}", segment(id))
}

/// A text as one segment of a path: what is not plain is escaped.
fn segment(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    text.bytes()
        .map(|byte| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
