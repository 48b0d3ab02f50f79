//! The layers of configuration, joined: flag beats environment beats file beats a command's own preset beats default.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::settings::{SETTINGS, Setting, Side};
use super::text::Text;

/// Variables that begin like ours and are none of our settings.
const FOREIGN: [&str; 2] = ["HANSARD_CONFIG", "HANSARD_TEST_"];

/// Where a value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// The command line.
    Flag,
    /// An environment variable, or the file that one names.
    Environment,
    /// The file.
    File,
    /// The command, or the table of settings.
    Default,
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}: {cause}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{} is not TOML: {cause}", path.display())]
    NotToml {
        /// The file.
        path: PathBuf,
        /// Where and why.
        cause: String,
    },
    /// A name is no setting.
    #[error("{place} sets {name:?}, which is no setting; the nearest is {nearest:?}")]
    Unknown {
        /// The file, or the environment.
        place: String,
        /// The name.
        name: String,
        /// The setting whose name is most like it.
        nearest: String,
    },
    /// A value is wrong.
    #[error("{name} is wrong: {cause}")]
    Value {
        /// The setting, as its source names it.
        name: String,
        /// Where the value came from.
        source_kind: Source,
        /// What would have been right.
        cause: String,
    },
    /// A secret is given twice.
    #[error("{variable} and {variable}_FILE are both set; keep one")]
    Twice {
        /// The variable without the ending.
        variable: String,
    },
    /// The file with a secret cannot be read.
    #[error("cannot read the secret that {variable} names: {cause}")]
    Secret {
        /// The variable.
        variable: String,
        /// Why.
        cause: std::io::Error,
    },
    /// A setting without a default is not set.
    #[error("{key} is not set, and this command needs it")]
    Missing {
        /// The setting.
        key: &'static str,
    },
    /// Settings contradict each other.
    #[error("{0}")]
    Contradiction(&'static str),
}

/// What was given, layer by layer.
#[derive(Debug, Default)]
pub(crate) struct Layers {
    /// From the command line, by key.
    pub(crate) flags: BTreeMap<String, String>,
    /// The environment, by variable.
    pub(crate) environment: BTreeMap<String, String>,
    /// The file, read or not.
    pub(crate) file: Option<PathBuf>,
    /// What the command sets unless somebody else does, by key.
    pub(crate) preset: BTreeMap<String, String>,
}

/// A value and where it came from.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    /// As it was written.
    pub(crate) text: String,
    /// By whom.
    pub(crate) source: Source,
}

/// The joined values of all settings, by key.
#[derive(Debug, Clone)]
pub(crate) struct Values(pub(crate) BTreeMap<&'static str, Found>);

impl Layers {
    /// Joins the layers.
    ///
    /// # Errors
    /// Unknown names, an unreadable file, or a secret given twice.
    pub(crate) fn join(&self) -> Result<Values, ConfigError> {
        let file = self.file.as_deref().map(read_file).transpose()?.unwrap_or_default();
        self.refuse_unknown_variables()?;
        let mut values = BTreeMap::new();
        for setting in SETTINGS.iter() {
            let key = setting.key.as_str();
            let found = |text: String, source| Found { text, source };
            let value = match (self.flags.get(key), self.variable(setting)?) {
                (Some(text), _) => found(text.clone(), Source::Flag),
                (None, Some(text)) => found(text, Source::Environment),
                (None, None) => match (file.get(key), self.preset.get(key)) {
                    (Some(text), _) => found(text.clone(), Source::File),
                    (None, Some(text)) => found(text.clone(), Source::Default),
                    (None, None) => found(setting.default.clone(), Source::Default),
                },
            };
            values.insert(key, value);
        }
        Ok(Values(values))
    }

    fn variable(&self, setting: &Setting) -> Result<Option<String>, ConfigError> {
        let direct = self.environment.get(&setting.variable).cloned();
        let variable = format!("{}_FILE", setting.variable);
        match (direct, self.environment.get(&variable).filter(|_| setting.secret)) {
            (Some(_), Some(_)) => Err(ConfigError::Twice { variable: setting.variable.clone() }),
            (None, Some(path)) => match std::fs::read_to_string(path) {
                Ok(text) => Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned())),
                Err(cause) => Err(ConfigError::Secret { variable, cause }),
            },
            (direct, None) => Ok(direct),
        }
    }

    fn refuse_unknown_variables(&self) -> Result<(), ConfigError> {
        let known = |name: &str| {
            SETTINGS.iter().any(|setting| {
                setting.variable == name || (setting.secret && name == format!("{}_FILE", setting.variable))
            })
        };
        for (name, value) in &self.environment {
            let foreign =
                FOREIGN.iter().any(|foreign| name.starts_with(foreign)) || is_service_link(name, value);
            if name.starts_with("HANSARD_") && !foreign && !known(name) {
                let variables = SETTINGS.iter().map(|setting| setting.variable.as_str());
                let nearest = nearest(name, variables).to_owned();
                return Err(ConfigError::Unknown {
                    place: "the environment".to_owned(),
                    name: name.clone(),
                    nearest,
                });
            }
        }
        Ok(())
    }
}

