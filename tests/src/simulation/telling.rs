//! Who must have been told what, when a world has come to rest: worked out from the log alone.

use std::collections::BTreeSet;

use hansard_core::id::Digest;
use hansard_schemas::Stage;
use sha2::{Digest as _, Sha256};

use super::checks::Story;

/// Checks one conversation: each URL was told of each change of its status, or is named by a terminal failure; and nobody
/// was told what did not happen.
pub(super) fn check(story: &Story, wrong: &mut Vec<String>) {
    let urls = story.opens.first().map(|(_, open)| open.webhook_urls.as_slice()).unwrap_or_default();
    let mut due = BTreeSet::new();
    for status in &story.statuses {
        let half = status.merge_status.is_some() || status.summary_status.is_some();
        if status.webhooks && !(status.status == "finalized" && half) {
            let id = |url: &String| Digest(Sha256::digest(format!("{}\0{url}", status.event_id)).into());
            due.extend(urls.iter().map(|url| id(url).to_string()));
        }
    }
    let told: BTreeSet<String> =
        story.deliveries.iter().map(|delivery| delivery.delivery_id.clone()).collect();
    wrong.extend(told.difference(&due).map(|id| format!("{id} was told and never happened")));
    let given_up =
        story.failures.iter().filter(|(_, f)| f.terminal && f.stage == Stage::Notify.as_str()).count();
    let untold = due.difference(&told).count();
    if untold > given_up * urls.len() {
        wrong
            .push(format!("{untold} of {} notices were never sent, {given_up} statuses given up", due.len()));
    }
}
