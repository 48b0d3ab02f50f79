//! The answers to failure as tables, and the headers.

use std::string::String;
use std::vec::Vec;

use crate::redelivery::{
    Answer, Attempt, Cause, Class, HeaderError, Headers, Origin, Policy, failures_so_far, header,
};
use crate::{Millis, Offset, Partition, Timestamp};

fn tier(tier: usize) -> Answer {
    Answer::Retry { tier, not_before: None }
}

fn not_before(tier: usize, seconds: i64) -> Answer {
    Answer::Retry { tier, not_before: Some(Millis::seconds(seconds)) }
}

fn pause(seconds: i64) -> Answer {
    Answer::Pause { delay: Millis::seconds(seconds) }
}

#[test]
fn the_five_answers() {
    use Class::{Defect, Fenced, Permanent, Transient, Unavailable};
    // Class, failures with this one, Retry-After in seconds, pauses before: the answer.
    let table = [
        (Transient, 1, None, 0, tier(1)),
        (Transient, 2, None, 0, tier(2)),
        (Transient, 3, None, 0, tier(3)),
        (Transient, 4, None, 0, Answer::DeadLetter),
        (Transient, 9, None, 0, Answer::DeadLetter),
        (Transient, 0, None, 0, tier(1)),
        (Transient, 1, Some(5), 0, tier(1)),
        (Transient, 1, Some(6), 0, tier(2)),
        (Transient, 1, Some(61), 0, tier(3)),
        (Transient, 3, Some(1), 0, tier(3)),
        (Transient, 1, Some(600), 0, tier(3)),
        (Transient, 1, Some(601), 0, not_before(3, 601)),
        (Transient, 1, Some(i64::MAX / 1_000), 0, not_before(3, 86_400)),
        (Transient, 4, Some(601), 0, Answer::DeadLetter),
        (Unavailable, 1, None, 0, pause(1)),
        (Unavailable, 99, None, 3, pause(8)),
        (Unavailable, 1, None, 4, pause(10)),
        (Unavailable, 1, None, u32::MAX, pause(10)),
        (Unavailable, 1, Some(5), 4, pause(10)),
        (Unavailable, 1, Some(30), 0, pause(30)),
        (Unavailable, 1, Some(3_600), 0, pause(300)),
        (Permanent, 1, Some(5), 0, Answer::DeadLetter),
        (Fenced, 1, None, 0, Answer::Rejoin),
        (Fenced, 99, Some(5), 9, Answer::Rejoin),
        (Defect, 1, None, 0, tier(1)),
        (Defect, 2, None, 0, Answer::DeadLetter),
    ];
    for (class, attempt, seconds, pauses, answer) in table {
        let failed = Attempt { class, attempt, retry_after: seconds.map(Millis::seconds), pauses };
        assert_eq!(Policy::default().answer(failed), answer, "{failed:?}");
    }
}

#[test]
fn a_stage_that_works_in_order_waits_in_place() {
    use Class::{Defect, Fenced, Permanent, Transient, Unavailable};
    let policy = Policy { in_place: true, ..Policy::default() };
    let table = [
        (Transient, 99, pause(1)),
        (Unavailable, 99, pause(1)),
        (Permanent, 1, Answer::DeadLetter),
        (Fenced, 1, Answer::Rejoin),
        (Defect, 1, pause(1)),
        (Defect, 2, Answer::Quarantine),
    ];
    for (class, attempt, answer) in table {
        let failed = Attempt { class, attempt, retry_after: None, pauses: 0 };
        assert_eq!(policy.answer(failed), answer, "{failed:?}");
    }
}

#[test]
fn more_attempts_than_tiers_repeat_the_last_and_no_tier_is_the_end() {
    let failed = |attempt| Attempt { class: Class::Transient, attempt, retry_after: None, pauses: 0 };
    let many = Policy { attempts: 7, ..Policy::default() };
    let answers: Vec<_> = (1..=7).map(|attempt| many.answer(failed(attempt))).collect();
    assert_eq!(answers, [tier(1), tier(2), tier(3), tier(3), tier(3), tier(3), Answer::DeadLetter]);
    let none = Policy { tiers: Vec::new(), ..Policy::default() };
    assert_eq!(none.answer(failed(1)), Answer::DeadLetter);
    let never = Policy { attempts: 0, ..Policy::default() };
    assert_eq!(never.answer(failed(1)), Answer::DeadLetter);
}

#[test]
fn a_record_is_due_by_its_tier_and_goes_round_until_it_may_be_tried() {
    let policy = Policy::default();
    let due: Vec<_> = (0..=4).map(|tier| policy.due(tier, Timestamp(7)).0).collect();
    assert_eq!(due, [7, 5_007, 60_007, 600_007, 7], "a tier that was configured away is due at once");
    assert_eq!(policy.round_again(Some(Timestamp(9)), Timestamp(8)), Some(3));
    assert_eq!(policy.round_again(Some(Timestamp(9)), Timestamp(9)), None);
    assert_eq!(policy.round_again(None, Timestamp(9)), None);
}

#[test]
fn neither_a_crash_loop_nor_a_redrive_pays_for_ever() {
    // Header, submissions, redrives, limit: failures so far.
    let table = [
        (0, 0, 0, 4, 0),
        (2, 1, 0, 4, 2),
        (0, 4, 0, 4, 4),
        (0, 4, 1, 4, 0),
        (0, 7, 1, 4, 3),
        (1, 9, 2, 4, 1),
        (0, 3, u32::MAX, 4, 0),
    ];
    for (header, submissions, redrives, limit, so_far) in table {
        assert_eq!(failures_so_far(header, submissions, redrives, limit), so_far);
    }
}

fn headers() -> Headers {
    Headers {
        stage: "split".into(),
        attempt: 2,
        not_before: Some(Timestamp(17)),
        first_failed_at: Timestamp(11),
        redrives: 1,
        origin: Origin {
            topic: "hansard.uploads".into(),
            partition: Partition(3),
            offset: Offset(42),
            timestamp: Timestamp(9),
        },
        failure: Cause {
            class: Class::Transient,
            code: "timeout".into(),
            message: "timed out after 30 s".into(),
        },
    }
}

fn read(pairs: &[(&'static str, String)]) -> Result<Option<Headers>, HeaderError> {
    Headers::read(|name| pairs.iter().find(|(held, _)| *held == name).map(|(_, text)| text.as_str()))
}

#[test]
fn headers_are_read_as_they_are_written() {
    for not_before in [None, Some(Timestamp(17))] {
        let headers = Headers { not_before, ..headers() };
        assert_eq!(read(&headers.to_pairs()), Ok(Some(headers)));
    }
    assert_eq!(read(&[]), Ok(None));
}

#[test]
fn a_header_that_is_missing_or_wrong_is_an_error() {
    let pairs = headers().to_pairs();
    for (name, _) in &pairs {
        let rest: Vec<_> = pairs.iter().filter(|(held, _)| held != name).cloned().collect();
        let expected = match *name {
            header::STAGE => Ok(None),
            header::NOT_BEFORE => Ok(Some(Headers { not_before: None, ..headers() })),
            name => Err(HeaderError::Missing { name }),
        };
        assert_eq!(read(&rest), expected);
        let mut wrong = pairs.clone();
        wrong.iter_mut().filter(|(held, _)| held == name).for_each(|(_, text)| *text = "-x".into());
        let free = [header::STAGE, header::ORIGIN_TOPIC, header::FAILURE_CODE, header::FAILURE_MESSAGE]
            .contains(name);
        assert_eq!(read(&wrong).is_ok(), free, "{name}");
    }
}
