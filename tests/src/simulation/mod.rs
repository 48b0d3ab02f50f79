//! The whole dataflow in a fake world: the production tasks over the driver's ports, with audio, speech and summaries
//! that are made up but behave as bad as real ones.

pub(crate) mod deployment;
pub(crate) mod fakes;
pub(crate) mod producer;
