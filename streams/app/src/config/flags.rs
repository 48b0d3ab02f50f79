//! The settings as flags of the command line, made from their table.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};

use super::layers::{ConfigError, Layers, Source, Values};
use super::settings::{Setting, Side, of};

/// What was given on the command line.
#[derive(Debug, Clone, Default)]
pub(crate) struct Flags {
    file: Option<PathBuf>,
    values: BTreeMap<String, String>,
}

/// The flags of a command that runs jobs.
#[derive(Debug, Clone, Default)]
pub(crate) struct ServerFlags(Flags);

/// The flags of a command that does either.
#[derive(Debug, Clone, Default)]
pub(crate) struct AllFlags(Flags);

/// The flags of a command that calls the gateway.
#[derive(Debug, Clone, Default)]
pub(crate) struct ClientFlags(Flags);

impl Flags {
    /// The joined values of all layers.
    fn values(&self, preset: &[(&str, String)]) -> Result<Values, ConfigError> {
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| name.starts_with("HANSARD_"))
            .collect();
        let preset = preset.iter().map(|(key, text)| ((*key).to_owned(), text.clone())).collect();
        Layers { flags: self.values.clone(), environment, file: self.file.clone(), preset }.join()
    }
}

impl ServerFlags {
    /// The joined values of all layers; `preset` holds what the command sets unless somebody else does.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub(crate) fn values(&self, preset: &[(&str, String)]) -> Result<Values, ConfigError> {
        self.0.values(preset)
    }
}

impl AllFlags {
    /// The joined values of all layers.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub(crate) fn values(&self) -> Result<Values, ConfigError> {
        self.0.values(&[])
    }
}

impl ClientFlags {
    /// The joined values of all layers.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub(crate) fn values(&self) -> Result<Values, ConfigError> {
        self.0.values(&[])
    }
}

impl Source {
    /// As it is shown.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Flag => "flag",
            Self::Environment => "environment",
            Self::File => "file",
            Self::Default => "default",
        }
    }
}

fn argument(setting: &'static Setting) -> Arg {
    let mut notes = vec![format!("env: {}", setting.variable)];
    if setting.secret {
        notes.push(format!("or {}_FILE", setting.variable));
    }
    if !setting.default.is_empty() {
        notes.push(format!("default: {}", setting.default));
    }
    Arg::new(setting.key.as_str())
        .long(setting.flag.as_str())
        .value_name("VALUE")
        .help(format!("{} [{}]", setting.help, notes.join("; ")))
        .help_heading("Settings")
        .hide_short_help(!setting.common)
}

fn augment(command: Command, sides: &[Side]) -> Command {
    let file = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .env("HANSARD_CONFIG")
        .value_parser(clap::value_parser!(PathBuf))
        .help("A TOML file with settings.")
        .help_heading("Settings");
    of(sides).fold(command.arg(file), |command, setting| command.arg(argument(setting)))
}

fn read(matches: &ArgMatches, sides: &[Side]) -> Flags {
    let given = |setting: &'static Setting| {
        let value = matches.get_one::<String>(&setting.key)?;
        Some((setting.key.clone(), value.clone()))
    };
    Flags { file: matches.get_one("config").cloned(), values: of(sides).filter_map(given).collect() }
}

macro_rules! flags_of {
    ($name:ident, $($side:expr),+) => {
        impl FromArgMatches for $name {
            fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
                Ok(Self(read(matches, &[$($side),+])))
            }

            fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
                self.0 = read(matches, &[$($side),+]);
                Ok(())
            }
        }

        impl Args for $name {
            fn augment_args(command: Command) -> Command {
                augment(command, &[$($side),+])
            }

            fn augment_args_for_update(command: Command) -> Command {
                augment(command, &[$($side),+])
            }
        }
    };
}

flags_of!(ServerFlags, Side::Server);
flags_of!(ClientFlags, Side::Client);
flags_of!(AllFlags, Side::Server, Side::Client);
