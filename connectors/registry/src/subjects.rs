//! The subjects of a deployment as the registry has them, held against the catalogue of topics. A subject is never
//! deleted, and its compatibility never lowered for a schema that does not fit: who needs that does it by hand.

use std::collections::HashMap;
use std::fmt;

use hansard_runtime::ports::PortError;
use hansard_schemas::{RecordName, Topics};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::client::{Answer, SchemaRegistry, refused};

/// Old readers read new records, and new readers old ones, over all versions that ever were.
const COMPATIBILITY: &str = "FULL_TRANSITIVE";

/// What has to be done so that a subject is as the catalogue says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// The record's current schema is not registered.
    Register {
        /// The subject.
        subject: String,
        /// The record.
        record: RecordName,
        /// Whether the registry has no version of it at all.
        first: bool,
    },
    /// The record's current schema does not go with the versions that are registered, which nobody can mend.
    Incompatible {
        /// The subject.
        subject: String,
        /// The record.
        record: RecordName,
        /// What the registry says.
        cause: String,
    },
    /// Another compatibility is demanded of new versions.
    Compatibility {
        /// The subject.
        subject: String,
        /// What is demanded, where it is set for the subject.
        found: Option<String>,
    },
}

/// Why schemas cannot be compared or registered.
#[derive(Debug, thiserror::Error)]
pub enum SubjectsError {
    /// The registry cannot be reached, or refuses.
    #[error(transparent)]
    Registry(#[from] PortError),
    /// A record's current schema does not go with an older one.
    #[error("{0}; take back the change, or another topics.prefix")]
    Incompatible(Difference),
}

impl Difference {
    /// The subject that it is about.
    #[must_use]
    pub fn subject(&self) -> &str {
        match self {
            Self::Register { subject, .. }
            | Self::Incompatible { subject, .. }
            | Self::Compatibility { subject, .. } => subject,
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Register { subject, record, first } => {
                let version = if *first { "the first version" } else { "a new version" };
                write!(f, "register {subject}: {record}, {version}")
            }
            Self::Incompatible { subject, record, cause } => {
                write!(f, "{subject}: {record} is incompatible with a registered version: {cause}")
            }
            Self::Compatibility { subject, found } => {
                let found = found.as_deref().unwrap_or("not set");
                write!(f, "set {subject}: compatibility={COMPATIBILITY} (is {found})")
            }
        }
    }
}

#[derive(Debug, Deserialize)]
struct Registered {
    id: u32,
}

#[derive(Debug, Deserialize)]
struct Level {
    #[serde(rename = "compatibilityLevel")]
    level: String,
}

#[derive(Debug, Deserialize)]
struct Compatible {
    is_compatible: bool,
    #[serde(default)]
    messages: Vec<String>,
}

impl SchemaRegistry {
    /// The ids that records are written under.
    ///
    /// # Errors
    /// [`PortError::NotFound`] where a record's current schema is not registered.
    pub async fn ids(&self, topics: &Topics) -> Result<HashMap<RecordName, u32>, PortError> {
        let mut ids = HashMap::new();
        for (subject, record) in topics.subjects() {
            let Some(id) = self.id(&subject, record).await? else {
                return Err(PortError::NotFound { what: format!("the schema of {record} under {subject}") });
            };
            ids.insert(record, id);
        }
        Ok(ids)
    }

