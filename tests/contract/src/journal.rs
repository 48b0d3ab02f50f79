//! The contract of the journal of effects: steps written once each, and job ids that outlive an erasure.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use hansard_core::id::{Generation, Timestamp};
use hansard_core::redelivery::Class;
use hansard_runtime::ports::journal::{Journal, JournalKey, Step, Submission, SubmissionId};
use hansard_schemas::Stage;

use crate::store::{Harness, conversation, digest};

fn key(conversation: &str) -> JournalKey {
    JournalKey {
        conversation: conversation.to_owned(),
        stage: Stage::Transcribe,
        input: digest(1),
        generation: Generation(0),
    }
}

fn id(number: u8) -> SubmissionId {
    SubmissionId([number; 16])
}

fn started() -> Step {
    Step::Started { at: Timestamp(1_700_000_000_000), until: Timestamp(1_700_000_060_000) }
}

fn job(id: &str) -> Step {
    let asked = Bytes::from_static(b"what was asked");
    Step::Job { id: id.to_owned(), deadline: Timestamp(1_700_001_800_000), asked }
}

fn ended(class: Class) -> Step {
    Step::Ended { class, code: "provider_timeout".to_owned() }
}

fn result(text: &str) -> Step {
    Step::Result(Bytes::copy_from_slice(text.as_bytes()))
}

async fn write(journal: &dyn Journal, key: &JournalKey, id: SubmissionId, steps: &[Step]) {
    for step in steps {
        journal.write(key, id, step.clone()).await.expect("written");
    }
}

async fn assert_submissions(journal: &dyn Journal, key: &JournalKey, expected: &[(SubmissionId, &[Step])]) {
    let read: BTreeMap<SubmissionId, Vec<Step>> = journal
        .read(key)
        .await
        .expect("submissions")
        .into_iter()
        .map(|Submission { id, steps }| (id, steps))
        .collect();
    let expected: BTreeMap<SubmissionId, Vec<Step>> =
        expected.iter().map(|(id, steps)| (*id, steps.to_vec())).collect();
    assert_eq!(read, expected);
}

async fn assert_jobs(journal: &dyn Journal, conversation: &str, expected: &[(JournalKey, &str)]) {
    let mut jobs = journal.jobs(conversation).await.expect("jobs");
    jobs.sort();
    let mut expected: Vec<_> = expected.iter().map(|(key, job)| (key.clone(), (*job).to_owned())).collect();
    expected.sort();
    assert_eq!(jobs, expected);
}

/// All steps come back in their order, each as soon as it is written, in whatever order they are written.
pub async fn steps_come_in_order(h: &impl Harness) {
    let journal = h.journal();
    let steps = [started(), job("job-1"), ended(Class::Transient), result("{}")];
    for backwards in [false, true] {
        let key = key(&conversation("steps"));
        assert_submissions(&*journal, &key, &[]).await;
        let mut order: Vec<usize> = (0..steps.len()).collect();
        if backwards {
            order.reverse();
        }
        for (written, at) in order.iter().enumerate() {
            write(&*journal, &key, id(1), &steps[*at..=*at]).await;
            let mut there: Vec<usize> = order[..=written].to_vec();
            there.sort_unstable();
            let there: Vec<Step> = there.into_iter().map(|at| steps[at].clone()).collect();
            assert_submissions(&*journal, &key, &[(id(1), &there)]).await;
        }
    }
    for class in Class::ALL {
        let key = key(&conversation("classes"));
        write(&*journal, &key, id(1), &[ended(*class)]).await;
        assert_submissions(&*journal, &key, &[(id(1), &[ended(*class)])]).await;
    }
}

/// Submissions under one key are all read; keys that differ in one part share nothing.
pub async fn submissions_stay_apart(h: &impl Harness) {
    let (journal, name) = (h.journal(), conversation("apart"));
    let first = key(&name);
    let others = [
        JournalKey { stage: Stage::Summarize, ..first.clone() },
        JournalKey { input: digest(2), ..first.clone() },
        JournalKey { generation: Generation(1), ..first.clone() },
        key(&format!("{name}a")),
    ];
    write(&*journal, &first, id(1), &[started(), ended(Class::Unavailable)]).await;
    write(&*journal, &first, id(2), &[started()]).await;
    for (other, number) in others.iter().zip(3..) {
        write(&*journal, other, id(number), &[result("other")]).await;
    }
    let expected: [(_, &[Step]); 2] =
        [(id(1), &[started(), ended(Class::Unavailable)]), (id(2), &[started()])];
    assert_submissions(&*journal, &first, &expected).await;
    for (other, number) in others.iter().zip(3..) {
        assert_submissions(&*journal, other, &[(id(number), &[result("other")])]).await;
    }
}

