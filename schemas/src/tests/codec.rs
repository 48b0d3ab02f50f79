//! Proves that our encoding is Avro's, value by value against the reference implementation, and that damaged
//! bytes are an error and nothing worse.

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use proptest::collection::vec;
use proptest::prelude::*;

use super::samples;
use crate::codec::{Datum, DatumError, read_datum, write_long};
use crate::released;
use crate::{Encode, Record, RecordName};

/// Any value of a schema. Maps have at most one entry, since the reference writes more in an order of its own.
fn any_value(schema: &Schema) -> BoxedStrategy<Value> {
    match schema {
        Schema::Null => Just(Value::Null).boxed(),
        Schema::Boolean => any::<bool>().prop_map(Value::Boolean).boxed(),
        Schema::Int => any::<i32>().prop_map(Value::Int).boxed(),
        Schema::Long => any::<i64>().prop_map(Value::Long).boxed(),
        Schema::TimestampMillis => any::<i64>().prop_map(Value::TimestampMillis).boxed(),
        Schema::Float => any::<f32>().prop_map(Value::Float).boxed(),
        Schema::String => any::<String>().prop_map(Value::String).boxed(),
        Schema::Bytes => vec(any::<u8>(), 0..80).prop_map(Value::Bytes).boxed(),
        Schema::Array(array) => vec(any_value(&array.items), 0..4).prop_map(Value::Array).boxed(),
        Schema::Map(map) => prop::collection::hash_map(any::<String>(), any_value(&map.types), 0..2)
            .prop_map(Value::Map)
            .boxed(),
        Schema::Union(union) => {
            let value = any_value(&union.variants()[1]).prop_map(|value| Value::Union(1, Box::new(value)));
            prop_oneof![Just(Value::Union(0, Box::new(Value::Null))), value].boxed()
        }
        Schema::Record(record) => record
            .fields
            .iter()
            .map(|field| {
                let name = field.name.clone();
                any_value(&field.schema).prop_map(move |value| (name.clone(), value)).boxed()
            })
            .collect::<Vec<_>>()
            .prop_map(Value::Record)
            .boxed(),
        other => panic!("no record of ours has {other:?}"),
    }
}

fn any_datum() -> impl Strategy<Value = (RecordName, Vec<u8>)> {
    prop::sample::select(RecordName::ALL).prop_flat_map(|record| {
        any_value(released::current(record)).prop_map(move |value| (record, reference_bytes(record, value)))
    })
}

fn reference_bytes(record: RecordName, value: Value) -> Vec<u8> {
    GenericDatumWriter::builder(released::current(record)).build().unwrap().write_value_to_vec(value).unwrap()
}

fn reference_value(record: RecordName, mut bytes: &[u8]) -> Value {
    let value = GenericDatumReader::builder(released::current(record))
        .build()
        .unwrap()
        .read_value(&mut bytes)
        .unwrap();
    assert!(bytes.is_empty());
    value
}

