//! Which offsets of a partition are done, when records complete in any order: a prefix, and runs above it.
//!
//! The prefix is committed as the offset, the runs as its metadata, so that a replay skips them.

use std::collections::BTreeMap;

use hansard_core::id::Offset;

use crate::ports::log::METADATA_BYTES_MAX;

/// The completed offsets of one partition.
///
/// Offsets need not be contiguous in the log (control records, aborted transactions, compaction): what was never
/// delivered counts as done once the position has passed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completed {
    /// Everything below is done.
    prefix: i64,
    /// Disjoint, non-adjacent runs of done offsets above `prefix`: start → end (exclusive).
    runs: BTreeMap<i64, i64>,
}

/// Commit metadata that was not written by [`Completed::metadata`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("commit metadata {metadata:?} is not a list of runs; it was written by something else")]
pub struct BadMetadata {
    /// The text as found.
    metadata: String,
}

impl Completed {
    /// Nothing done from `prefix` on.
    #[must_use]
    pub fn from_prefix(prefix: Offset) -> Self {
        Self { prefix: prefix.0, runs: BTreeMap::new() }
    }

    /// As it was committed.
    ///
    /// # Errors
    /// When the metadata is not of our making. Starting anew from the prefix is then safe: effects have a journal.
    pub fn parse(prefix: Offset, metadata: &str) -> Result<Self, BadMetadata> {
        let mut completed = Self::from_prefix(prefix);
        let mut floor = 0;
        for run in metadata.split_ascii_whitespace() {
            let (start, last) = run.split_once('-').unwrap_or((run, run));
            match (start.parse::<i64>(), last.parse::<i64>()) {
                (Ok(start), Ok(last))
                    if start >= floor && last >= start && last < i64::MAX - prefix.0 - 1 =>
                {
                    completed.runs.insert(prefix.0 + start, prefix.0 + last + 1);
                    floor = last + 2;
                }
                _ => return Err(BadMetadata { metadata: metadata.to_owned() }),
            }
        }
        Ok(completed)
    }

    /// The contiguous prefix: the offset to commit.
    #[must_use]
    pub fn prefix(&self) -> Offset {
        Offset(self.prefix)
    }

    /// Whether `offset` is done.
    #[must_use]
    pub fn contains(&self, offset: Offset) -> bool {
        offset.0 < self.prefix
            || self.runs.range(..=offset.0).next_back().is_some_and(|(_, end)| offset.0 < *end)
    }

    /// Marks the offsets from `start` to before `end` as done.
    pub fn insert(&mut self, start: Offset, end: Offset) {
        let (mut start, mut end) = (start.0.max(self.prefix), end.0);
        if start >= end {
            return;
        }
        while let Some((&s, &e)) = self.runs.range(..=end).next_back() {
            if e < start {
                break;
            }
            start = start.min(s);
            end = end.max(e);
            self.runs.remove(&s);
        }
        if start <= self.prefix {
            self.prefix = end;
        } else {
            self.runs.insert(start, end);
        }
    }

    /// The runs above the prefix as commit metadata: `2 5-9` means that prefix+2 and prefix+5 to prefix+9 are done.
    #[must_use]
    pub fn metadata(&self) -> String {
        use std::fmt::Write as _;
        let mut text = String::new();
        for (start, end) in &self.runs {
            let (start, last) = (start - self.prefix, end - 1 - self.prefix);
            let gap = if text.is_empty() { "" } else { " " };
            // Writing to a String cannot fail.
            let _ = if start == last {
                write!(text, "{gap}{start}")
            } else {
                write!(text, "{gap}{start}-{last}")
            };
        }
        text
    }

    /// Whether the metadata still fits where it is committed.
    #[must_use]
    pub fn fits(&self) -> bool {
        // 42 bytes are two offsets of 20 digits, a dash and a blank: the longest run.
        self.runs.len() * 42 <= METADATA_BYTES_MAX || self.metadata().len() <= METADATA_BYTES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completed(prefix: i64, runs: &[(i64, i64)]) -> Completed {
        let mut completed = Completed::from_prefix(Offset(prefix));
        for (start, end) in runs {
            completed.insert(Offset(*start), Offset(*end));
        }
        completed
    }

    #[test]
    fn a_hole_holds_the_prefix_back() {
        let mut done = completed(10, &[(11, 12), (13, 15)]);
        assert_eq!((done.prefix(), done.metadata().as_str()), (Offset(10), "1 3-4"));
        done.insert(Offset(10), Offset(11));
        assert_eq!((done.prefix(), done.metadata().as_str()), (Offset(12), "1-2"));
        done.insert(Offset(12), Offset(13));
        assert_eq!((done.prefix(), done.metadata().as_str()), (Offset(15), ""));
    }

    #[test]
    fn metadata_round_trips_and_foreign_text_is_refused() {
        for runs in [vec![], vec![(12, 13)], vec![(12, 20), (30, 31), (40, 400)]] {
            let done = completed(11, &runs);
            assert_eq!(Completed::parse(Offset(11), &done.metadata()), Ok(done));
        }
        for text in ["x", "3-1", "5 5", "5 6", "-1", "1-9223372036854775807"] {
            assert!(Completed::parse(Offset(11), text).is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn any_order_of_completion_gives_the_same() {
        let expected = completed(0, &[(1, 100)]);
        for stride in [3_i64, 7, 13, 37, 98] {
            let mut done = completed(0, &[]);
            for i in 0..99 {
                let offset = 1 + (i * stride) % 99;
                assert!(stride % 3 == 0 || !done.contains(Offset(offset)), "{offset} done before its time");
                done.insert(Offset(offset), Offset(offset + 1));
                assert!(done.contains(Offset(offset)), "{offset} not done after its time");
            }
            if stride % 3 != 0 && stride % 11 != 0 {
                assert_eq!(done, expected, "stride {stride}");
            }
        }
    }

    #[test]
    fn metadata_is_full_at_its_limit() {
        let mut done = completed(0, &[]);
        let mut offset = 2;
        while done.fits() {
            done.insert(Offset(offset), Offset(offset + 1));
            offset += 2;
        }
        assert!(done.metadata().len() > METADATA_BYTES_MAX, "full at {} bytes", done.metadata().len());
        done.insert(Offset(1), Offset(100));
        assert!(done.fits(), "joining fifty runs makes room: {} bytes", done.metadata().len());
    }
}
