//! Slices of a browser's recorder: which upload has the header of one that has none (`Upload.continues`).
//!
//! `MediaRecorder.start(timeslice)` puts a header before the first of its blobs only. The header of a slice is that of the
//! nearest upload before it in its track that does not itself go on: by `sequence`, where all of the track that are known
//! have one, else by `recorded_at`, then chunk id. It is `no_header` where there is none; since slices come in any order,
//! that is judged by what is known so far, and whoever can wait looks again.

use std::collections::BTreeMap;

use hansard_core::redelivery::Class;
use hansard_runtime::ports::Ports;
use hansard_runtime::ports::facts::Row;
use hansard_runtime::stage::Failed;
use hansard_schemas::{Record, Upload};

use crate::effects::{Storage, name};
use crate::ports::{Body, Recording};

/// The code of a slice whose header is not there, or is none.
pub const NO_HEADER: &str = "no_header";

/// The uploads that stand: of each chunk the first in the log.
#[must_use]
pub fn standing(rows: &[Row]) -> Vec<&Upload> {
    let mut first = BTreeMap::new();
    for row in rows {
        let Record::Upload(upload) = &*row.record else { continue };
        let kept = first.entry(upload.chunk_id.as_str()).or_insert((row.offset, upload));
        if row.offset < kept.0 {
            *kept = (row.offset, upload);
        }
    }
    first.into_values().map(|(_, upload)| upload).collect()
}

/// The upload with the header of `slice`, among the uploads that stand; `slice` itself may be one of them.
#[must_use]
pub fn header_of<'u>(slice: &Upload, standing: &[&'u Upload]) -> Option<&'u Upload> {
    let others = standing.iter().copied().filter(|other| other.chunk_id != slice.chunk_id);
    let track: Vec<&Upload> = others.filter(|other| other.track == slice.track).collect();
    let numbered = slice.sequence.is_some() && track.iter().all(|other| other.sequence.is_some());
    let place = |upload: &'u Upload| place(upload, numbered);
    let own = self::place(slice, numbered);
    let before = track.into_iter().filter(|other| !other.continues && self::place(other, numbered) < own);
    before.max_by_key(|upload| place(upload))
}

/// What orders uploads within their track, as the timeline does.
fn place(upload: &Upload, numbered: bool) -> (Option<i64>, i64, &str) {
    let sequence = upload.sequence.filter(|_| numbered);
    let recorded_at = if numbered { 0 } else { upload.recorded_at };
    (sequence, recorded_at, &upload.chunk_id)
}

/// Opens an upload's recording: with the header of `header`, where it is a slice without one.
///
/// # Errors
/// As the storage's and the object store's of the recording; `no_header`, permanent, where the header's object is refused,
/// gone or another.
pub async fn open(
    ports: &Ports,
    storage: &Storage,
    upload: &Upload,
    header: Option<&Upload>,
) -> Result<Recording, Failed> {
    let body = body(ports, storage, upload).await?;
    let Some(header) = header else { return Ok(Recording { body, header: None }) };
    let lost = |failed: Failed| match failed.class {
        Class::Permanent => {
            Failed::new(Class::Permanent, NO_HEADER, format!("chunk {}: {failed}", header.chunk_id))
        }
        _ => failed,
    };
    let header = self::body(ports, storage, header).await.map_err(lost)?;
    Ok(Recording { body, header: Some(header) })
}

async fn body(ports: &Ports, storage: &Storage, upload: &Upload) -> Result<Body, Failed> {
    storage.check(&upload.object)?;
    let etag = (!upload.object.etag.is_empty()).then_some(upload.object.etag.as_str());
    Ok(ports.objects.get(&name(&upload.object), etag).await?)
}

/// Why a slice cannot be read as long as no header is known.
#[must_use]
pub fn missing(slice: &Upload, class: Class) -> Failed {
    let cause = format!(
        "chunk {} goes on from another of track {:?}, and none before it begins with a header; upload the recorder's first slice",
        slice.chunk_id, slice.track
    );
    Failed::new(class, NO_HEADER, cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upload(
        chunk_id: &str,
        track: &str,
        sequence: Option<i64>,
        recorded_at: i64,
        continues: bool,
    ) -> Upload {
        let (chunk_id, track) = (chunk_id.to_owned(), track.to_owned());
        Upload { chunk_id, track, sequence, recorded_at, continues, ..Upload::default() }
    }

    fn header(slice: &Upload, all: &[Upload]) -> Option<String> {
        header_of(slice, &all.iter().collect::<Vec<_>>()).map(|header| header.chunk_id.clone())
    }

    #[test]
    fn the_nearest_before_in_the_track_has_the_header() {
        let all = [
            upload("a", "", Some(0), 90, false),
            upload("b", "", Some(1), 80, true),
            upload("c", "", Some(2), 70, false),
            upload("d", "", Some(3), 60, true),
            upload("e", "", Some(4), 50, false),
            upload("x", "other", Some(2), 65, false),
        ];
        assert_eq!(header(&all[1], &all).as_deref(), Some("a"));
        assert_eq!(header(&all[3], &all).as_deref(), Some("c"), "numbers count, clocks do not");
        assert_eq!(header(&all[3], &all[4..]), None, "later, or of another track");
        assert_eq!(header(&all[3], &[]), None);
    }

    #[test]
    fn clocks_count_where_a_number_is_missing() {
        let all = [
            upload("a", "", Some(7), 10, false),
            upload("b", "", None, 20, false),
            upload("c", "", Some(1), 20, true),
            upload("d", "", Some(0), 30, false),
        ];
        assert_eq!(header(&all[2], &all).as_deref(), Some("b"), "of one moment, the chunk's id tells");
        let unnumbered = Upload { sequence: None, ..all[2].clone() };
        assert_eq!(header(&unnumbered, &[all[0].clone(), all[3].clone()]).as_deref(), Some("a"));
    }

    #[test]
    fn of_two_uploads_of_a_chunk_the_first_in_the_log_stands() {
        let row = |offset: i64, upload: Upload| Row {
            offset: hansard_core::id::Offset(offset),
            time: hansard_core::id::Timestamp(0),
            record: Box::new(upload.into()),
        };
        let (first, second) = (upload("a", "", None, 1, false), upload("a", "", None, 2, false));
        let rows = [row(9, second), row(3, first.clone()), row(5, upload("b", "", None, 0, true))];
        assert_eq!(standing(&rows).len(), 2);
        assert_eq!(standing(&rows)[0], &first);
    }
}
