//! What runs found unreferenced, and when: one object, a line a mark, that only a run without dry run replaces. Two runs
//! at once replace each other's. No harm is done: a mark tells of a look that was made, and one that is lost is made again.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bytes::Bytes;
use futures::StreamExt as _;
use hansard_core::id::Timestamp;
use hansard_runtime::ports::PortError;
use hansard_runtime::ports::objects::{ObjectHead, ObjectName};

use super::Sweep;

/// Where the marks lie, outside of what is swept.
const KEY: &str = "sweep/marks";

/// The content that was marked, since anything written later is another; and when that was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) etag: String,
    pub(super) modified: Timestamp,
    pub(super) bytes: u64,
    /// The first look that found it unreferenced, as it has been at each look since.
    pub(super) since: Timestamp,
}

/// The marked objects by key.
pub(super) type Marks = BTreeMap<String, Mark>;

impl Mark {
    pub(super) fn of(head: &ObjectHead, since: Timestamp) -> Self {
        // A listing tells milliseconds, a look at one object seconds.
        let modified = Timestamp(head.modified.0.div_euclid(1_000) * 1_000);
        Self { etag: head.etag.clone(), modified, bytes: head.bytes, since }
    }

    /// Whether this content was marked.
    pub(super) fn is_of(&self, head: &ObjectHead) -> bool {
        Self::of(head, self.since) == *self
    }
}

/// A key in one line.
fn escaped(key: &str) -> String {
    key.replace('%', "%25").replace('\n', "%0A")
}

fn unescaped(key: &str) -> String {
    key.replace("%0A", "\n").replace("%25", "%")
}

fn write(marks: &Marks) -> Bytes {
    let mut text = String::new();
    for (key, Mark { etag, modified, bytes, since }) in marks {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{etag} {} {bytes} {} {}", modified.0, since.0, escaped(key));
    }
    text.into()
}

/// The marks in a text; a line that is none marks nothing, so that the worst is a run more.
fn read(text: &str) -> Marks {
    let mark = |line: &str| {
        let mut parts = line.splitn(5, ' ');
        let etag = parts.next()?.to_owned();
        let modified = Timestamp(parts.next()?.parse().ok()?);
        let bytes = parts.next()?.parse().ok()?;
        let since = Timestamp(parts.next()?.parse().ok()?);
        Some((unescaped(parts.next()?), Mark { etag, modified, bytes, since }))
    };
    text.lines().filter_map(mark).collect()
}

impl Sweep {
    fn marks_name(&self) -> ObjectName {
        ObjectName { bucket: self.storage.bucket.clone(), key: KEY.to_owned() }
    }

    /// The marks that lie there; none before the first run.
    pub(super) async fn marks(&self) -> Result<Marks, PortError> {
        let mut body = match self.ports.objects.get(&self.marks_name(), None).await {
            Ok(body) => body,
            Err(PortError::NotFound { .. }) => return Ok(Marks::new()),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        while let Some(part) = body.next().await {
            bytes.extend_from_slice(&part?);
        }
        Ok(read(&String::from_utf8_lossy(&bytes)))
    }

    /// Replaces the marks.
    pub(super) async fn mark(&self, marks: &Marks) -> Result<(), PortError> {
        self.ports.objects.put(&self.marks_name(), "text/plain", write(marks)).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_read_as_they_were_written() {
        let mark = |etag: &str| Mark {
            etag: etag.to_owned(),
            modified: Timestamp(-7),
            bytes: 3,
            since: Timestamp(9),
        };
        let keys = ["uploads/c/a b", "uploads/c/%0A", "uploads/c/\n", "uploads/c/%25\n%"];
        let marks: Marks = keys.iter().map(|key| ((*key).to_owned(), mark("e-2"))).collect();
        assert_eq!(read(&String::from_utf8_lossy(&write(&marks))), marks);
    }

    #[test]
    fn what_is_no_mark_marks_nothing() {
        assert_eq!(
            read("\ne 1 2 3\ne x 2 3 uploads/c\ne 1 2 uploads/c/a b\n{\"a\": 1}\ne 1 -2 3 k\n"),
            Marks::new()
        );
    }
}