/// Writing a step again changes nothing.
pub async fn repeated_steps_change_nothing(h: &impl Harness) {
    let (journal, key) = (h.journal(), key(&conversation("repeated")));
    let steps = [started(), job("job-1"), result("{}")];
    for _ in 0..3 {
        write(&*journal, &key, id(1), &steps).await;
    }
    assert_submissions(&*journal, &key, &[(id(1), &steps)]).await;
    assert_jobs(&*journal, &key.conversation, &[(key.clone(), "job-1")]).await;
}

/// Of several ends of a lease the latest is read, in whatever order and by however many hands they are written.
pub async fn the_latest_lease_stands(h: &impl Harness) {
    let lease = |minutes: i64| Step::Started {
        at: Timestamp(1_700_000_000_000),
        until: Timestamp(1_700_000_000_000 + minutes * 60_000),
    };
    for order in [[1, 2, 300], [300, 2, 1], [2, 300, 1]] {
        let (journal, key) = (h.journal(), key(&conversation("lease")));
        let mut latest = 0;
        for minutes in order {
            write(&*journal, &key, id(1), &[lease(minutes)]).await;
            latest = latest.max(minutes);
            assert_submissions(&*journal, &key, &[(id(1), &[lease(latest)])]).await;
        }
        write(&*journal, &key, id(1), &[job("job-1"), lease(7), ended(Class::Transient)]).await;
        write(&*journal, &key, id(2), &[lease(5)]).await;
        for _ in 0..2 {
            let first = [lease(300), job("job-1"), ended(Class::Transient)];
            assert_submissions(&*h.journal(), &key, &[(id(1), &first), (id(2), &[lease(5)])]).await;
            h.reopen().await;
        }
    }
}

/// A submission of which only a late step is known is shown with this step alone.
pub async fn gaps_are_shown(h: &impl Harness) {
    let (journal, key) = (h.journal(), key(&conversation("gaps")));
    write(&*journal, &key, id(1), &[result("")]).await;
    write(&*journal, &key, id(2), &[job("job-2")]).await;
    assert_submissions(&*journal, &key, &[(id(1), &[result("")]), (id(2), &[job("job-2")])]).await;
}

/// An erasure leaves the job ids of its conversation, and every other conversation.
pub async fn jobs_outlive_erasure(h: &impl Harness) {
    let (journal, name) = (h.journal(), conversation("erased"));
    let (first, second) = (key(&name), JournalKey { input: digest(2), ..key(&name) });
    let other = key(&format!("{name}-other"));
    assert_jobs(&*journal, &name, &[]).await;
    write(&*journal, &first, id(1), &[started(), job("job-1"), ended(Class::Transient)]).await;
    write(&*journal, &first, id(2), &[started(), job("job-2"), result("{}")]).await;
    write(&*journal, &second, id(3), &[job("job-3")]).await;
    write(&*journal, &other, id(4), &[started(), job("job-4")]).await;
    let jobs = [(first.clone(), "job-1"), (first.clone(), "job-2"), (second.clone(), "job-3")];
    assert_jobs(&*journal, &name, &jobs).await;
    journal.erase(&name).await.expect("erased");
    assert_submissions(&*journal, &first, &[]).await;
    assert_submissions(&*journal, &second, &[]).await;
    assert_jobs(&*journal, &name, &jobs).await;
    assert_submissions(&*journal, &other, &[(id(4), &[started(), job("job-4")])]).await;
}

/// A step that is written after the erasure stays dead, but a job id is shown.
pub async fn late_steps_stay_dead(h: &impl Harness) {
    let (journal, key) = (h.journal(), key(&conversation("late")));
    write(&*journal, &key, id(1), &[started()]).await;
    journal.erase(&key.conversation).await.expect("erased");
    write(&*journal, &key, id(1), &[started(), job("job-1"), ended(Class::Transient), result("{}")]).await;
    write(&*journal, &key, id(2), &[started(), result("{}")]).await;
    for _ in 0..2 {
        let read = h.journal().read(&key).await.expect("submissions");
        let others = read.iter().flat_map(|submission| &submission.steps);
        assert!(others.clone().all(|step| matches!(step, Step::Job { .. })), "{read:?}");
        assert_jobs(&*h.journal(), &key.conversation, &[(key.clone(), "job-1")]).await;
        h.journal().erase(&key.conversation).await.expect("erased again");
        h.reopen().await;
    }
}

