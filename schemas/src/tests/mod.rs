//! Tests of the crate, by what they hold together.

mod codec;
mod digest;
mod framing;
mod golden;
mod limits;
mod samples;
mod schemas;
mod topics;
