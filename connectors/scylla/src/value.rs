//! How a value stands in a column: borrowed on the way in, so that nothing is copied before it is sent, and read from
//! the driver's dynamic value on the way out.

use std::collections::BTreeMap;

use scylla::cluster::metadata::{CollectionType, ColumnType};
use scylla::serialize::SerializationError;
use scylla::serialize::value::SerializeValue;
use scylla::serialize::writers::{CellWriter, WrittenCellProof};
use scylla::value::{CqlTimestamp, CqlValue};

/// A value to be written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value<'a> {
    /// Nothing is written: a null would be a tombstone.
    Unset,
    Text(&'a str),
    /// A text that stood in another encoding.
    Owned(String),
    Blob(&'a [u8]),
    Int(i32),
    BigInt(i64),
    /// Milliseconds since the Unix epoch, which cqlsh shows as a date.
    Time(i64),
    Boolean(bool),
    Float(f32),
    List(Vec<Value<'a>>),
    Map(Vec<(&'a str, Value<'a>)>),
    /// A user-defined type, by its fields' names.
    Part(Vec<(&'static str, Value<'a>)>),
}

impl Value<'_> {
    /// About how many bytes it takes.
    pub(crate) fn weight(&self) -> usize {
        let inner = match self {
            Self::Text(text) => text.len(),
            Self::Owned(text) => text.len(),
            Self::Blob(bytes) => bytes.len(),
            Self::List(items) => items.iter().map(Self::weight).sum(),
            Self::Map(entries) => entries.iter().map(|(key, value)| key.len() + value.weight()).sum(),
            Self::Part(fields) => fields.iter().map(|(_, value)| value.weight()).sum(),
            _ => 8,
        };
        inner + 4
    }
}

/// The column has another type than the one that was prepared for.
#[derive(Debug, thiserror::Error)]
#[error("a value does not fit the column's type {0}; run `hansard store migrate`")]
struct Misfit(String);

impl SerializeValue for Value<'_> {
    fn serialize<'b>(
        &self,
        column: &ColumnType<'_>,
        writer: CellWriter<'b>,
    ) -> Result<WrittenCellProof<'b>, SerializationError> {
        match self {
            Self::Unset => Ok(writer.set_unset()),
            Self::Text(text) => text.serialize(column, writer),
            Self::Owned(text) => text.serialize(column, writer),
            Self::Blob(bytes) => bytes.serialize(column, writer),
            Self::Int(number) => number.serialize(column, writer),
            Self::BigInt(number) => number.serialize(column, writer),
            Self::Time(millis) => CqlTimestamp(*millis).serialize(column, writer),
            Self::Boolean(truth) => truth.serialize(column, writer),
            Self::Float(number) => number.serialize(column, writer),
            Self::List(_) | Self::Map(_) | Self::Part(_) => self.serialize_nested(column, writer),
        }
    }
}

impl Value<'_> {
    fn serialize_nested<'b>(
        &self,
        column: &ColumnType<'_>,
        writer: CellWriter<'b>,
    ) -> Result<WrittenCellProof<'b>, SerializationError> {
        let mut builder = writer.into_value_builder();
        let count = |len: usize| i32::try_from(len).map(i32::to_be_bytes).map_err(SerializationError::new);
        match (self, column) {
            (Self::List(items), ColumnType::Collection { typ: CollectionType::List(of), .. }) => {
                builder.append_bytes(&count(items.len())?);
                for item in items {
                    item.serialize(of, builder.make_sub_writer())?;
                }
            }
            (Self::Map(entries), ColumnType::Collection { typ: CollectionType::Map(key, of), .. }) => {
                builder.append_bytes(&count(entries.len())?);
                for (name, value) in entries {
                    name.serialize(key, builder.make_sub_writer())?;
                    value.serialize(of, builder.make_sub_writer())?;
                }
            }
            (Self::Part(fields), ColumnType::UserDefinedType { definition, .. }) => {
                for (name, of) in &definition.field_types {
                    let writer = builder.make_sub_writer();
                    match fields.iter().find(|(field, _)| field == name) {
                        None | Some((_, Self::Unset)) => writer.set_null(),
                        Some((_, value)) => value.serialize(of, writer)?,
                    };
                }
            }
            _ => return Err(SerializationError::new(Misfit(format!("{column:?}")))),
        }
        builder.finish().map_err(SerializationError::new)
    }
}

/// A Rust type that stands in a column.
pub(crate) trait Column: Sized {
    /// The column's type in CQL.
    fn cql_type() -> String;
    /// The value to be written.
    fn value(&self) -> Value<'_>;
    /// The value as read; `None` when it has another type. What was not written reads as the default, which is also
    /// what a column reads as that an older version did not have.
    fn read(value: Option<CqlValue>) -> Option<Self>;
}

