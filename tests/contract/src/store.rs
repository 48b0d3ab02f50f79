//! What the contracts of the store's four ports share: the harness, and names that no other check uses.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use hansard_core::id::{Digest, Offset, Partition};
use hansard_runtime::ports::dead_letters::DeadLetters;
use hansard_runtime::ports::facts::{Erasures, Facts};
use hansard_runtime::ports::journal::Journal;
use hansard_runtime::ports::log::TopicPartition;
use hansard_runtime::ports::windows::Windows;
use hansard_schemas::Topic;

/// An engine under test. It need not be empty: checks use names of their own.
#[async_trait]
pub trait Harness: Send + Sync {
    /// The facts port.
    fn facts(&self) -> Arc<dyn Facts>;
    /// The markers of erasures.
    fn erasures(&self) -> Arc<dyn Erasures>;
    /// The journal port.
    fn journal(&self) -> Arc<dyn Journal>;
    /// The index of open windows.
    fn windows(&self) -> Arc<dyn Windows>;
    /// The dead letters.
    fn dead_letters(&self) -> Arc<dyn DeadLetters>;
    /// Closes everything in order and opens it again; ports taken after it are the new ones.
    async fn reopen(&self);
}

/// Makes a test of each check; `$harness` is an async function without arguments that gives a [`Harness`].
#[macro_export]
macro_rules! store_contract {
    ($harness:path) => {
        $crate::store_contract!($harness: facts:
            every_kind_reads_back, repeated_rows_change_nothing, the_order_of_rows_is_no_matter, a_write_is_read_at_once,
            conversations_stay_apart, texts_come_in_the_order_of_their_keys, a_missing_text_is_none,
            erasure_deletes_for_good, erasure_before_the_first_row, the_first_erasure_stays,
            the_first_of_repeated_records_stays, large_conversations_are_exact,
            paging_meets_every_conversation_once, every_marker_is_met_once, writers_at_once, rows_outlast_the_process, no_fact_is_refused
        );
        $crate::store_contract!($harness: journal:
            steps_come_in_order, submissions_stay_apart, repeated_steps_change_nothing, the_latest_lease_stands, gaps_are_shown,
            jobs_outlive_erasure, late_steps_stay_dead, takers_at_once, large_results_are_exact,
            results_are_those_of_a_stage, forgotten_jobs_are_gone, steps_outlast_the_process
        );
        $crate::store_contract!($harness: windows:
            entries_are_listed_by_partition_and_day, repeating_changes_nothing, revisions_are_separate,
            many_entries_are_exact, inserts_at_once, entries_outlast_the_process
        );
        $crate::store_contract!($harness: dead_letters:
            letters_read_back, writing_again_changes_nothing, oldest_first_in_pages, verdicts_end_the_rest, the_depth_counts_what_rests,
            a_late_write_stays_judged, failing_again_rests_again, erasure_deletes_the_letters,
            letters_outlast_the_process
        );
    };
    ($harness:path: $port:ident: $($check:ident),+) => {
        mod $port {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $check() {
                    $crate::$port::$check(&$harness().await).await;
                }
            )+
        }
    };
}

/// A number that no check before or after this one gets: from the clock, the process and a counter.
pub(crate) fn unique() -> u64 {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    let micros = u64::try_from(since.as_micros()).expect("a clock before the year 580,000");
    // The low bits tell processes and calls apart within one microsecond.
    (micros << 10) ^ (u64::from(std::process::id()) << 4) ^ COUNT.fetch_add(1, Ordering::Relaxed)
}

/// A conversation id of this check alone.
pub(crate) fn conversation(name: &str) -> String {
    format!("{name}-{:016x}", unique())
}

pub(crate) fn at(topic: Topic, partition: i32) -> TopicPartition {
    TopicPartition { topic, partition: Partition(partition) }
}

/// An offset of this check alone.
pub(crate) fn offset() -> Offset {
    Offset((unique() & (u64::MAX >> 1)).cast_signed())
}

/// A digest that is as good as any other.
pub(crate) fn digest(of: u64) -> Digest {
    let mut bytes = [0xd1; 32];
    bytes[..8].copy_from_slice(&of.to_be_bytes());
    Digest(bytes)
}
