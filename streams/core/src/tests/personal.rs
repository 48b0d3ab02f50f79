//! What the rules of every deployment find, and what they leave alone.

use std::string::String;
use std::sync::LazyLock;
use std::vec::Vec;

use crate::redact::{BUILT_IN, RuleSet, RuleText};

/// The rules of every deployment.
pub(super) fn built_in() -> &'static RuleSet {
    static RULES: LazyLock<RuleSet> = LazyLock::new(read);
    &RULES
}

fn read() -> RuleSet {
    let file: toml::Table = BUILT_IN.parse().expect("TOML");
    let rules = file["rule"].as_array().expect("rules");
    let texts = rules.iter().map(|rule| {
        let text = |key: &str| rule.get(key).map(|value| value.as_str().expect("a text"));
        RuleText {
            kind: text("kind").expect("a kind"),
            label: text("label").expect("a label"),
            pattern: text("pattern").expect("a pattern"),
            check: text("check"),
        }
    });
    RuleSet::new(texts).unwrap_or_else(|(at, error)| panic!("rule {at}: {error}"))
}

/// Holds each text, `«` and `»` around what is to go, against what the rules make of it.
fn hold(cases: &[(&str, &str)]) {
    let rules = built_in();
    let mut wrong = Vec::new();
    for (text, expected) in cases {
        let redacted = rules.redact(text, &[]);
        if redacted.text != *expected {
            wrong.push(std::format!("{text}\n  is    {}\n  wants {expected}", redacted.text));
        }
        let again = rules.redact(&redacted.text, &[]);
        assert_eq!(again, redacted, "{text}");
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

fn stays(texts: &[&str]) {
    let same: Vec<(&str, &str)> = texts.iter().map(|text| (*text, *text)).collect();
    hold(&same);
}

#[test]
fn addresses_of_mail_go() {
    hold(&[
        ("Write to john.doe@example.com.", "Write to [EMAIL]."),
        ("mailto:j+tag@mail.example.co.uk, please", "mailto:[EMAIL], please"),
        ("<JOHN@EXAMPLE.ORG>", "<[EMAIL]>"),
        ("It is zoë.müller@müller.de today", "It is [EMAIL] today"),
        ("почта иван@пример.рф тут", "почта [EMAIL] тут"),
        ("邮箱是 张三@例子.公司 谢谢", "邮箱是 [EMAIL] 谢谢"),
        ("a@b.nl and c@d.be", "[EMAIL] and [EMAIL]"),
        ("john @ example.com, or john@example. com", "[EMAIL], or [EMAIL]"),
        ("john dot doe at example dot com", "[EMAIL]"),
        ("It's John underscore Doe at mail dot example dot org, okay?", "It's [EMAIL], okay?"),
        ("My email is john at example dot com", "My email is [EMAIL]"),
        ("My email address is john at example.com.", "My email address is [EMAIL]."),
        ("reach jane at gmail dot com", "reach [EMAIL]"),
        ("jan punt jansen apenstaartje voorbeeld punt nl", "[EMAIL]"),
        ("john2 at example.com", "[EMAIL]"),
    ]);
    stays(&[
        "I bought it at amazon dot com yesterday",
        "Look at example dot com for the times.",
        "Meet me at the office. Com is a suffix.",
        "See you @ the pub",
        "Five apples @ 3.50 each",
        "We met at 10.30 at home.",
        "She works at Example Incorporated",
        "The handle is @somebody",
    ]);
}

#[test]
fn cards_go_by_their_check_digit() {
    hold(&[
        ("Card 4111111111111111, thanks", "Card [CARD], thanks"),
        ("It's 4111 1111 1111 1111.", "It's [CARD]."),
        ("4111-1111-1111-1111", "[CARD]"),
        ("4111, 1111, 1111, 1111", "[CARD]"),
        ("4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1", "[CARD]"),
        ("5500 0000 0000 0004 expires 12/27", "[CARD] expires 12/27"),
        ("amex 3782 822463 10005", "amex [CARD]"),
        ("12 4111 1111 1111 1111", "12 [CARD]"),
        ("4111 1111 1111 1111 2027", "[CARD] 2027"),
        ("6011 1111 1111 1117 and 3530 1113 3330 0000", "[CARD] and [CARD]"),
        ("2223 0000 4841 0010", "[CARD]"),
        ("four one one one, one one one one, one one one one, one one one one", "[CARD]"),
        ("Four 1 1 1 1 1 1 1 one one one one one one one one!", "[CARD]!"),
        ("4111\u{a0}1111\u{a0}1111\u{a0}1111", "[CARD]"),
        ("4111\u{2013}1111\u{2013}1111\u{2013}1111", "[CARD]"),
    ]);
    stays(&[
        "4111 1111 1111 1112",
        "5500000000000005",
        "Order 1234567890123456",
        "1111 1111 1111 1117",
        "At 20261124084607 it began",
        "41111111111111111111111",
        "4.111.111.111.111 dollars",
        "It is 4,111,111,111,111 of them",
        "a4111111111111111b",
        "2026-11-24 10:30:15 2026-11-24",
    ]);
}

#[test]
fn accounts_go_by_their_check_digits() {
    hold(&[
        ("NL91 ABNA 0417 1643 00 and then", "[IBAN] and then"),
        ("nl91abna0417164300", "[IBAN]"),
        ("DE89 3704 0044 0532 0130 00.", "[IBAN]."),
        ("GB29-NWBK-6016-1331-9268-19", "[IBAN]"),
        ("N L 9 1 A B N A 0 4 1 7 1 6 4 3 0 0", "[IBAN]"),
        ("FR14 2004 1010 0505 0001 3M02 606", "[IBAN]"),
        ("NO93 8601 1117 947", "[IBAN]"),
        ("MT84 MALT 0110 0001 2345 MTLC AST0 01S", "[IBAN]"),
    ]);
    stays(&[
        "NL91 ABNA 1417 1643 11",
        "DE89 3704 1144 1532 1130 11",
        "ZZ91 ABNA 1417 1643 00",
        "NL91 ABNA 1417 1643",
        "In 12 of 40 cases of 2026 it was so",
    ]);
}

#[test]
fn addresses_of_machines_go() {
    hold(&[
        ("The server is 192.168.1.10.", "The server is [IP]."),
        ("10.0.0.1:8080 answers", "[IP]:8080 answers"),
        ("http://203.0.113.7/path", "http://[IP]/path"),
        ("192 dot 168 dot 1 dot 1", "[IP]"),
        ("2001:db8:85a3::8a2e:370:7334 is it", "[IP] is it"),
        ("ping ::1 or fe80::1: fine", "ping [IP] or [IP]: fine"),
        ("2001:0db8:0000:0000:0000:ff00:0042:8329", "[IP]"),
        ("::ffff:192.0.2.128", "[IP]"),
        ("[2001:db8::1]:443", "[[IP]]:443"),
    ]);
    stays(&[
        "version 1.2.3.4",
        "Release 10.0.19041.1",
        "1.2.3 and 1.2.3.4.5",
        "256.1.1.300",
        "at 10:30:15 sharp",
        "12:30 to 13:45",
        "std::fmt and a::b",
        "the ratio 1:2:3:4",
        "Matthew 5:3 and 6:9",
        "3.14.15",
    ]);
}

#[test]
fn telephone_numbers_go() {
    hold(&[
        ("+31 6 1234 5678", "[PHONE]"),
        ("Call +31612345678.", "Call [PHONE]."),
        ("plus 31 6 1234 5678 please", "[PHONE] please"),
        ("+1 (415) 555-2671, thanks", "[PHONE], thanks"),
        ("0031 6 12345678", "[PHONE]"),
        ("06-12345678 or 06 12 34 56 78", "[PHONE] or [PHONE]"),
        ("(020) 123 4567", "[PHONE]"),
        ("020 7946 0958", "[PHONE]"),
        ("0171/2345678", "[PHONE]"),
        ("0 6 1 2 3 4 5 6 7 8", "[PHONE]"),
        ("415-555-2671", "[PHONE]"),
        ("(415) 555-2671", "[PHONE]"),
        ("1-800-555-0199", "[PHONE]"),
        ("My phone number is 5551234.", "My phone number is [PHONE]."),
        ("Call me at 612 345 678", "Call me at [PHONE]"),
        ("tel: 030 1234567", "tel: [PHONE]"),
        ("zero six one two three four five six seven eight", "[PHONE]"),
        ("plus three one six, one two three four, five six seven eight", "[PHONE]"),
        ("Mijn telefoonnummer is 612345678", "Mijn telefoonnummer is [PHONE]"),
    ]);
    stays(&[
        "On 24-12-2026 at 10:30",
        "2026-11-24T08:46:07Z",
        "01-02-2026 to 03-04-2026",
        "01/02/2026 100 people",
        "It cost 1,250,000.00 euros",
        "1.250.000,00 of them",
        "$ 0123456789",
        "order number 0123456789",
        "Invoice 2026-000123",
        "Version 1.2.3.4567",
        "3.0612345678 metres",
        "0.0612345678",
        "In 1999 and 2024 and 2025",
        "About 1 000 000 people",
        "call centers cost 1250000",
        "Order 612345678",
        "one two three four five six seven eight nine",
        "two thousand twenty six",
        "10 20 30 40 50",
        "page 12, line 7",
    ]);
}

#[test]
fn credentials_of_addresses_go() {
    hold(&[
        ("https://user:s3cret@example.com/a", "https://[CREDENTIALS]@example.com/a"),
        ("postgres://app:p%40ss:w0rd@db:5432/x", "postgres://[CREDENTIALS]@db:5432/x"),
        ("redis://:hunter22@cache:6379", "redis://[CREDENTIALS]@cache:6379"),
        ("https://u:p@ss@example.com", "https://[CREDENTIALS]@example.com"),
        (
            "https://e.org/x?a=1&access_token=abc.def-123&b=2",
            "https://e.org/x?a=1&access_token=[CREDENTIALS]&b=2",
        ),
        ("https://e.org/?X-Amz-Signature=0a1b2c3d", "https://e.org/?X-Amz-Signature=[CREDENTIALS]"),
        ("https://e.org/#token=abcdefgh", "https://e.org/#token=[CREDENTIALS]"),
        ("https://e.org/?apiKey=abcdefgh;sid=12345", "https://e.org/?apiKey=[CREDENTIALS];sid=[CREDENTIALS]"),
    ]);
    stays(&[
        "https://example.com/a?b=c",
        "https://example.com:8080/path",
        "https://example.com/?keyword=rust&page=12345",
        "ratio a:b",
        "https://example.com/?monkey=banana",
    ]);
}

#[test]
fn what_is_found_is_told_where_its_label_stands() {
    let rules = built_in();
    let redacted = rules.redact("Zoë: a@b.nl, ☎ +31 6 1234 5678, card 4111 1111 1111 1111", &[]);
    let told: Vec<(&str, &str)> =
        redacted.removed.iter().map(|one| (&*one.kind, &redacted.text[one.start..one.end])).collect();
    assert_eq!(told, [("email", "[EMAIL]"), ("phone", "[PHONE]"), ("card", "[CARD]")]);
    assert_eq!(redacted.removed[0].start, "Zoë: ".len(), "in bytes");
}

#[test]
fn a_long_text_of_digits_is_no_burden() {
    let rules = built_in();
    for piece in [
        "4 ",
        "4111 1111 1111 111 ",
        "0612 ",
        "a@",
        "a.",
        "1:",
        "one ",
        "https://a:",
        "?key=a",
        "+3",
        "NL91 ",
    ] {
        let text: String = piece.repeat(40_000 / piece.len());
        let words: Vec<&str> = text.split(' ').collect();
        let redacted = rules.redact(&text, &words);
        assert!(redacted.text.len() <= text.len() * 13, "{piece}");
    }
}
