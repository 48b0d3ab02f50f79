//! The schemas port: what the ids of a schema registry stand for. Records name their writer's schema by such an id, and
//! whoever reads one asks at most once for each.

use async_trait::async_trait;
use hansard_core::redelivery::Class;
use hansard_schemas::{DecodeError, Framing, Record};

use super::{PortError, Ports};
use crate::stage::Failed;

/// A schema registry, for reading.
///
/// An implementation must give: an id has one schema for ever. It should remember for a while that an id has none, since
/// every record under it asks.
#[async_trait]
pub trait Schemas: Send + Sync {
    /// The schema of an id, as JSON.
    ///
    /// # Errors
    /// [`PortError::NotFound`] where the registry has none under this id.
    async fn schema(&self, id: u32) -> Result<String, PortError>;

    /// Asks whether the registry answers, whatever is remembered: what readiness asks.
    async fn probe(&self) -> Result<(), PortError>;
}

impl Ports {
    /// Decodes a record. Only the first one under an id that was not known yet waits for the registry.
    ///
    /// # Errors
    /// Permanent where the bytes can never be read (`undecodable`, `unknown_schema`, `unreadable_schema`); unavailable
    /// while the registry is (`registry_unavailable`).
    pub async fn decode(&self, value: &[u8]) -> Result<Record, Failed> {
        decode(&self.framing, self.schemas.as_deref(), value).await
    }
}

/// As [`Ports::decode`].
pub(crate) async fn decode(
    framing: &Framing,
    schemas: Option<&dyn Schemas>,
    value: &[u8],
) -> Result<Record, Failed> {
    let permanent = |code, cause: String| Failed::new(Class::Permanent, code, cause);
    let refused = |error| match error {
        DecodeError::Unreadable(error) => permanent("unreadable_schema", error.to_string()),
        error => permanent("undecodable", error.to_string()),
    };
    let id = match framing.decode(value) {
        Ok(record) => return Ok(record),
        Err(DecodeError::UnknownId { id }) => id,
        Err(error) => return Err(refused(error)),
    };
    let (Framing::Registry(registry), Some(schemas)) = (framing, schemas) else {
        return Err(refused(DecodeError::UnknownId { id }));
    };
    match schemas.schema(id).await {
        // What is wrong with it shows when the record is decoded.
        Ok(schema) => drop(registry.learn(id, &schema)),
        Err(PortError::NotFound { what }) => {
            let cause = format!("{what} is not in the registry; mend the producer");
            return Err(permanent("unknown_schema", cause));
        }
        Err(error) => return Err(Failed::new(Class::Unavailable, "registry_unavailable", error.to_string())),
    }
    framing.decode(value).map_err(refused)
}

#[cfg(test)]
#[path = "../tests/schemas.rs"]
mod tests;
