//! All records as one type, and what they have in common. Each struct's fields are those of its schema in
//! `schemas/avro/`, in the same order and under the same names.

mod failure;
mod finalize;
mod results;
mod shared;
mod split;
mod status;
mod transcript;
mod uploads;

use std::fmt;

pub use failure::{Failure, Origin};
pub use finalize::{Finalize, FinalizeChunk, Gap};
pub use results::{Merge, MergeInput, Summary};
pub use shared::{Counts, Object, Options};
pub use split::{Segment, Split, SplitSegment};
pub use status::{Conversation, Delivery};
pub use transcript::{Callback, Redaction, Transcript, Word};
pub use uploads::{Erase, Finish, Open, Rerun, Upload};

use crate::codec::{Datum, DatumError, read_datum};

/// What can be encoded: each record, and [`Record`], which is any of them.
pub trait Encode {
    /// Which record this is.
    fn record_name(&self) -> RecordName;

    /// Appends the bare Avro datum, without anything that names its schema.
    fn write_datum(&self, out: &mut Vec<u8>);
}

macro_rules! records {
    ($($name:ident),+) => {
        /// Any record that stands in a topic. As JSON it carries its name in `record`.
        #[derive(Debug, Clone, PartialEq, serde::Serialize)]
        #[serde(tag = "record")]
        #[expect(missing_docs, reason = "each variant holds the struct of its name, which is documented there")]
        pub enum Record { $($name($name),)+ }

        /// The name of a record, as in its schema without the namespace `hansard`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[expect(missing_docs, reason = "each variant names the struct of its name, which is documented there")]
        pub enum RecordName { $($name,)+ }

        impl RecordName {
            /// All records, in the order in which a conversation meets them.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The name, for example `Upload`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)+ }
            }

            /// The current schema as JSON, as it stands in `schemas/avro/`.
            pub const fn schema(self) -> &'static str {
                match self { $(Self::$name => include_str!(concat!("../../avro/", stringify!($name), ".avsc")),)+ }
            }

            /// Reads a bare datum that was written under the current schema.
            pub(crate) fn read_datum(self, datum: &[u8]) -> Result<Record, DatumError> {
                match self { $(Self::$name => read_datum(datum).map(Record::$name),)+ }
            }

            #[cfg(test)]
            pub(crate) fn canonical(self) -> String {
                match self { $(Self::$name => $name::canonical(),)+ }
            }
        }

        impl Record {
            /// Which record this is.
            pub fn name(&self) -> RecordName {
                match self { $(Self::$name(_) => RecordName::$name,)+ }
            }

            /// The conversation that this is about, and so the key that the Kafka record must have.
            pub fn conversation_id(&self) -> &str {
                match self { $(Self::$name(record) => &record.conversation_id,)+ }
            }

            /// The same for every repetition of one event.
            pub fn event_id(&self) -> &str {
                match self { $(Self::$name(record) => &record.event_id,)+ }
            }

            /// When it happened by its writer's clock, milliseconds since 1970 UTC.
            pub fn occurred_at(&self) -> i64 {
                match self { $(Self::$name(record) => record.occurred_at,)+ }
            }

            /// Who wrote it.
            pub fn source(&self) -> &str {
                match self { $(Self::$name(record) => &record.source,)+ }
            }

            /// Free-form additions of the writer.
            pub fn attributes(&self) -> &std::collections::BTreeMap<String, String> {
                match self { $(Self::$name(record) => &record.attributes,)+ }
            }

            /// Sets who writes it and when (milliseconds since 1970 UTC), which its writer knows last.
            pub fn stamp(&mut self, source: &str, occurred_at: i64) {
                match self { $(Self::$name(record) => {
                    record.source = source.to_owned();
                    record.occurred_at = occurred_at;
                })+ }
            }

            /// Sets the identity of the event.
            pub fn set_event_id(&mut self, event_id: String) {
                match self { $(Self::$name(record) => record.event_id = event_id,)+ }
            }
        }

        impl Encode for Record {
            fn record_name(&self) -> RecordName {
                self.name()
            }

            fn write_datum(&self, out: &mut Vec<u8>) {
                match self { $(Self::$name(record) => record.write(out),)+ }
            }
        }

        $(
            impl Encode for $name {
                fn record_name(&self) -> RecordName {
                    RecordName::$name
                }

                fn write_datum(&self, out: &mut Vec<u8>) {
                    self.write(out);
                }
            }

            impl From<$name> for Record {
                fn from(record: $name) -> Self {
                    Self::$name(record)
                }
            }
        )+
    };
}

records!(
    Open,
    Upload,
    Finish,
    Rerun,
    Erase,
    Split,
    Segment,
    Callback,
    Transcript,
    Failure,
    Finalize,
    Merge,
    Summary,
    Conversation,
    Delivery
);

impl RecordName {
    /// The record of this name, if there is one.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|record| record.as_str() == name)
    }
}

impl fmt::Display for RecordName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
