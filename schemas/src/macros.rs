//! Declares structs together with their encoding, field by field in the order of the schema, so that the two
//! cannot drift apart.

/// A struct that stands within records.
macro_rules! part {
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[$field_meta:meta])* pub $field:ident: $type:ty,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
        pub struct $name { $($(#[$field_meta])* pub $field: $type,)+ }

        impl $crate::codec::Datum for $name {
            const LEAST: usize = 0 $(+ <$type as $crate::codec::Datum>::LEAST)+;

            fn write(&self, out: &mut Vec<u8>) {
                $($crate::codec::Datum::write(&self.$field, out);)+
            }

            fn read(input: &mut $crate::codec::Input<'_>) -> Result<Self, $crate::codec::DatumError> {
                // Fields of a struct expression are evaluated in the order in which they are written.
                Ok(Self { $($field: $crate::codec::Datum::read(input)?,)+ })
            }

            fn check(input: &mut $crate::codec::Input<'_>) -> Result<(), $crate::codec::DatumError> {
                $(<$type as $crate::codec::Datum>::check(input)?;)+
                Ok(())
            }

            #[cfg(test)]
            fn canonical() -> String {
                let fields = [$(format!(
                    r#"{{"name":"{}","type":{}}}"#,
                    stringify!($field),
                    <$type as $crate::codec::Datum>::canonical()
                ),)+];
                format!(
                    r#"{{"name":"hansard.{}","type":"record","fields":[{}]}}"#,
                    stringify!($name),
                    fields.join(",")
                )
            }
        }
    };
}

/// A record: a struct that opens with the fields that all records have.
macro_rules! record {
    ($(#[$meta:meta])* pub struct $name:ident { $($fields:tt)+ }) => {
        $crate::macros::part! {
            $(#[$meta])*
            pub struct $name {
                /// The conversation that this is about, `[A-Za-z0-9._-]{1,128}`; equals the key of the Kafka
                /// record.
                pub conversation_id: String,
                /// The same for every repetition of one event, so that consumers outside can drop repetitions;
                /// lower-case hex SHA-256 where Hansard writes it.
                pub event_id: String,
                /// When it happened by the clock of its writer, milliseconds since 1970 UTC; informative, no
                /// decision uses it.
                pub occurred_at: i64,
                /// Who wrote it: job and instance, or the name that a producer gives itself.
                pub source: String,
                /// Free-form additions of the writer, carried along and never interpreted.
                pub attributes: std::collections::BTreeMap<String, String>,
                $($fields)+
            }
        }
    };
}

pub(crate) use {part, record};