fn our_bytes(record: &Record) -> Vec<u8> {
    let mut bytes = Vec::new();
    record.write_datum(&mut bytes);
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn bytes_are_those_of_the_reference((record, bytes) in any_datum()) {
        let ours = record.read_datum(&bytes).unwrap();
        prop_assert_eq!(ours.name(), record);
        let written = our_bytes(&ours);
        prop_assert_eq!(&written, &bytes);
        prop_assert_eq!(reference_bytes(record, reference_value(record, &written)), bytes);
    }

    #[test]
    fn every_truncation_is_an_error((record, bytes) in any_datum(), cut in any::<prop::sample::Index>()) {
        prop_assert!(record.read_datum(&bytes[..cut.index(bytes.len())]).is_err());
    }

    /// What still can be read after damage is a value that can be written and read again.
    #[test]
    fn damage_is_an_error_or_another_value(
        (record, mut bytes) in any_datum(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        for (index, byte) in damage {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        if let Ok(value) = record.read_datum(&bytes) {
            let written = our_bytes(&value);
            prop_assert_eq!(our_bytes(&record.read_datum(&written).unwrap()), written);
        }
    }

    #[test]
    fn noise_never_panics(record in prop::sample::select(RecordName::ALL), bytes in vec(any::<u8>(), 0..200)) {
        let _ = record.read_datum(&bytes);
    }
}

#[test]
fn samples_read_back_through_the_reference() {
    for sample in samples::all() {
        let bytes = our_bytes(&sample);
        let again = reference_bytes(sample.name(), reference_value(sample.name(), &bytes));
        // Maps may come back in another order, which the struct does not show.
        assert_eq!(sample.name().read_datum(&again).unwrap(), sample);
    }
}

fn longs(numbers: &[i64]) -> Vec<u8> {
    let mut bytes = Vec::new();
    numbers.iter().for_each(|number| write_long(*number, &mut bytes));
    bytes
}

#[test]
fn arrays_are_read_in_blocks_of_both_kinds() {
    let with_size = [longs(&[-2, 2]), longs(&[5, 6]), longs(&[1, 7, 0])].concat();
    assert_eq!(read_datum(&with_size), Ok(vec![5_i64, 6, 7]));
    assert_eq!(read_datum(&longs(&[0])), Ok(Vec::<i64>::new()));
}

#[test]
fn numbers_are_read_to_their_edges_and_not_beyond() {
    for edge in [i64::MIN, i64::MAX, -1, 0, 63, 64, -64, -65] {
        assert_eq!(read_datum(&longs(&[edge])), Ok(edge));
    }
    let beyond = i64::from(i32::MAX) + 1;
    assert_eq!(read_datum::<i32>(&longs(&[beyond])), Err(DatumError::Number { at: 0 }));
    assert_eq!(read_datum(&longs(&[beyond - 1])), Ok(i32::MAX));
    let too_long = [[0xFF; 9].as_slice(), &[0x02]].concat();
    assert_eq!(read_datum::<i64>(&too_long), Err(DatumError::Number { at: 0 }));
    assert_eq!(read_datum::<i64>(&[0xFF; 20]), Err(DatumError::Number { at: 0 }));
}

#[test]
fn lengths_that_cannot_be_are_refused_before_anything_is_allocated() {
    let refused = |error| match error {
        Err(DatumError::Length { declared, .. }) => declared,
        other => panic!("{other:?}"),
    };
    for declared in [-1, 2, i64::MAX] {
        let bytes = [longs(&[declared]), vec![b'a']].concat();
        assert_eq!(refused(read_datum::<String>(&bytes).map(drop)), declared);
        assert_eq!(refused(read_datum::<Vec<u8>>(&bytes).map(drop)), declared);
    }
    assert_eq!(refused(read_datum::<Vec<i64>>(&longs(&[3, 1, 1])).map(drop)), 3);
    assert_eq!(refused(read_datum::<Vec<f32>>(&longs(&[2, 0, 0, 0, 0, 0, 0, 0])).map(drop)), 2);
    assert_eq!(refused(read_datum::<Vec<i64>>(&longs(&[i64::MIN, 0])).map(drop)), i64::MIN);
    assert_eq!(refused(read_datum::<Vec<i64>>(&longs(&[-1, 9, 0, 0])).map(drop)), 9);
    assert_eq!(refused(read_datum::<Vec<i64>>(&longs(&[-1, -1, 0, 0])).map(drop)), -1);
    let map = read_datum::<std::collections::BTreeMap<String, i64>>(&longs(&[2, 0, 0, 0]));
    assert_eq!(refused(map.map(drop)), 2);
}

#[test]
fn values_outside_their_type_are_refused() {
    assert_eq!(read_datum::<bool>(&[2]), Err(DatumError::Boolean { at: 0 }));
    assert_eq!(read_datum::<String>(&[2, 0xFF]), Err(DatumError::Utf8 { at: 1 }));
    assert_eq!(read_datum::<Option<bool>>(&[4, 0]), Err(DatumError::Branch { at: 1, branch: 2 }));
    assert_eq!(read_datum::<Option<bool>>(&[1, 0]), Err(DatumError::Branch { at: 1, branch: -1 }));
    assert_eq!(read_datum::<bool>(&[1, 0, 0]), Err(DatumError::Trailing { at: 1, left: 2 }));
    assert_eq!(read_datum::<f32>(&[0, 0, 0]), Err(DatumError::Truncated { at: 3 }));
}

#[test]
fn a_repeated_key_of_a_map_counts_once() {
    let mut bytes = longs(&[2]);
    for value in [1_i64, 2] {
        "k".to_owned().write(&mut bytes);
        value.write(&mut bytes);
    }
    bytes.push(0);
    let map: std::collections::BTreeMap<String, i64> = read_datum(&bytes).unwrap();
    assert_eq!(map.into_iter().collect::<Vec<_>>(), [("k".to_owned(), 2)]);
}
