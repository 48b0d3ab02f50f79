//! What the providers of speech recognition and of summaries share: a bounded HTTP client, keys that are never shown, and
//! the one table that turns what went wrong into a class and a code. It knows no provider, and never repeats a call.

mod cause;
mod refusal;
mod service;
#[cfg(test)]
mod tests;

pub use cause::{Account, Cause};
pub use refusal::{Refusal, Told};
pub use service::{Authorization, Secret, Service, ServiceConfig, ServiceError};
