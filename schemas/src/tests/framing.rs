//! Proves what stands before a datum, and that other versions of a schema are read.

use std::collections::HashMap;

use serde_json::json;

use super::samples;
use crate::codec::{Datum, write_long};
use crate::released::{self, Known};
use crate::{
    DecodeError, Encode, Finish, Framing, Options, Record, RecordName, Registry, RegistryError, decode,
    encode, fingerprint,
};

#[test]
fn records_are_framed_as_single_objects() {
    for sample in samples::all() {
        let bytes = encode(&sample);
        assert_eq!(bytes[..2], [0xC3, 0x01]);
        assert_eq!(bytes[2..10], fingerprint(sample.name()).to_le_bytes());
        assert_eq!(decode(&bytes).unwrap(), sample);
    }
}

/// The values are those of the Avro project's own test data, `share/test/data/schema-tests.txt`.
#[test]
fn fingerprints_are_those_of_the_specification() {
    let of = |json| {
        let schema = apache_avro::Schema::parse_str(json).unwrap();
        released::crc_64_avro(released::canonical(&schema).as_bytes()).cast_signed()
    };
    assert_eq!(of(r#""null""#), 7_195_948_357_588_979_594);
    assert_eq!(of(r#""boolean""#), -6_970_731_678_124_411_036);
    assert_eq!(of(r#"{"type": "fixed", "name": "foo", "size": 15}"#), 1_756_455_273_707_447_556);
    assert_eq!(of(r#"{"type": "long", "logicalType": "timestamp-millis"}"#), of(r#""long""#));
}

#[test]
fn what_is_no_record_of_ours_is_refused() {
    assert!(matches!(decode(b""), Err(DecodeError::Unframed { head }) if head.is_empty()));
    assert!(matches!(decode(b"{\"hello\": 1}"), Err(DecodeError::Unframed { head }) if head.len() == 10));
    assert!(matches!(decode(&[0xC3, 1, 0, 0]), Err(DecodeError::Unframed { .. })));
    let unknown = [&[0xC3, 1][..], &7_u64.to_le_bytes()].concat();
    assert!(matches!(decode(&unknown), Err(DecodeError::UnknownSchema { fingerprint: 7 })));
    let mut damaged = encode(&samples::finish()).to_vec();
    damaged.push(0);
    assert!(matches!(decode(&damaged), Err(DecodeError::Datum { record: RecordName::Finish, .. })));
}

fn registry() -> (HashMap<RecordName, u32>, Framing) {
    let ids: HashMap<_, _> = RecordName::ALL.iter().map(|record| (*record, 100 + *record as u32)).collect();
    let framing = Framing::Registry(Registry::new(&ids).unwrap());
    (ids, framing)
}

#[test]
fn a_registry_frames_by_id_and_still_reads_single_objects() {
    let (ids, framing) = registry();
    for sample in samples::all() {
        let bytes = framing.encode(&sample);
        assert_eq!(bytes[0], 0);
        assert_eq!(bytes[1..5], ids[&sample.name()].to_be_bytes());
        assert_eq!(framing.decode(&bytes).unwrap(), sample);
        assert_eq!(framing.decode(&encode(&sample)).unwrap(), sample);
        assert!(matches!(Framing::SingleObject.decode(&bytes), Err(DecodeError::Unframed { .. })));
        assert_eq!(Framing::SingleObject.encode(&sample), encode(&sample));
    }
    assert!(matches!(framing.decode(&[0, 0, 0, 0]), Err(DecodeError::Unframed { .. })));
    assert!(matches!(framing.decode(&[0, 0, 0, 0, 9]), Err(DecodeError::UnknownId { id: 9 })));
}

#[test]
fn a_registry_needs_an_id_for_every_record() {
    let (mut ids, _) = registry();
    ids.remove(&RecordName::Merge);
    assert!(matches!(Registry::new(&ids), Err(RegistryError::Unregistered(RecordName::Merge))));
}

/// A schema of `Finish` as a later release may have it: with a field more, and one that we know left out.
fn other_finish() -> String {
    let mut schema: serde_json::Value = serde_json::from_str(RecordName::Finish.schema()).unwrap();
    let fields = schema["fields"].as_array_mut().unwrap();
    fields.retain(|field| field["name"] != "expected_by_track");
    fields.push(json!({"name": "why", "type": ["null", "string"], "default": null}));
    schema.to_string()
}

/// The sample under that schema, framed with the id 9.
fn other_finish_bytes() -> Vec<u8> {
    let finish = samples::finish();
    let mut bytes = vec![0, 0, 0, 0, 9];
    finish.conversation_id.write(&mut bytes);
    finish.event_id.write(&mut bytes);
    finish.occurred_at.write(&mut bytes);
    finish.source.write(&mut bytes);
    finish.attributes.write(&mut bytes);
    finish.expected_chunks.write(&mut bytes);
    Some("because".to_owned()).write(&mut bytes);
    bytes
}

#[test]
fn another_version_of_a_schema_is_read_once_it_was_learned() {
    let (_, framing) = registry();
    let Framing::Registry(registry) = &framing else { panic!("{framing:?}") };
    let bytes = other_finish_bytes();
    assert!(matches!(framing.decode(&bytes), Err(DecodeError::UnknownId { id: 9 })));
    registry.learn(9, &other_finish()).unwrap();
    let expected = Finish { expected_by_track: [].into(), ..samples::finish() };
    assert_eq!(framing.decode(&bytes).unwrap(), Record::from(expected));
    for cut in 5..bytes.len() {
        assert!(framing.decode(&bytes[..cut]).is_err(), "cut at {cut}");
    }
    let trailing = [&bytes[..], &[0]].concat();
    assert!(matches!(framing.decode(&trailing), Err(DecodeError::Datum { .. })));
}

#[test]
fn a_released_schema_is_read_by_its_fingerprint() {
    let other = other_finish();
    let schema = apache_avro::Schema::parse_str(&other).unwrap();
    let fingerprint = released::crc_64_avro(released::canonical(&schema).as_bytes());
    let datum = &other_finish_bytes()[5..];
    let known = Known::with([(RecordName::Finish, other.as_str())].into_iter());
    let expected = Finish { expected_by_track: [].into(), ..samples::finish() };
    assert_eq!(known.read(fingerprint, datum).unwrap(), Record::from(expected));
    assert!(matches!(released::read(fingerprint, datum), Err(DecodeError::UnknownSchema { .. })));
}

#[test]
fn a_declared_count_under_another_schema_allocates_nothing_large() {
    let (_, framing) = registry();
    let Framing::Registry(registry) = &framing else { panic!("{framing:?}") };
    registry.learn(9, &other_finish()).unwrap();
    // An id, an event id, a time and a source of one byte each, and then the attributes.
    let mut bytes = vec![0, 0, 0, 0, 9, 0, 0, 0, 0];
    write_long(1 << 22, &mut bytes);
    bytes.resize(64, 0);
    let Err(DecodeError::Resolve { source, .. }) = framing.decode(&bytes) else { panic!("accepted") };
    assert!(source.to_string().contains("allocate"), "{source}");
}

#[test]
fn the_fingerprint_of_the_library_for_rust_is_understood() {
    use apache_avro::rabin::Rabin;
    let schema = released::current(RecordName::Finish);
    let header = apache_avro::headers::RabinFingerprintHeader::from_schema(schema);
    let mut bytes = apache_avro::headers::HeaderBuilder::build_header(&header);
    assert_ne!(bytes[2..10], fingerprint(RecordName::Finish).to_le_bytes());
    assert_eq!(bytes[2..10], schema.fingerprint::<Rabin>().bytes);
    samples::finish().write_datum(&mut bytes);
    assert_eq!(decode(&bytes).unwrap(), samples::finish().into());
}

#[test]
fn as_json_a_record_carries_its_name_and_bytes_in_hex() {
    let json = serde_json::to_value(Record::from(samples::split())).unwrap();
    assert_eq!(json["record"], "Split");
    assert_eq!(json["conversation_id"], "c-1");
    assert_eq!(json["segments"][0]["sha256"], "07".repeat(32));
    let options: Options = serde_json::from_str(r#"{"language": "nl"}"#).unwrap();
    assert_eq!(options, Options { language: Some("nl".into()), ..Options::default() });
    assert!(serde_json::from_str::<Options>(r#"{"langauge": "nl"}"#).is_err());
}

#[test]
fn a_learned_schema_must_be_one_of_ours_and_readable() {
    let (_, framing) = registry();
    let Framing::Registry(registry) = &framing else { panic!("{framing:?}") };
    let finish = RecordName::Finish.schema();
    registry.learn(7, finish).unwrap();
    let refused = |schema: &str| registry.learn(9, schema).expect_err("refused");
    assert!(matches!(*refused("{}"), RegistryError::Invalid { id: 9, .. }));
    assert!(matches!(*refused("\"string\""), RegistryError::Foreign { id: 9 }));
    assert!(matches!(framing.decode(&[0, 0, 0, 0, 9]), Err(DecodeError::Unreadable(_))), "it is remembered");
    let foreign = finish.replace("\"namespace\": \"hansard\"", "\"namespace\": \"other\"");
    assert!(matches!(*refused(&foreign), RegistryError::Foreign { .. }));
    let retyped = finish.replace("[\"null\", \"int\"], \"default\": null", "\"string\"");
    assert_ne!(retyped, finish);
    assert!(matches!(*refused(&retyped), RegistryError::Incompatible { id: 9, .. }));
}

#[test]
fn fingerprints_tell_all_records_apart() {
    let fingerprints: HashMap<_, _> =
        RecordName::ALL.iter().map(|record| (fingerprint(*record), record)).collect();
    assert_eq!(fingerprints.len(), RecordName::ALL.len());
}
