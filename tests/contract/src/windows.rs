//! The contract of the index of open windows: too many entries are harmless, too few never are.

use std::collections::BTreeSet;

use hansard_core::id::Partition;
use hansard_runtime::ports::windows::{OpenWindow, Windows};

use crate::store::{Harness, conversation};

fn entry(conversation: &str, partition: i32, day: i32, revision: i32) -> OpenWindow {
    OpenWindow { partition: Partition(partition), day, conversation: conversation.to_owned(), revision }
}

/// The entries of a partition whose conversation begins with `mine`: the index may hold others'.
async fn listed(windows: &dyn Windows, mine: &str, partition: i32, since_day: i32) -> Vec<OpenWindow> {
    let listed = windows.list(Partition(partition), since_day).await.expect("a list");
    let mut listed: Vec<_> =
        listed.into_iter().filter(|entry| entry.conversation.starts_with(mine)).collect();
    listed.sort();
    listed
}

/// A partition's entries of a day and later are listed, and no others.
pub async fn entries_are_listed_by_partition_and_day(h: &impl Harness) {
    let (windows, id) = (h.windows(), conversation("listed"));
    let entries: Vec<_> = (0..3)
        .flat_map(|partition| (20_000..20_004).map(move |day| (partition, day)))
        .map(|(partition, day)| entry(&id, partition, day, 1))
        .collect();
    windows.insert(&entries).await.expect("inserted");
    for partition in 0..3 {
        for since in 19_999..20_005 {
            let expected: Vec<_> = entries
                .iter()
                .filter(|entry| entry.partition.0 == partition && entry.day >= since)
                .cloned()
                .collect();
            assert_eq!(listed(&*windows, &id, partition, since).await, expected, "since {since}");
        }
    }
    assert_eq!(listed(&*windows, &id, 3, 0).await, []);
}

/// Inserting and removing again changes nothing, nor does removing what is not there.
pub async fn repeating_changes_nothing(h: &impl Harness) {
    let (windows, id) = (h.windows(), conversation("repeated"));
    let (one, two) = (entry(&id, 0, 20_000, 1), entry(&id, 0, 20_000, 2));
    for _ in 0..2 {
        windows.insert(&[one.clone(), two.clone(), one.clone()]).await.expect("inserted");
        assert_eq!(listed(&*windows, &id, 0, 20_000).await, [one.clone(), two.clone()]);
    }
    for _ in 0..2 {
        windows.remove(&[one.clone(), entry(&id, 1, 20_000, 1)]).await.expect("removed");
        assert_eq!(listed(&*windows, &id, 0, 20_000).await, std::slice::from_ref(&two));
    }
    windows.insert(&[]).await.expect("nothing");
    windows.remove(&[]).await.expect("nothing");
}

/// Removing one revision leaves the next, also of another day, and a conversation whose id begins alike.
pub async fn revisions_are_separate(h: &impl Harness) {
    let (windows, id) = (h.windows(), conversation("revisions"));
    let first = entry(&id, 0, 20_000, 1);
    let rest = [entry(&id, 0, 20_000, 2), entry(&id, 0, 20_001, 1), entry(&format!("{id}a"), 0, 20_000, 1)];
    windows.insert(&rest).await.expect("inserted");
    windows.insert(std::slice::from_ref(&first)).await.expect("inserted");
    windows.remove(&[first]).await.expect("removed");
    let mut rest = rest.to_vec();
    rest.sort();
    assert_eq!(listed(&*windows, &id, 0, 20_000).await, rest);
}

/// Thousands of entries of one partition are listed exactly.
pub async fn many_entries_are_exact(h: &impl Harness) {
    let (windows, id) = (h.windows(), conversation("many"));
    let entries: Vec<_> =
        (0..5_000).map(|number| entry(&format!("{id}-{number:04}"), 5, 20_000 + number % 3, 1)).collect();
    for some in entries.chunks(500) {
        windows.insert(some).await.expect("inserted");
    }
    let (removed, kept): (Vec<_>, Vec<_>) = entries.into_iter().partition(|entry| entry.day == 20_001);
    for some in removed.chunks(500) {
        windows.remove(some).await.expect("removed");
    }
    let listed: BTreeSet<_> = listed(&*windows, &id, 5, 20_000).await.into_iter().collect();
    assert_eq!(listed, kept.into_iter().collect());
}

/// Inserts at the same time lose nothing, and each is listed as soon as it returned.
pub async fn inserts_at_once(h: &impl Harness) {
    let id = conversation("together");
    let tasks: Vec<_> = (0..8)
        .map(|of| {
            let (windows, id) = (h.windows(), id.clone());
            tokio::spawn(async move {
                for revision in 1..=20 {
                    let entry = entry(&format!("{id}-{of}"), 6, 20_000, revision);
                    windows.insert(std::slice::from_ref(&entry)).await.expect("inserted");
                    let listed = listed(&*windows, &entry.conversation, 6, 20_000).await;
                    assert!(listed.contains(&entry), "{entry:?} in {listed:?}");
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("an insert without panic");
    }
    assert_eq!(listed(&*h.windows(), &id, 6, 20_000).await.len(), 160);
}

/// Entries are there, and removed ones are not, after closing and opening again.
pub async fn entries_outlast_the_process(h: &impl Harness) {
    let id = conversation("lasting");
    let (one, two) = (entry(&id, 0, 20_000, 1), entry(&id, 0, 20_000, 2));
    h.windows().insert(&[one.clone(), two.clone()]).await.expect("inserted");
    h.windows().remove(&[one]).await.expect("removed");
    h.reopen().await;
    assert_eq!(listed(&*h.windows(), &id, 0, 0).await, [two]);
}
