//! What redaction costs: a transcript with nothing personal, one with something in each sentence, and digits throughout.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hansard_core::redact::{BUILT_IN, RuleSet, RuleText};

/// The rules of every deployment.
fn built_in() -> RuleSet {
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
    RuleSet::new(texts).expect("rules")
}

fn redaction(criterion: &mut Criterion) {
    let rules = built_in();
    let plain = "So the council met again on the 24th of November, and it cost about 1,250 euros, as everybody said. ";
    let personal =
        "Call me on +31 6 1234 5678 or mail john.doe@example.com about card 4111 1111 1111 1111, will you? ";
    let digits = "4 1 1 1 1 1 one 12 0612 ";
    let mut group = criterion.benchmark_group("redact");
    for (name, piece) in [("plain", plain), ("personal", personal), ("digits", digits)] {
        // A minute of speech, and a text forty times as long.
        for bytes in [1_000, 40_000] {
            let text = piece.repeat(bytes / piece.len());
            let words: Vec<&str> = text.split_whitespace().collect();
            group.throughput(Throughput::Bytes(text.len() as u64));
            group.bench_function(format!("{name} of {bytes} bytes"), |bencher| {
                bencher.iter(|| rules.redact(black_box(&text), black_box(&words)));
            });
        }
    }
    group.finish();
    criterion.bench_function("compiling the rules", |bencher| bencher.iter(built_in));
}

criterion_group!(benches, redaction);
criterion_main!(benches);
