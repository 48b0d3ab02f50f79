//! Holds the schemas in `schemas/avro/` to the structs and to the rules that all of them follow.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::RecordName;
use crate::released;

fn json_of(record: RecordName) -> Value {
    serde_json::from_str(record.schema()).unwrap()
}

/// Calls `visit` with each record type of a schema, the outermost first.
fn each_record<'a>(schema: &'a Value, visit: &mut impl FnMut(&'a Value)) {
    match schema {
        Value::Array(branches) => branches.iter().for_each(|branch| each_record(branch, visit)),
        Value::Object(object) => {
            if object["type"] == "record" {
                visit(schema);
                fields(schema).iter().for_each(|field| each_record(&field["type"], visit));
            }
            ["items", "values"]
                .iter()
                .filter_map(|part| object.get(*part))
                .for_each(|t| each_record(t, visit));
        }
        _ => {}
    }
}

fn fields(record: &Value) -> &Vec<Value> {
    record["fields"].as_array().unwrap()
}

#[test]
fn structs_have_the_fields_of_their_schema_in_order_and_type() {
    for record in RecordName::ALL {
        assert_eq!(record.canonical(), released::canonical(released::current(*record)), "{record}");
    }
}

#[test]
fn every_record_and_field_is_documented() {
    for record in RecordName::ALL {
        each_record(&json_of(*record), &mut |part| {
            for described in fields(part).iter().chain([part]) {
                let doc = described["doc"].as_str().unwrap_or_default();
                assert!(doc.len() > 5 && doc.ends_with('.'), "{record}: {} needs a doc", described["name"]);
            }
        });
    }
}

#[test]
fn every_record_opens_with_the_same_fields() {
    let open = json_of(RecordName::Open);
    let names: Vec<_> = fields(&open)[..5].iter().map(|field| field["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["conversation_id", "event_id", "occurred_at", "source", "attributes"]);
    for record in RecordName::ALL {
        let schema = json_of(*record);
        assert_eq!(schema["name"], record.as_str());
        assert_eq!(schema["namespace"], "hansard");
        assert_eq!(fields(&schema)[..5], fields(&open)[..5], "{record}");
    }
}

#[test]
fn defaults_are_what_a_struct_defaults_to() {
    for record in RecordName::ALL {
        each_record(&json_of(*record), &mut |part| {
            for field in fields(part) {
                let nullable = field["type"].is_array();
                assert!(!nullable || field["type"][0] == "null", "{record}: {field}");
                let zeros = [json!(""), json!(0), json!(false), json!([]), json!({})];
                match field.get("default") {
                    None => assert!(!nullable, "{record}: {field} needs null as its default"),
                    Some(default) if nullable => assert!(default.is_null(), "{record}: {field}"),
                    Some(default) => assert!(zeros.contains(default), "{record}: {field}"),
                }
            }
        });
    }
}

#[test]
fn points_in_time_say_so() {
    for record in RecordName::ALL {
        each_record(&json_of(*record), &mut |part| {
            for field in fields(part) {
                let is_time = field["type"].to_string().contains("timestamp-millis");
                assert_eq!(field["name"].as_str().unwrap().ends_with("_at"), is_time, "{record}: {field}");
            }
        });
    }
}

/// Code generators make one class of each name, so a name may mean only one thing.
#[test]
fn parts_of_one_name_are_the_same_everywhere() {
    let schemas: Vec<_> = RecordName::ALL.iter().map(|record| json_of(*record)).collect();
    let mut parts = BTreeMap::new();
    for schema in &schemas {
        each_record(schema, &mut |part| {
            let first = *parts.entry(part["name"].as_str().unwrap()).or_insert(part);
            assert_eq!(first, part);
        });
    }
    assert_eq!(parts.len(), RecordName::ALL.len() + 10);
}
