//! What the effect stages share: where objects lie, the names of events, and the looks before paying.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::StreamExt as _;
use hansard_core::Window;
use hansard_core::id::{Digest, Generation};
use hansard_core::redelivery::Class;
use hansard_runtime::effect::{CallBounds, Paid, pay};
use hansard_runtime::metrics::Metrics;
use hansard_runtime::ports::facts::Row;
use hansard_runtime::ports::journal::{JournalKey, SubmissionId};
use hansard_runtime::ports::objects::ObjectName;
use hansard_runtime::ports::{PortError, Ports};
use hansard_runtime::stage::{Failed, Input};
use hansard_schemas::{Finalize, Object, Open, Record, RecordName, Stage, decode, event_id};

use crate::convert;

/// Where objects lie, and how large they may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Storage {
    /// The bucket of everything that is written.
    pub bucket: String,
    /// Uploads must lie below one of these, as `bucket/prefix`; else `object_forbidden`.
    pub allowed: Vec<String>,
    /// Bytes of an upload, at most (default 5 GiB); else `too_large`.
    pub upload_bytes_max: i64,
}

impl Storage {
    /// The usual layout in one bucket.
    #[must_use]
    pub fn new(bucket: &str) -> Self {
        Self {
            bucket: bucket.to_owned(),
            allowed: vec![format!("{bucket}/uploads/")],
            upload_bytes_max: 5 << 30,
        }
    }

    /// Refuses what lies elsewhere or is too large.
    ///
    /// # Errors
    /// `object_forbidden` or `too_large`, both permanent.
    pub fn check(&self, object: &Object) -> Result<(), Failed> {
        let path = format!("{}/{}", object.bucket, object.key);
        let outside = object.key.split('/').any(|part| part == ".." || part == ".");
        if outside || !self.allowed.iter().any(|prefix| path.starts_with(prefix.as_str())) {
            let cause = format!("{path:?} is not below {}; upload it there", self.allowed.join(" or "));
            return Err(Failed::new(Class::Permanent, "object_forbidden", cause));
        }
        if object.bytes > self.upload_bytes_max {
            let cause = format!(
                "{} bytes are more than {}; upload shorter chunks",
                object.bytes, self.upload_bytes_max
            );
            return Err(Failed::new(Class::Permanent, "too_large", cause));
        }
        Ok(())
    }
}

/// What every effect stage is made of.
#[derive(Clone)]
pub struct Effect {
    /// The ports.
    pub ports: Ports,
    /// The metrics of the job.
    pub metrics: Metrics,
    /// Where objects lie.
    pub storage: Arc<Storage>,
    /// The bounds of its calls.
    pub bounds: CallBounds,
    /// What is looked at or paid for in this process just now.
    busy: Arc<Mutex<BTreeSet<JournalKey>>>,
}

/// Nobody else in this process looks at an effect or pays for it while this lives. Two records of one piece of work lie in
/// one partition, and so in one process; without this both could find in the journal that neither has begun.
pub struct Busy {
    key: JournalKey,
    busy: Arc<Mutex<BTreeSet<JournalKey>>>,
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

impl Effect {
    /// Of these parts.
    #[must_use]
    pub fn new(ports: Ports, metrics: Metrics, storage: Arc<Storage>, bounds: CallBounds) -> Self {
        Self { ports, metrics, storage, bounds, busy: Arc::default() }
    }

    /// Keeps others of this process away from an effect; nothing where one of them is at it.
    #[must_use]
    pub fn take(&self, key: &JournalKey) -> Option<Busy> {
        let fresh = self.busy.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone());
        fresh.then(|| Busy { key: key.clone(), busy: Arc::clone(&self.busy) })
    }

    /// The result of what `key` names, paid for only where it has to be; see [`pay`].
    ///
    /// # Errors
    /// As [`pay`]'s.
    pub async fn pay<Call, Fut>(&self, key: &JournalKey, input: &Input, call: Call) -> Result<Paid, Failed>
    where
        Call: FnOnce(SubmissionId) -> Fut + Send,
        Fut: Future<Output = Result<Bytes, Failed>> + Send,
    {
        let Some(_busy) = self.take(key) else { return Ok(Paid::UnderWay) };
        pay(&self.ports, &self.metrics, key, input.history.as_ref(), self.bounds, call).await
    }
}

