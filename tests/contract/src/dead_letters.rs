//! The contract of dead letters as rows: they rest until a verdict, and again when they fail again.

use bytes::Bytes;
use hansard_core::id::{Offset, Timestamp};
use hansard_runtime::ports::dead_letters::{DeadLetter, DeadLetterId, DeadLetters, Verdict};
use hansard_schemas::{Stage, Topic};

use crate::store::{Harness, at, conversation, offset};

const AT: Timestamp = Timestamp(1_700_000_000_000);

fn letter(conversation: &str, origin: Offset, at_ms: i64) -> DeadLetter {
    DeadLetter {
        id: DeadLetterId { stage: Stage::Transcribe, origin: at(Topic::Segments, 3), offset: origin },
        conversation: conversation.to_owned(),
        class: "permanent".to_owned(),
        code: "unsupported_audio".to_owned(),
        cause: "there is no decoder for it".to_owned(),
        attempts: 4,
        redrives: 0,
        at: Timestamp(AT.0 + at_ms),
        key: Some(Bytes::copy_from_slice(conversation.as_bytes())),
        value: Some(Bytes::from_static(b"\x00\x01 original bytes \xff")),
        headers: vec![
            ("redelivery.attempt".to_owned(), Bytes::from_static(b"4")),
            ("redelivery.attempt".to_owned(), Bytes::from_static(b"")),
        ],
    }
}

/// All letters of a stage whose conversation begins with `mine`, page by page.
async fn listed(letters: &dyn DeadLetters, stage: Stage, mine: &str, limit: usize) -> Vec<DeadLetter> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = letters.list(stage, after, limit).await.expect("a page");
        assert!(page.len() <= limit, "{} letters for a limit of {limit}", page.len());
        let Some(last) = page.last() else { return all };
        after = Some(last.id);
        all.extend(page.into_iter().filter(|letter| letter.conversation.starts_with(mine)));
    }
}

async fn assert_rests(letters: &dyn DeadLetters, letter: &DeadLetter) {
    assert_eq!(letters.get(letter.id).await.expect("a letter").as_ref(), Some(letter));
    let listed = listed(letters, letter.id.stage, &letter.conversation, 50).await;
    assert_eq!(listed, std::slice::from_ref(letter));
}

async fn assert_gone(letters: &dyn DeadLetters, letter: &DeadLetter) {
    assert_eq!(letters.get(letter.id).await.expect("no letter"), None);
    assert_eq!(listed(letters, letter.id.stage, &letter.conversation, 50).await, []);
}

/// A letter comes back as it was written, whatever of it is missing.
pub async fn letters_read_back(h: &impl Harness) {
    let letters = h.dead_letters();
    let full = letter(&conversation("full"), offset(), 0);
    let bare = DeadLetter {
        conversation: String::new(),
        key: None,
        value: None,
        headers: Vec::new(),
        ..letter("", offset(), 1)
    };
    let empty = DeadLetter { key: Some(Bytes::new()), value: Some(Bytes::new()), ..letter("", offset(), 2) };
    assert_gone(&*letters, &full).await;
    letters.write(&[full.clone(), bare.clone(), empty.clone()]).await.expect("written");
    assert_rests(&*letters, &full).await;
    for letter in [bare, empty] {
        assert_eq!(letters.get(letter.id).await.expect("a letter"), Some(letter));
    }
    letters.write(&[]).await.expect("nothing");
}

/// Writing a letter again makes no second one.
pub async fn writing_again_changes_nothing(h: &impl Harness) {
    let letters = h.dead_letters();
    let letter = letter(&conversation("again"), offset(), 0);
    letters.write(&[letter.clone(), letter.clone()]).await.expect("written");
    letters.write(std::slice::from_ref(&letter)).await.expect("written again");
    assert_rests(&*letters, &letter).await;
}

/// A stage's letters come oldest first, in pages of whatever size, also where the page's last was judged meanwhile.
pub async fn oldest_first_in_pages(h: &impl Harness) {
    let (letters, mine) = (h.dead_letters(), conversation("pages"));
    let first = offset().0;
    let mut all: Vec<DeadLetter> = (0..20)
        .map(|number| letter(&format!("{mine}-{number}"), Offset(first - number), number * 7 % 20 * 1_000))
        .collect();
    let mut elsewhere = letter(&format!("{mine}-elsewhere"), offset(), 0);
    elsewhere.id.stage = Stage::Split;
    letters.write(&all).await.expect("written");
    letters.write(std::slice::from_ref(&elsewhere)).await.expect("written");
    all.sort_by_key(|letter| letter.at);
    for limit in [1, 3, 20, 100] {
        let listed = listed(&*letters, Stage::Transcribe, &mine, limit).await;
        assert_eq!(listed, all, "with a limit of {limit}");
    }
    assert_eq!(listed(&*letters, Stage::Split, &mine, 10).await, [elsewhere]);
    let judged = all.remove(4);
    letters.judge(judged.id, Verdict::Dismissed { redrives: 0 }, AT).await.expect("judged");
    let rest = letters.list(Stage::Transcribe, Some(judged.id), 1_000).await.expect("a page");
    let rest: Vec<_> = rest.into_iter().filter(|letter| letter.conversation.starts_with(&mine)).collect();
    assert_eq!(rest, all[4..]);
}

