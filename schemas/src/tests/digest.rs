//! Freezes the digests: each by a value, and against the released schema by way of the reference implementation.

use std::collections::BTreeSet;

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use sha2::{Digest, Sha256};

use super::samples;
use crate::released::RELEASED;
use crate::{
    Encode, Options, RecordName, Upload, event_id, segment_digest, split_digest, text_sha256, upload_digest,
};

/// SHA-256 of a record's fields under its first released schema, without those named.
fn of_first_release(record: &impl Encode, without: &[&str]) -> String {
    let first = RELEASED.iter().find(|r| (r.record, r.version) == (record.record_name(), 1)).unwrap();
    let mut avro = Vec::new();
    record.write_datum(&mut avro);
    let schema = Schema::parse_str(first.schema).unwrap();
    let value = GenericDatumReader::builder(&schema).build().unwrap().read_value(&mut &avro[..]).unwrap();
    let (Value::Record(values), Schema::Record(schema)) = (value, &schema) else { panic!("no record") };
    let mut bytes = Vec::new();
    for ((name, value), field) in values.into_iter().zip(&schema.fields).skip(5) {
        if !without.contains(&name.as_str()) {
            let writer = GenericDatumWriter::builder(&field.schema).build().unwrap();
            bytes.extend(writer.write_value_to_vec(value).unwrap());
        }
    }
    hex::encode(Sha256::digest(bytes))
}

#[test]
fn digests_cover_the_fields_of_the_first_release() {
    assert_eq!(upload_digest(&samples::upload()), of_first_release(&samples::upload(), &[]));
    assert_eq!(split_digest(&samples::split()), of_first_release(&samples::split(), &["digest"]));
    assert_eq!(segment_digest(&samples::segment()), of_first_release(&samples::segment(), &["generation"]));
    let transcript = samples::transcript();
    let schema: serde_json::Value = serde_json::from_str(RecordName::Transcript.schema()).unwrap();
    let others: Vec<_> =
        schema["fields"].as_array().unwrap().iter().map(|f| f["name"].as_str().unwrap()).collect();
    let others: Vec<_> =
        others.into_iter().filter(|name| !["text", "words", "redactions"].contains(name)).collect();
    assert_eq!(text_sha256(&transcript), of_first_release(&transcript, &others));
}

#[test]
fn digests_are_frozen() {
    assert_eq!(
        upload_digest(&samples::upload()),
        "cd6f13f3d15607e1cb44cad46c17a639c6ed12d15fbd4ef74536d42781fcbaa0"
    );
    assert_eq!(
        split_digest(&samples::split()),
        "c60579f699562f4e6b543375f00e9af32148f141a162574e88bee18ac745209f"
    );
    assert_eq!(
        segment_digest(&samples::segment()),
        "27f4a6370fb19905d8080920f4dd8421042fcb839d852a0e89e5897fe17473a8"
    );
    assert_eq!(
        text_sha256(&samples::transcript()),
        "3d55afb812a0a87488d8d2d5373295f40c29a2943a54563b33c612d1f2fb0ad9"
    );
    assert_eq!(
        event_id(RecordName::Upload, &[b"c-1", b"0"]),
        "ccf07e4939cf768d1351134dc3622645372cef26d6005dc7ffeead251ff43224"
    );
}

#[test]
fn digests_leave_out_what_all_records_have() {
    let upload = samples::upload();
    let other = Upload { event_id: "x".into(), occurred_at: 0, source: String::new(), ..upload.clone() };
    assert_eq!(upload_digest(&other), upload_digest(&upload));
    let other = Upload { options: None, ..upload.clone() };
    assert_ne!(upload_digest(&other), upload_digest(&upload));
    let other = Upload { options: Some(Options::default()), ..upload };
    assert_ne!(upload_digest(&other), upload_digest(&samples::upload()));
}

#[test]
fn parts_of_an_event_do_not_run_into_each_other() {
    let ids = [
        event_id(RecordName::Merge, &[b"ab", b"c"]),
        event_id(RecordName::Merge, &[b"a", b"bc"]),
        event_id(RecordName::Merge, &[b"abc"]),
        event_id(RecordName::Merge, &[b"abc", b""]),
        event_id(RecordName::Split, &[b"abc"]),
    ];
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
    assert!(ids.iter().all(|id| id.len() == 64));
}
