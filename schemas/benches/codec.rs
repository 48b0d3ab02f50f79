//! Measures the encoding of a usual transcript, ours against the reference implementation's: the aggregator
//! reads 150,000 such records a second.

use std::hint::black_box;

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::writer::datum::GenericDatumWriter;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hansard_schemas::{RecordName, Transcript, Word, decode, encode};

const SHA256: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

/// A text of 400 bytes and 20 words with their times.
fn transcript() -> Transcript {
    let word = |index: i64| Word {
        text: "honourable".into(),
        start_ms: index * 700,
        end_ms: index * 700 + 600,
        confidence: Some(0.93),
        speaker: Some("A".into()),
    };
    Transcript {
        conversation_id: "01J9ZK3V7Q8M4T2R6W5X0Y1A2B".into(),
        event_id: SHA256.into(),
        occurred_at: 1_760_000_000_123,
        source: "transcribe/7".into(),
        chunk_id: "mic-000117".into(),
        upload_digest: SHA256.into(),
        split_digest: SHA256.into(),
        provider: "local".into(),
        model: "tiny-en".into(),
        text: "honourable members ".repeat(22)[..400].into(),
        text_sha256: SHA256.into(),
        segment: 3,
        start_ms: 42_000,
        end_ms: 56_000,
        audio_ms: 14_000,
        language: Some("en".into()),
        words: (0..20).map(word).collect(),
        latency_ms: Some(830),
        ..Transcript::default()
    }
}

fn transcript_codec(criterion: &mut Criterion) {
    let transcript = transcript();
    let framed = encode(&transcript);
    // The fingerprint and its mark take ten bytes; the reference is given the bare datum.
    let datum = &framed[10..];
    let schema = Schema::parse_str(RecordName::Transcript.schema()).expect("the embedded schema is valid");
    let reader = GenericDatumReader::builder(&schema).build().expect("the schema stands alone");
    let writer = GenericDatumWriter::builder(&schema).build().expect("the schema stands alone");
    let value = reader.read_value(&mut &*datum).expect("our bytes are Avro");

    let mut group = criterion.benchmark_group("transcript");
    group.throughput(Throughput::Elements(1));
    group.bench_function("decode", |bench| bench.iter(|| decode(black_box(&framed))));
    group.bench_function("decode by the reference", |bench| {
        bench.iter(|| reader.read_value(&mut black_box(datum)));
    });
    group.bench_function("encode", |bench| bench.iter(|| encode(black_box(&transcript))));
    group.bench_function("encode by the reference", |bench| {
        bench.iter(|| writer.write_value_ref(&mut Vec::with_capacity(512), black_box(&value)));
    });
    group.finish();
}

criterion_group!(benches, transcript_codec);
criterion_main!(benches);
