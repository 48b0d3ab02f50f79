//! Tests of the crate, by what they hold together.

mod codec;
mod digest;
mod framing;
mod golden;
mod samples;
mod schemas;
mod topics;
