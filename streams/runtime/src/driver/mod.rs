//! The driver: every port in memory over one seeded world, so that the production tasks run in one thread under a clock
//! that a test moves, and one seed always gives one history.
//!
//! It is compiled for tests only (cargo feature `driver`). What the loops do is not copied here: the tasks that ship are
//! polled by [`World::run_until`]. Every call of a port is a point at which the world may delay, fail or hang the call,
//! apply it and lose the answer, or crash the process before or after the effect.

mod broker;
mod faults;
mod group;
mod log;
mod member;
mod objects;
mod process;
mod rng;
mod rows;
mod store;
mod traces;
mod world;

pub use broker::Stored;
pub use faults::{Action, Faults, Refused, Trap};
pub use process::{Process, ProcessId};
pub use rng::Rng;
pub use world::{World, WorldConfig};
