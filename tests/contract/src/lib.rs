//! Contract suites: what every engine behind a port must give, checked on each of them with the same source.
//!
//! This crate never starts, configures or names an engine; each connector's tests hand one in.

pub mod dead_letters;
pub mod facts;
pub mod journal;
pub mod log;
pub mod store;
pub mod windows;
