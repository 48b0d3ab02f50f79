//! The crate's tests: the real model over real recordings, real child processes, a real HTTP server.

mod assemblyai;
mod causes;
mod child;
mod fakes;
mod fetching;
mod http;
mod jobs;
mod ledger;
mod pieces;
mod real;
mod recordings;
mod word_errors;

use std::sync::LazyLock;

use hansard_runtime::pace::{Pace, Permit};

static PACE: LazyLock<Pace> = LazyLock::new(Pace::unlimited);

/// Leave to call, as often as it takes.
async fn permit() -> Permit<'static> {
    PACE.permit().await
}