/// Takers that write at the same time lose nothing.
pub async fn takers_at_once(h: &impl Harness) {
    let key = Arc::new(key(&conversation("together")));
    let tasks: Vec<_> = (0..16)
        .map(|number| {
            let (journal, key) = (h.journal(), Arc::clone(&key));
            let steps = [started(), job(&format!("job-{number}")), result("{}")];
            tokio::spawn(async move { write(&*journal, &key, id(number), &steps).await })
        })
        .collect();
    for task in tasks {
        task.await.expect("a taker without panic");
    }
    let steps: Vec<_> = (0..16)
        .map(|number| (id(number), [started(), job(&format!("job-{number}")), result("{}")]))
        .collect();
    let expected: Vec<(SubmissionId, &[Step])> = steps.iter().map(|(id, steps)| (*id, &steps[..])).collect();
    assert_submissions(&*h.journal(), &key, &expected).await;
}

/// A result of 800 kB comes back byte for byte.
pub async fn large_results_are_exact(h: &impl Harness) {
    let (journal, key) = (h.journal(), key(&conversation("large")));
    let bytes: Vec<u8> = (0..800_000_u32).map(|at| at.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    let large = Step::Result(Bytes::from(bytes));
    write(&*journal, &key, id(1), std::slice::from_ref(&large)).await;
    assert_submissions(&*journal, &key, &[(id(1), &[large])]).await;
}

/// A conversation's results of one stage are found without their keys; those of others, and an erased one's, are not.
pub async fn results_are_those_of_a_stage(h: &impl Harness) {
    let (journal, name) = (h.journal(), conversation("results"));
    let split = |input| JournalKey { stage: Stage::Split, input: digest(input), ..key(&name) };
    write(&*journal, &split(1), id(1), &[started(), ended(Class::Transient)]).await;
    write(&*journal, &split(1), id(2), &[started(), result("one")]).await;
    write(&*journal, &split(2), id(3), &[result("two")]).await;
    write(&*journal, &key(&name), id(4), &[started(), result("of another stage")]).await;
    let other = JournalKey { conversation: format!("{name}a"), ..split(1) };
    write(&*journal, &other, id(5), &[result("of another conversation")]).await;
    let mut results = journal.results(&name, Stage::Split).await.expect("results");
    results.sort_by(|(a, _), (b, _)| a.cmp(b));
    let expected = [(split(1), Bytes::from_static(b"one")), (split(2), Bytes::from_static(b"two"))];
    assert_eq!(results, expected);
    assert_eq!(journal.results(&name, Stage::Merge).await.expect("results"), []);
    journal.erase(&name).await.expect("erased");
    assert_eq!(journal.results(&name, Stage::Split).await.expect("results"), []);
    assert_eq!(journal.results(&other.conversation, Stage::Split).await.expect("results").len(), 1);
}

/// A job id that was dropped is shown no more, also after opening again; the others are.
pub async fn forgotten_jobs_are_gone(h: &impl Harness) {
    let (journal, name) = (h.journal(), conversation("forgotten"));
    let (first, second) = (key(&name), JournalKey { input: digest(2), ..key(&name) });
    write(&*journal, &first, id(1), &[started(), job("job-1")]).await;
    write(&*journal, &first, id(2), &[started(), job("job-2")]).await;
    write(&*journal, &second, id(3), &[job("job-1")]).await;
    journal.erase(&name).await.expect("erased");
    for _ in 0..2 {
        h.journal().forget(&first, "job-1").await.expect("forgotten");
        h.journal().forget(&first, "job-9").await.expect("nothing to forget");
        assert_jobs(&*h.journal(), &name, &[(first.clone(), "job-2"), (second.clone(), "job-1")]).await;
        h.reopen().await;
    }
}

/// Steps and jobs are there after closing and opening again.
pub async fn steps_outlast_the_process(h: &impl Harness) {
    let key = key(&conversation("lasting"));
    let steps = [started(), job("job-1"), result("{}")];
    write(&*h.journal(), &key, id(1), &steps).await;
    h.reopen().await;
    assert_submissions(&*h.journal(), &key, &[(id(1), &steps)]).await;
    assert_jobs(&*h.journal(), &key.conversation, &[(key.clone(), "job-1")]).await;
}
