//! Who is redacted, what of an answer is, and which files of rules are refused.

use hansard_core::redelivery::Class;

use super::*;

fn options(redact_pii: Option<bool>) -> Options {
    Options { redact_pii, ..Options::default() }
}

fn word(text: &str, start_ms: i64, speaker: &str) -> Word {
    let speaker = Some(speaker.to_owned());
    Word { text: text.to_owned(), start_ms, end_ms: start_ms + 90, confidence: Some(0.5), speaker }
}

fn reply() -> SpeechReply {
    SpeechReply {
        text: "Dial +31 6 1234 5678, okay?".to_owned(),
        words: vec![
            word("Dial", 0, "a"),
            word("+31", 100, "a"),
            word("6", 200, "a"),
            word("1234", 300, "a"),
            word("5678,", 400, "a"),
            word("okay?", 500, "b"),
        ],
        language: Some("en-GB".to_owned()),
        ..SpeechReply::default()
    }
}

#[test]
fn a_floor_can_be_tightened_and_never_loosened() {
    let built_in = Redaction::built_in().expect("the rules of the build");
    for (floor, asked, expected) in [
        (false, None, false),
        (false, Some(false), false),
        (false, Some(true), true),
        (true, None, true),
        (true, Some(false), true),
        (true, Some(true), true),
    ] {
        let redaction = built_in.clone().with_floor(floor);
        assert_eq!(redaction.applies(&options(asked)), expected, "{floor} {asked:?}");
        let (heard, places) = redaction.heard(reply(), &options(asked));
        assert_eq!((heard != reply(), places.len()), (expected, usize::from(expected)), "{floor} {asked:?}");
    }
}

#[test]
fn a_label_takes_the_time_of_its_words() {
    let redaction = Redaction::built_in().expect("the rules of the build");
    let (heard, places) = redaction.heard(reply(), &options(Some(true)));
    assert_eq!(heard.text, "Dial [PHONE], okay?");
    let label = Word {
        text: "[PHONE]".to_owned(),
        start_ms: 100,
        end_ms: 490,
        confidence: None,
        speaker: Some("a".to_owned()),
    };
    assert_eq!(heard.words, [word("Dial", 0, "a"), label, word("okay?", 500, "b")]);
    assert_eq!(places, [Place { kind: "phone".to_owned(), start: 5, end: 12 }]);
    assert_eq!(heard.language.as_deref(), Some("en-GB"));
    let odd = SpeechReply { language: Some("mail a@b.nl".to_owned()), ..reply() };
    assert_eq!(redaction.heard(odd, &options(Some(true))).0.language, None);
}

#[test]
fn a_failure_tells_nothing_that_was_heard() {
    let redaction = Redaction::built_in().expect("the rules of the build");
    let failed = || Failed {
        http_status: Some(400),
        ..Failed::new(Class::Permanent, "http_400", "cannot take \"mail a@b.nl\"")
    };
    let redacted = redaction.failure(failed(), &options(Some(true)));
    assert_eq!(redacted.cause, "cannot take \"mail [EMAIL]\"");
    assert_eq!((redacted.code, redacted.http_status), ("http_400", Some(400)));
    assert_eq!(redaction.failure(failed(), &options(None)).cause, failed().cause);
}

#[test]
fn a_deployment_has_rules_of_its_own() {
    let with = |text: &str| Redaction::built_in().expect("the rules of the build").with_rules(text);
    let text = |redaction: &Redaction, text: &str| {
        let reply = SpeechReply { text: text.to_owned(), ..SpeechReply::default() };
        redaction.heard(reply, &options(Some(true))).0.text
    };
    let rule = "[[rule]]\nkind = \"member\"\nlabel = \"[MEMBER]\"\npattern = '\\bM-\\d{6}\\b'\n";
    let more = with(rule).expect("rules");
    assert_eq!(text(&more, "M-123456 a@b.nl"), "[MEMBER] [EMAIL]");
    let only = with(&format!("built_in = false\n{rule}")).expect("rules");
    assert_eq!(text(&only, "M-123456 a@b.nl"), "[MEMBER] a@b.nl");

    let bad = |text: &str| with(text).expect_err(text).to_string();
    let refused = bad(&format!("{rule}[[rule]]\nkind = \"x\"\nlabel = \"[X]\"\npattern = '(x'\n"));
    assert!(refused.starts_with("rule 2 (kind \"x\"): the pattern is wrong: "), "{refused}");
    let refused = bad(&rule.replace("pattern", "patern"));
    assert!(refused.contains("patern") && refused.contains("`pattern`"), "{refused}");
    let refused = bad(&format!("{rule}check = \"lune\"\n"));
    assert!(refused.contains("rule 1 (kind \"member\"): there is no check \"lune\""), "{refused}");
    let refused = bad(&rule.replace("MEMBER", "EMAIL"));
    assert_eq!(
        refused,
        "rule 1 (kind \"member\"): label [EMAIL] is that of kind \"email\" already; give each kind a label of its own"
    );
    assert!(bad("built_in = false").contains("nothing would be redacted"));
    assert!(bad("rules = 1").contains("rules"));
}