/// Kubernetes gives every container variables for each service of its namespace, and a service may be named after us.
fn is_service_link(name: &str, value: &str) -> bool {
    ["_SERVICE_HOST", "_SERVICE_PORT", "_PORT_"].iter().any(|part| name.contains(part))
        || (name.ends_with("_PORT") && value.contains("://"))
}

/// The file's values by key, as text.
fn read_file(path: &Path) -> Result<BTreeMap<String, String>, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|cause| ConfigError::Unreadable { path: path.to_owned(), cause })?;
    let not_toml = |cause: String| ConfigError::NotToml { path: path.to_owned(), cause };
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| not_toml(error.to_string()))?;
    let mut values = BTreeMap::new();
    flatten("", table, &mut values).map_err(not_toml)?;
    for name in values.keys() {
        if !SETTINGS.iter().any(|setting| setting.key == *name) {
            let nearest = nearest(name, SETTINGS.iter().map(|setting| setting.key.as_str())).to_owned();
            return Err(ConfigError::Unknown {
                place: path.display().to_string(),
                name: name.clone(),
                nearest,
            });
        }
    }
    Ok(values)
}

fn flatten(prefix: &str, table: toml::Table, values: &mut BTreeMap<String, String>) -> Result<(), String> {
    for (name, value) in table {
        let key = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
        match value {
            toml::Value::Table(table) => flatten(&key, table, values)?,
            toml::Value::Array(items) => {
                let items: Result<Vec<String>, String> =
                    items.into_iter().map(|item| scalar(&key, item)).collect();
                values.insert(key, items?.join(","));
            }
            value => {
                let text = scalar(&key, value)?;
                values.insert(key, text);
            }
        }
    }
    Ok(())
}

fn scalar(key: &str, value: toml::Value) -> Result<String, String> {
    match value {
        toml::Value::String(text) => Ok(text),
        toml::Value::Integer(number) => Ok(number.to_string()),
        toml::Value::Float(number) => Ok(number.to_string()),
        toml::Value::Boolean(flag) => Ok(flag.to_string()),
        _ => Err(format!("{key} holds neither text, a number, nor a list of them")),
    }
}

/// The name that needs the fewest changes of letters.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> &'a str {
    known.min_by_key(|known| distance(name, known)).unwrap_or_default()
}

/// Levenshtein's distance.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (above, from) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = above + 1;
        for (at, to) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[at + 1];
            row[at + 1] = replaced.min(diagonal + 1).min(row[at] + 1);
        }
    }
    row[right.len()]
}

impl Values {
    /// Takes one setting's value, read by `read`.
    ///
    /// # Errors
    /// The value is wrong.
    pub(crate) fn take_by<T>(
        &mut self,
        key: &str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, ConfigError> {
        let found =
            self.0.remove(key).unwrap_or_else(|| unreachable!("{key} is not in the table, or taken twice"));
        read(&found.text).map_err(|cause| ConfigError::Value {
            name: name_in(found.source, key),
            source_kind: found.source,
            cause,
        })
    }

    /// Takes one setting's value.
    ///
    /// # Errors
    /// The value is wrong.
    pub(crate) fn take<T: Text>(&mut self, key: &str) -> Result<T, ConfigError> {
        self.take_by(key, T::read)
    }

    /// Takes one setting's value, which must be within limits.
    ///
    /// # Errors
    /// The value is wrong.
    pub(crate) fn take_within<T: Text + PartialOrd>(
        &mut self,
        key: &str,
        within: std::ops::RangeInclusive<T>,
        limits: &str,
    ) -> Result<T, ConfigError> {
        let read = |text: &str| {
            let value = T::read(text)?;
            if within.contains(&value) { Ok(value) } else { Err(format!("{text:?} is not {limits}")) }
        };
        self.take_by(key, read)
    }

    /// Drops the other side's settings.
    pub(crate) fn only(&mut self, side: Side) {
        for setting in SETTINGS.iter().filter(|setting| setting.side != side) {
            self.0.remove(setting.key.as_str());
        }
    }
}

/// The setting as somebody who set it there knows it.
fn name_in(source: Source, key: &str) -> String {
    let setting = SETTINGS.iter().find(|setting| setting.key == key);
    match (source, setting) {
        (Source::Flag, Some(setting)) => format!("--{}", setting.flag),
        (Source::Environment, Some(setting)) => setting.variable.clone(),
        _ => key.to_owned(),
    }
}
