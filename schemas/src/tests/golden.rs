//! Freezes what was released: each version's schema and the bytes of a sample under it. With
//! `HANSARD_RELEASE=1` in the environment, golden bytes that do not exist yet are written; none is ever changed.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use apache_avro::Schema;
use apache_avro::schema_compatibility::{Compatibility, SchemaCompatibility};
use serde_json::Value;

use super::samples;
use crate::released::RELEASED;
use crate::{RecordName, decode, encode};

fn path(folder: &str, record: RecordName, file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(folder).join(record.as_str()).join(file)
}

fn newest(record: RecordName) -> u32 {
    RELEASED.iter().filter(|r| r.record == record).map(|r| r.version).max().unwrap_or_default()
}

#[test]
fn golden_bytes_of_every_release_are_still_read() {
    for released in RELEASED {
        let (record, version) = (released.record, released.version);
        let path = path("golden", record, &format!("{version}.bin"));
        // The sample of a version has defaults in the fields that later versions added.
        let sample = samples::of(version).into_iter().find(|sample| sample.name() == record).unwrap();
        let written = encode(&sample);
        if !path.exists() && std::env::var_os("HANSARD_RELEASE").is_some() && version == newest(record) {
            fs::write(&path, &written).unwrap();
        }
        let golden = fs::read(&path).unwrap_or_else(|error| {
            panic!("{record} {version}: {error}, run with HANSARD_RELEASE=1 to write it")
        });
        assert_eq!(decode(&golden).unwrap(), sample, "{record} {version}");
        if version == newest(record) {
            assert_eq!(golden, written, "{record} {version}: the encoding has changed");
        }
    }
}

/// A schema without its documentation, which may change at any time.
fn undocumented(json: &str) -> Value {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(object) => {
                object.remove("doc");
                object.values_mut().for_each(strip);
            }
            Value::Array(items) => items.iter_mut().for_each(strip),
            _ => {}
        }
    }
    let mut value = serde_json::from_str(json).unwrap();
    strip(&mut value);
    value
}

#[test]
fn the_current_schema_is_the_newest_release() {
    for record in RecordName::ALL {
        let version = newest(*record);
        let release = RELEASED.iter().find(|r| (r.record, r.version) == (*record, version));
        let release = release.unwrap_or_else(|| panic!("{record} was never released"));
        assert_eq!(
            undocumented(record.schema()),
            undocumented(release.schema),
            "{record} has changed since version {version}: release it as {}",
            version + 1
        );
    }
}

/// Full transitive compatibility: any version reads any other.
#[test]
fn all_versions_of_a_schema_read_each_other() {
    for record in RecordName::ALL {
        let released = RELEASED.iter().filter(|r| r.record == *record).map(|r| r.schema);
        let schemas: Vec<_> =
            released.chain([record.schema()]).map(|json| Schema::parse_str(json).unwrap()).collect();
        for (a, b) in schemas.iter().flat_map(|a| schemas.iter().map(move |b| (a, b))) {
            assert_eq!(SchemaCompatibility::mutual_read(a, b).unwrap(), Compatibility::Full, "{record}");
        }
    }
}

#[test]
fn the_table_of_releases_lists_every_file() {
    let listed: BTreeSet<_> = RELEASED.iter().map(|r| (r.record, r.version)).collect();
    assert_eq!(listed.len(), RELEASED.len());
    for (folder, suffix) in [("released", ".avsc"), ("golden", ".bin")] {
        let found: BTreeSet<_> = RecordName::ALL
            .iter()
            .flat_map(|record| {
                fs::read_dir(path(folder, *record, "")).unwrap().map(move |entry| {
                    let name = entry.unwrap().file_name().into_string().unwrap();
                    (*record, name.strip_suffix(suffix).unwrap().parse::<u32>().unwrap())
                })
            })
            .collect();
        assert_eq!(found, listed, "{folder}");
    }
}
