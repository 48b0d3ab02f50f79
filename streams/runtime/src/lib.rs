//! The runtime: ports, the loops, commit, redelivery and take-over; what every job has in common.
//!
//! It never names a client of a real system, never reads the environment or the system's time, and knows nothing of
//! what a stage does with a record.

mod calls;
mod commit;
pub mod convert;
#[cfg(feature = "driver")]
pub mod driver;
pub mod effect;
pub mod effects;
mod held;
mod inbox;
mod intake;
mod lanes;
pub mod metrics;
#[cfg(feature = "mutants")]
pub mod mutants;
pub mod offsets;
pub mod ordered;
mod outcome;
pub mod pace;
pub mod ports;
pub mod redeliver;
pub mod stage;
pub mod standing;
pub mod trace;

pub use commit::TransactionBounds;
pub use lanes::Bounds;