macro_rules! plain {
    ($($type:ty, $cql:literal, $variant:ident, |$own:ident| $value:expr;)+) => {$(
        impl Column for $type {
            fn cql_type() -> String {
                $cql.to_owned()
            }
            fn value(&self) -> Value<'_> {
                let $own = self;
                $value
            }
            fn read(value: Option<CqlValue>) -> Option<Self> {
                match value {
                    None => Some(Self::default()),
                    Some(CqlValue::$variant(value)) => Some(value),
                    Some(_) => None,
                }
            }
        }
    )+};
}

plain! {
    String, "text", Text, |own| Value::Text(own);
    Vec<u8>, "blob", Blob, |own| Value::Blob(own);
    i32, "int", Int, |own| Value::Int(*own);
    bool, "boolean", Boolean, |own| Value::Boolean(*own);
    f32, "float", Float, |own| Value::Float(*own);
}

impl Column for i64 {
    fn cql_type() -> String {
        "bigint".to_owned()
    }
    fn value(&self) -> Value<'_> {
        Value::BigInt(*self)
    }
    fn read(value: Option<CqlValue>) -> Option<Self> {
        match value {
            None => Some(0),
            Some(CqlValue::BigInt(number) | CqlValue::Timestamp(CqlTimestamp(number))) => Some(number),
            Some(_) => None,
        }
    }
}

impl<T: Column> Column for Option<T> {
    fn cql_type() -> String {
        T::cql_type()
    }
    fn value(&self) -> Value<'_> {
        self.as_ref().map_or(Value::Unset, T::value)
    }
    fn read(value: Option<CqlValue>) -> Option<Self> {
        match value {
            None => Some(None),
            some => T::read(some).map(Some),
        }
    }
}

impl<T: Column> Column for Vec<T> {
    fn cql_type() -> String {
        format!("frozen<list<{}>>", T::cql_type())
    }
    fn value(&self) -> Value<'_> {
        if self.is_empty() { Value::Unset } else { Value::List(self.iter().map(T::value).collect()) }
    }
    fn read(value: Option<CqlValue>) -> Option<Self> {
        match value {
            None => Some(Self::new()),
            Some(CqlValue::List(items)) => items.into_iter().map(|item| T::read(Some(item))).collect(),
            Some(_) => None,
        }
    }
}

impl<T: Column> Column for BTreeMap<String, T> {
    fn cql_type() -> String {
        format!("frozen<map<text, {}>>", T::cql_type())
    }
    fn value(&self) -> Value<'_> {
        if self.is_empty() {
            return Value::Unset;
        }
        Value::Map(self.iter().map(|(key, value)| (key.as_str(), value.value())).collect())
    }
    fn read(value: Option<CqlValue>) -> Option<Self> {
        let entry = |(key, value)| Some((String::read(Some(key))?, T::read(Some(value))?));
        match value {
            None => Some(Self::new()),
            Some(CqlValue::Map(entries)) => entries.into_iter().map(entry).collect(),
            Some(_) => None,
        }
    }
}

/// Times are `timestamp` in the database, so that people can read them. Their names end in `_at` throughout.
pub(crate) fn named<'a>(name: &str, value: Value<'a>) -> Value<'a> {
    match value {
        Value::BigInt(millis) if name.ends_with("_at") => Value::Time(millis),
        value => value,
    }
}

/// The type of a column of this name; see [`named`].
pub(crate) fn typed(name: &str, cql_type: String) -> String {
    if name.ends_with("_at") && cql_type == "bigint" { "timestamp".to_owned() } else { cql_type }
}

/// A row as read, by its columns' names.
pub(crate) struct Columns<'a> {
    names: &'a [String],
    values: Vec<Option<CqlValue>>,
}

/// A column of a row cannot be read as what it was written as.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column {0} has a value of another type")]
pub(crate) struct Unreadable(pub(crate) String);

impl<'a> Columns<'a> {
    pub(crate) fn new(names: &'a [String], values: Vec<Option<CqlValue>>) -> Self {
        Self { names, values }
    }

    /// Takes a column out; one that was not asked for is empty.
    pub(crate) fn take<T: Column>(&mut self, name: &str) -> Result<T, Unreadable> {
        let index = self.names.iter().position(|known| known == name);
        let value = index.and_then(|index| self.values.get_mut(index)).and_then(Option::take);
        T::read(value).ok_or_else(|| Unreadable(name.to_owned()))
    }
}
