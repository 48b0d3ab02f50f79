//! The small values at their edges.

use std::string::{String, ToString};

use crate::manifest::{Cause, Outcome};
use crate::{
    ChunkId, ConversationId, Digest, FinalizeDigest, Generation, IdError, Millis, Offset, Only, Revision,
    Rules, Stage, Status, Timestamp, Track,
};

#[test]
fn names_are_checked_at_their_edges() {
    let long = |bytes| "x".repeat(bytes);
    assert!(ConversationId::new(long(128)).is_ok());
    let too_long = IdError::TooLong { what: "conversation id", bytes: 129, limit: 128 };
    assert_eq!(ConversationId::new(long(129)), Err(too_long));
    assert_eq!(ConversationId::new(""), Err(IdError::Empty { what: "conversation id" }));
    assert_eq!(ConversationId::new("aZ09._-").expect("all that is allowed").as_str(), "aZ09._-");
    for wrong in [' ', '/', 'ä', '\0'] {
        let error = IdError::Character { what: "conversation id", character: wrong };
        assert_eq!(ConversationId::new(wrong.to_string()), Err(error));
    }
    assert!(ChunkId::new(long(64)).is_ok() && ChunkId::new("große Aufnahme 1").is_ok());
    assert!(ChunkId::new(long(65)).is_err() && ChunkId::new("").is_err());
    assert!(Track::new(long(32)).is_ok() && Track::new("").is_ok() && Track::new(long(33)).is_err());
}

#[test]
fn digests_are_read_as_they_are_written() {
    let text = "00ff10a5".repeat(8);
    let digest: Digest = text.parse().expect("a digest");
    assert_eq!((digest.0[1], digest.to_string()), (0xff, text.clone()));
    for wrong in
        ["", "00", &text.to_uppercase(), &text.replace('f', "g"), &std::format!("{text}0"), &"é".repeat(32)]
    {
        assert!(wrong.parse::<Digest>().is_err(), "{wrong:?} is no digest");
    }
    let prefixed: FinalizeDigest = std::format!("12:{text}").parse().expect("a digest with its version");
    assert_eq!((prefixed.version, prefixed.to_string()), (12, std::format!("12:{text}")));
    for wrong in [text.clone(), std::format!(":{text}"), std::format!("+1:{text}"), String::from("1:00")] {
        assert!(wrong.parse::<FinalizeDigest>().is_err(), "{wrong:?} has no version or no digest");
    }
}

#[test]
fn words_are_read_as_they_are_written() {
    fn check<W: Copy + PartialEq + std::fmt::Debug + std::fmt::Display + std::str::FromStr>(all: &[W]) {
        for word in all {
            assert_eq!(word.to_string().parse().ok(), Some(*word));
        }
        assert!("".parse::<W>().is_err() && "Complete".parse::<W>().is_err());
    }
    check(Stage::ALL);
    check(Only::ALL);
    check(Outcome::ALL);
    check(Cause::ALL);
    check(Status::ALL);
    assert_eq!(Outcome::WithFailures.as_str(), "with_failures");
}

#[test]
fn arithmetic_stays_at_the_ends() {
    assert_eq!(Timestamp::MAX + Millis(1), Timestamp::MAX);
    assert_eq!(Timestamp::MIN + Millis(-1), Timestamp::MIN);
    assert_eq!(Timestamp::MIN - Timestamp::MAX, Millis(i64::MIN));
    assert_eq!(Millis::hours(i64::MAX), Millis(i64::MAX));
    assert_eq!(
        (Offset(41).generation(), Offset(i64::MAX).generation()),
        (Generation(42), Generation(i64::MAX))
    );
    assert_eq!(Revision(i32::MAX).next(), Revision(i32::MAX));
}

#[test]
fn the_pace_doubles_up_to_its_cap() {
    let finalize = |revision| crate::fact::Finalize {
        time: Timestamp(0),
        revision: Revision(revision),
        digest: FinalizeDigest::default(),
        content: Digest::default(),
        outcome: Outcome::Complete,
        generations: Default::default(),
        counts: Default::default(),
    };
    let table =
        [(1, 10), (2, 20), (3, 40), (9, 2_560), (10, 3_600), (64, 3_600), (65, 3_600), (i32::MAX, 3_600)];
    for (revision, seconds) in table {
        assert_eq!(Rules::default().pace(&finalize(revision)), Millis::seconds(seconds), "after {revision}");
    }
}
