//! The clock and entropy ports: the only ways to time and randomness, so that tests can move and repeat them.

use futures::future::BoxFuture;
use hansard_core::id::Timestamp;

/// Wall-clock time in milliseconds since the Unix epoch.
///
/// An implementation must give: `now` that may jump (it is a wall clock) and is cheap; `sleep_until` that ends once
/// `now() >= until`, at once if that is already so. It need not be exact: a tick of a few milliseconds late is fine.
pub trait Clock: Send + Sync {
    /// The time now.
    fn now(&self) -> Timestamp;
    /// Ends when `until` has come. Dropping the future cancels it.
    fn sleep_until(&self, until: Timestamp) -> BoxFuture<'static, ()>;
}

/// Randomness for names that must not collide: submission ids.
///
/// An implementation must give: 128 bits that no other process, now or ever, will give.
pub trait Entropy: Send + Sync {
    /// A fresh id.
    fn id(&self) -> [u8; 16];
}