/// A letter that was redriven or dismissed rests no more; others do.
pub async fn verdicts_end_the_rest(h: &impl Harness) {
    let letters = h.dead_letters();
    for verdict in [Verdict::Redriven { redrives: 0 }, Verdict::Dismissed { redrives: 0 }] {
        let judged = letter(&conversation("judged"), offset(), 0);
        let other = letter(&conversation("other"), offset(), 0);
        letters.write(&[judged.clone(), other.clone()]).await.expect("written");
        for _ in 0..2 {
            letters.judge(judged.id, verdict, AT).await.expect("judged");
            assert_gone(&*letters, &judged).await;
            assert_rests(&*letters, &other).await;
        }
    }
}

/// The depth of a stage is the number of its letters that rest. No other test has letters of this stage.
pub async fn the_depth_counts_what_rests(h: &impl Harness) {
    let (letters, stage) = (h.dead_letters(), Stage::Notify);
    let before = letters.depth(stage).await.expect("a depth");
    let mut all: Vec<DeadLetter> =
        (0..3).map(|number| letter(&conversation("depth"), offset(), number * 86_400_000)).collect();
    all.iter_mut().for_each(|letter| letter.id.stage = stage);
    letters.write(&all).await.expect("written");
    letters.write(&all[..1]).await.expect("written again");
    assert_eq!(letters.depth(stage).await.expect("a depth"), before + 3);
    letters.judge(all[0].id, Verdict::Dismissed { redrives: 0 }, AT).await.expect("judged");
    assert_eq!(letters.depth(stage).await.expect("a depth"), before + 2);
    letters.erase(&all[1].conversation).await.expect("erased");
    assert_eq!(letters.depth(stage).await.expect("a depth"), before + 1);
}

/// A verdict holds for writes of the same letter that come late.
pub async fn a_late_write_stays_judged(h: &impl Harness) {
    let letters = h.dead_letters();
    let letter = letter(&conversation("late"), offset(), 0);
    letters.write(std::slice::from_ref(&letter)).await.expect("written");
    letters.judge(letter.id, Verdict::Redriven { redrives: 0 }, AT).await.expect("judged");
    letters.write(std::slice::from_ref(&letter)).await.expect("written late");
    assert_gone(&*letters, &letter).await;
    h.reopen().await;
    assert_gone(&*h.dead_letters(), &letter).await;
}

/// A letter that fails again after a redrive rests again, once, and an old verdict does not touch it.
pub async fn failing_again_rests_again(h: &impl Harness) {
    let letters = h.dead_letters();
    let first = letter(&conversation("failing"), offset(), 0);
    let second = DeadLetter { redrives: 1, at: Timestamp(AT.0 + 60_000), ..first.clone() };
    letters.write(std::slice::from_ref(&first)).await.expect("written");
    letters.judge(first.id, Verdict::Redriven { redrives: 0 }, AT).await.expect("judged");
    letters.write(std::slice::from_ref(&second)).await.expect("written");
    assert_rests(&*letters, &second).await;
    letters.judge(first.id, Verdict::Redriven { redrives: 0 }, AT).await.expect("judged again");
    letters.write(std::slice::from_ref(&first)).await.expect("written late");
    assert_rests(&*letters, &second).await;
    let third = DeadLetter { redrives: 2, at: Timestamp(AT.0 + 120_000), ..first };
    letters.write(std::slice::from_ref(&third)).await.expect("written");
    assert_rests(&*letters, &third).await;
    letters.judge(third.id, Verdict::Dismissed { redrives: 2 }, AT).await.expect("judged");
    assert_gone(&*letters, &third).await;
}

/// Erasing a conversation deletes its letters of every stage, and no others.
pub async fn erasure_deletes_the_letters(h: &impl Harness) {
    let (letters, id) = (h.dead_letters(), conversation("erased"));
    let (one, mut two) = (letter(&id, offset(), 0), letter(&id, offset(), 0));
    two.id.stage = Stage::Merge;
    let other = letter(&format!("other-{id}"), offset(), 0);
    letters.write(&[one.clone(), two.clone(), other.clone()]).await.expect("written");
    letters.erase(&id).await.expect("erased");
    letters.erase(&id).await.expect("erased again");
    assert_gone(&*letters, &one).await;
    assert_gone(&*letters, &two).await;
    assert_rests(&*letters, &other).await;
}

/// Letters and verdicts are there after closing and opening again.
pub async fn letters_outlast_the_process(h: &impl Harness) {
    let (kept, judged) =
        (letter(&conversation("kept"), offset(), 0), letter(&conversation("gone"), offset(), 0));
    h.dead_letters().write(&[kept.clone(), judged.clone()]).await.expect("written");
    h.dead_letters().judge(judged.id, Verdict::Dismissed { redrives: 0 }, AT).await.expect("judged");
    h.reopen().await;
    assert_rests(&*h.dead_letters(), &kept).await;
    assert_gone(&*h.dead_letters(), &judged).await;
}