/// The identity of an effect's output: record name, journal key and, where it answers a Finalize, that one's digest.
#[must_use]
pub fn event_of(record: RecordName, key: &JournalKey, finalize_digest: &str) -> String {
    let generation = key.generation.0.to_be_bytes();
    let parts: [&[u8]; 5] = [
        key.conversation.as_bytes(),
        key.stage.as_str().as_bytes(),
        &key.input.0,
        &generation,
        finalize_digest.as_bytes(),
    ];
    event_id(record, &parts)
}

/// Where the segments of an Upload lie, and beside them its waveform.
#[must_use]
pub fn segments_prefix(conversation: &str, upload_digest: &str) -> String {
    format!("segments/{conversation}/{upload_digest}/")
}

/// Where the waveform of a recording lies whose segments lie there.
#[must_use]
pub fn peaks_key(segments_prefix: &str) -> String {
    format!("{segments_prefix}peaks.json")
}

/// A journal key.
#[must_use]
pub fn journal_key(conversation: &str, stage: Stage, input: Digest, generation: i64) -> JournalKey {
    JournalKey { conversation: conversation.to_owned(), stage, input, generation: Generation(generation) }
}

/// A digest that one of our own records carries.
///
/// # Errors
/// `invalid`, permanent, where it is none.
pub fn digest(text: &str) -> Result<Digest, Failed> {
    text.parse()
        .map_err(|error: hansard_core::IdError| Failed::new(Class::Permanent, "invalid", error.to_string()))
}

/// A journal's result as the record that it is.
///
/// # Errors
/// `journal_corrupt`, a defect, where it is none.
pub fn result(bytes: &Bytes) -> Result<Record, Failed> {
    decode(bytes).map_err(|error| Failed::new(Class::Defect, "journal_corrupt", error.to_string()))
}

/// The name of a pinned object.
#[must_use]
pub fn name(object: &Object) -> ObjectName {
    ObjectName { bucket: object.bucket.clone(), key: object.key.clone() }
}

/// A small object's whole body.
///
/// # Errors
/// As the object store's; `too_large` where it has more than `bytes_max`.
pub async fn fetch(ports: &Ports, object: &Object, bytes_max: usize) -> Result<Bytes, Failed> {
    let etag = (!object.etag.is_empty()).then_some(object.etag.as_str());
    let mut body = ports.objects.get(&name(object), etag).await?;
    let mut bytes = Vec::with_capacity(usize::try_from(object.bytes).unwrap_or(0).min(bytes_max));
    while let Some(part) = body.next().await {
        bytes.extend_from_slice(&part?);
        if bytes.len() > bytes_max {
            let cause = format!("{} has more than {bytes_max} bytes", object.key);
            return Err(Failed::new(Class::Permanent, "too_large", cause));
        }
    }
    Ok(bytes.into())
}

/// The Open that stands: the first in the log.
#[must_use]
pub fn standing_open(rows: &[Row]) -> Option<&Open> {
    let opens = rows.iter().filter_map(|row| match &*row.record {
        Record::Open(open) => Some((row.offset, open)),
        _ => None,
    });
    opens.min_by_key(|(offset, _)| *offset).map(|(_, open)| open)
}

/// The facts of a conversation for a stage that answers a Finalize.
pub struct Known {
    /// Its rows.
    pub rows: Vec<Row>,
    /// The window up to the finalize's generation of transcribe.
    pub window: Window,
}

/// Reads the facts that a Finalize rests on; nothing where a newer revision exists, so that it is superseded.
///
/// # Errors
/// As the store's.
pub async fn known(ports: &Ports, finalize: &Finalize) -> Result<Option<Known>, Failed> {
    let rows = ports.facts.read(&finalize.conversation_id).await?;
    let newer =
        |row: &Row| matches!(&*row.record, Record::Finalize(other) if other.revision > finalize.revision);
    if rows.iter().any(newer) {
        return Ok(None);
    }
    let generation = finalize.generations.get(Stage::Transcribe.as_str()).copied().unwrap_or(0);
    let mut window = Window::new();
    for row in &rows {
        if matches!(&*row.record, Record::Transcript(transcript) if transcript.generation > generation) {
            continue;
        }
        let fact = convert::fact(row).map_err(|error| PortError::Corrupt {
            what: format!("row of {}", finalize.conversation_id),
            cause: error.to_string(),
        })?;
        window.apply(&fact);
    }
    Ok(Some(Known { rows, window }))
}
