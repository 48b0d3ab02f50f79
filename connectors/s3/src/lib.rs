//! Objects on S3: the runtime's `Objects` port and the presigned links of the gateway, on the AWS client; and, with the
//! feature `server`, an S3 server inside the process for the embedded mode.
//!
//! It never decides what an object means, never reads the environment, never shows a secret in an error or a log, and
//! never classifies a failure by reading a text.

mod client;
mod errors;
mod presign;
#[cfg(feature = "server")]
mod server;
mod upload;

#[cfg(test)]
mod tests;

pub use client::{Credentials, S3Config, S3Objects};
pub use presign::{Part, PresignedMultipart, SignedRequest};
#[cfg(feature = "server")]
pub use server::ObjectServer;
