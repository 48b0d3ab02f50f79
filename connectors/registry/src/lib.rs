//! The schema registry by the REST interface that Confluent's, Apicurio's and others answer alike: which ids the current
//! schemas have, what an id stands for, and whether the subjects are as the catalogue of topics says. It never decodes a
//! record, and never deletes what is registered.
//!
//! Source: <https://docs.confluent.io/platform/current/schema-registry/develop/api.html>.

mod client;
mod subjects;
#[cfg(test)]
mod tests;

pub use client::{RegistryConfig, SchemaRegistry};
pub use subjects::{Difference, SubjectsError};