    /// What has to be done, in the order of the catalogue; nothing where all is as it says.
    ///
    /// # Errors
    /// The registry cannot be reached, or refuses.
    pub async fn diff(&self, topics: &Topics) -> Result<Vec<Difference>, PortError> {
        let mut differences = Vec::new();
        for (subject, record) in topics.subjects() {
            let level = self.level(&subject).await?;
            let is_registered = self.id(&subject, record).await?.is_some();
            let path = format!("/compatibility/subjects/{subject}/versions?verbose=true");
            // Compatibility is the registry's own judgement by the level in force, so a lower one is raised first.
            let fits = self.call::<Compatible>(Method::POST, &path, Some(of(record))).await?;
            if level.as_deref() != Some(COMPATIBILITY) {
                differences.push(Difference::Compatibility { subject: subject.clone(), found: level });
            }
            match fits {
                _ if is_registered => {}
                Answer::Is(Compatible { is_compatible: false, messages }) => {
                    let cause = match messages.is_empty() {
                        true => "the registry does not say why".to_owned(),
                        false => messages.join("; "),
                    };
                    differences.push(Difference::Incompatible { subject, record, cause });
                }
                Answer::Incompatible(cause) => {
                    differences.push(Difference::Incompatible { subject, record, cause });
                }
                Answer::Is(_) => differences.push(Difference::Register { subject, record, first: false }),
                Answer::NotFound => differences.push(Difference::Register { subject, record, first: true }),
            }
        }
        Ok(differences)
    }

    /// Registers what is missing, and demands full compatibility of what comes later. It can be repeated; nothing is done
    /// where a schema is known to be incompatible.
    ///
    /// # Errors
    /// [`SubjectsError`].
    pub async fn apply(&self, differences: &[Difference]) -> Result<(), SubjectsError> {
        let incompatible = |difference: &&Difference| matches!(difference, Difference::Incompatible { .. });
        if let Some(difference) = differences.iter().find(incompatible) {
            return Err(SubjectsError::Incompatible(difference.clone()));
        }
        // Some registries have no compatibility for a subject without versions: those come first.
        let first = |difference: &&Difference| matches!(difference, Difference::Register { first: true, .. });
        let level = |difference: &&Difference| matches!(difference, Difference::Compatibility { .. });
        let later =
            |difference: &&Difference| matches!(difference, Difference::Register { first: false, .. });
        for difference in differences.iter().filter(first) {
            self.apply_one(difference).await?;
        }
        for difference in differences.iter().filter(level) {
            self.apply_one(difference).await?;
        }
        for difference in differences.iter().filter(later) {
            self.apply_one(difference).await?;
        }
        Ok(())
    }

    async fn apply_one(&self, difference: &Difference) -> Result<(), SubjectsError> {
        let answer = match difference {
            Difference::Compatibility { subject, .. } => {
                let body = json!({ "compatibility": COMPATIBILITY });
                self.call::<Value>(Method::PUT, &format!("/config/{subject}"), Some(body)).await?
            }
            Difference::Register { subject, record, .. } => {
                self.call(Method::POST, &format!("/subjects/{subject}/versions"), Some(of(*record))).await?
            }
            Difference::Incompatible { .. } => return Err(SubjectsError::Incompatible(difference.clone())),
        };
        match (answer, difference) {
            (Answer::Is(_), _) => Ok(()),
            (Answer::Incompatible(cause), Difference::Register { subject, record, .. }) => {
                let (subject, record) = (subject.clone(), *record);
                Err(SubjectsError::Incompatible(Difference::Incompatible { subject, record, cause }))
            }
            (Answer::Incompatible(_) | Answer::NotFound, _) => {
                Err(refused(format!("it does not take this: {difference}")).into())
            }
        }
    }

    /// The id of a record's current schema under its subject.
    async fn id(&self, subject: &str, record: RecordName) -> Result<Option<u32>, PortError> {
        let path = format!("/subjects/{subject}");
        match self.call::<Registered>(Method::POST, &path, Some(of(record))).await? {
            Answer::Is(registered) => Ok(Some(registered.id)),
            Answer::NotFound | Answer::Incompatible(_) => Ok(None),
        }
    }

    /// What is demanded of new versions of a subject, where it is set for it.
    async fn level(&self, subject: &str) -> Result<Option<String>, PortError> {
        match self.call::<Level>(Method::GET, &format!("/config/{subject}"), None).await? {
            Answer::Is(level) => Ok(Some(level.level)),
            Answer::NotFound | Answer::Incompatible(_) => Ok(None),
        }
    }
}

/// A record's current schema as the registry takes it.
fn of(record: RecordName) -> Value {
    json!({ "schema": record.schema(), "schemaType": "AVRO" })
}
