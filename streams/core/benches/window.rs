//! What a fact and a decision cost: joining facts of a short and of a very long conversation, and making a manifest.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use hansard_core::fact::{Finish, Split, Transcript, Upload};
use hansard_core::{
    Digest, Fact, Generation, Millis, Offset, Rules, Status, Timestamp, Track, Window, decide, status,
};
use std::hint::black_box;

/// The facts of a conversation in the order of the log: each chunk's Upload, Split and texts, then the Finish.
fn facts(chunks: u32, segments: u32) -> Vec<Fact> {
    let (upload_digest, split_digest) = (Digest([1; 32]), Digest([2; 32]));
    let mut facts = Vec::new();
    for number in 0..chunks {
        let chunk: hansard_core::ChunkId = format!("chunk-{number:05}").parse().expect("a chunk id");
        let (offset, time) = (Offset(number.into()), Timestamp(number.into()));
        facts.push(Fact::Upload(Upload {
            offset,
            time,
            chunk: chunk.clone(),
            digest: upload_digest,
            track: Track::default(),
            sequence: Some(number),
            recorded_at: time,
        }));
        let duration = Millis(30_000);
        let split = Split {
            offset,
            time,
            chunk: chunk.clone(),
            upload_digest,
            digest: split_digest,
            segments,
            duration,
        };
        facts.push(Fact::Split(split));
        facts.extend((0..segments).map(|segment| {
            Fact::Transcript(Transcript {
                time,
                chunk: chunk.clone(),
                upload_digest,
                split_digest,
                segment,
                generation: Generation(0),
                text_sha256: Digest([3; 32]),
            })
        }));
    }
    let (offset, time) = (Offset(i64::from(chunks)), Timestamp(i64::from(chunks)));
    facts.push(Fact::Finish(Finish {
        offset,
        time,
        expected_chunks: Some(chunks),
        expected_by_track: [].into(),
    }));
    facts
}

fn join(facts: &[Fact]) -> Window {
    let mut window = Window::new();
    for fact in facts {
        window.apply(fact);
    }
    window
}

fn benches(criterion: &mut Criterion) {
    for (name, chunks, segments) in [("40", 10, 4), ("10,000", 2_000, 5)] {
        let facts = facts(chunks, segments);
        let mut group = criterion.benchmark_group(format!("{name} segments"));
        group.throughput(Throughput::Elements(facts.len() as u64));
        group.bench_function("join and decide after every fact", |bencher| {
            bencher.iter_batched_ref(
                Window::new,
                |window| {
                    for fact in &facts[..facts.len() - 1] {
                        window.apply(fact);
                        black_box(decide(window, &Rules::default(), Timestamp(0)));
                    }
                },
                BatchSize::LargeInput,
            );
        });
        group.throughput(Throughput::Elements(1));
        let window = join(&facts);
        group.bench_function("make the manifest", |bencher| {
            bencher.iter(|| black_box(decide(&window, &Rules::default(), Timestamp(0))));
        });
        let hansard_core::Decision::Finalize(manifest) = decide(&window, &Rules::default(), Timestamp(0))
        else {
            panic!("the window is due")
        };
        let mut settled = window.clone();
        settled.apply(&Fact::Finalize(manifest.to_fact(Timestamp(1), Digest([4; 32]))));
        group.bench_function("compare with the last finalize", |bencher| {
            bencher.iter(|| assert_eq!(status(&settled, &Rules::default(), Timestamp(0)), Status::Finalized));
        });
        group.finish();
    }
}

criterion_group!(window, benches);
criterion_main!(window);
