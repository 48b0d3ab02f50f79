//! Avro's binary encoding, written and read straight from and to our structs: the generic values of an
//! Avro library cost more than all that the aggregator may spend on a record.
//! Source: <https://avro.apache.org/docs/1.12.0/specification/#binary-encoding>.

use std::collections::BTreeMap;

/// Why bytes are no datum of the schema that they claim to be. `at` is the offset in bytes from the start of the datum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DatumError {
    /// The bytes end within a value.
    #[error("datum ends at byte {at} within a value")]
    Truncated {
        /// Where the bytes end.
        at: usize,
    },
    /// A number takes more bits than its type has.
    #[error("number at byte {at} is out of range")]
    Number {
        /// Where the number starts.
        at: usize,
    },
    /// A length or count is negative, or greater than what the remaining bytes can hold.
    #[error("length {declared} before byte {at} does not fit the {left} bytes left")]
    Length {
        /// Where the counted value would start.
        at: usize,
        /// Declared length in bytes or count of items.
        declared: i64,
        /// Bytes left.
        left: usize,
    },
    /// A string is not UTF-8.
    #[error("string at byte {at} is not utf-8")]
    Utf8 {
        /// Where the string starts.
        at: usize,
    },
    /// A boolean is neither 0 nor 1.
    #[error("boolean at byte {at} is neither 0 nor 1")]
    Boolean {
        /// Where the boolean stands.
        at: usize,
    },
    /// A nullable value has another branch than null and value.
    #[error("union before byte {at} has no branch {branch}")]
    Branch {
        /// Where the value would start.
        at: usize,
        /// Declared branch.
        branch: i64,
    },
    /// Bytes follow the datum.
    #[error("{left} bytes follow the datum, which ends at byte {at}")]
    Trailing {
        /// Where the datum ends.
        at: usize,
        /// Bytes that follow.
        left: usize,
    },
}

/// The bytes of a datum that are still to be read.
#[derive(Debug)]
pub(crate) struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Input<'a> {
    /// Starts at the first byte of a datum.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    fn byte(&mut self) -> Result<u8, DatumError> {
        let byte = *self.bytes.get(self.at).ok_or(DatumError::Truncated { at: self.bytes.len() })?;
        self.at += 1;
        Ok(byte)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], DatumError> {
        let rest = &self.bytes[self.at..];
        let taken = rest.get(..count).ok_or(DatumError::Truncated { at: self.bytes.len() })?;
        self.at += count;
        Ok(taken)
    }

    /// A zigzag number of at most 64 bits. Most take one byte, and are read without a call.
    #[inline]
    fn long(&mut self) -> Result<i64, DatumError> {
        match self.bytes.get(self.at) {
            Some(byte @ ..0x80) => {
                self.at += 1;
                Ok(i64::from(byte >> 1) ^ -i64::from(byte & 1))
            }
            _ => self.longer(),
        }
    }

    #[inline(never)]
    fn longer(&mut self) -> Result<i64, DatumError> {
        let at = self.at;
        let (mut raw, mut shift) = (0_u64, 0);
        loop {
            let byte = self.byte()?;
            // The tenth byte has room for one bit.
            if shift == 63 && byte > 1 {
                return Err(DatumError::Number { at });
            }
            raw |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Ok((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed());
            }
            shift += 7;
        }
    }

    /// A declared number of items that take at least `least` bytes each.
    fn count(&self, declared: i64, least: usize) -> Result<usize, DatumError> {
        let left = self.left();
        usize::try_from(declared)
            .ok()
            .filter(|count| count.checked_mul(least).is_some_and(|bytes| bytes <= left))
            .ok_or(DatumError::Length { at: self.at, declared, left })
    }

    fn counted(&mut self) -> Result<&'a [u8], DatumError> {
        let declared = self.long()?;
        let count = self.count(declared, 1)?;
        self.take(count)
    }

    fn text(&mut self) -> Result<&'a str, DatumError> {
        let bytes = self.counted()?;
        std::str::from_utf8(bytes).map_err(|_| DatumError::Utf8 { at: self.at - bytes.len() })
    }

    /// The number of items in the next block of an array or map, each of at least `least` bytes; 0 ends it.
    pub(crate) fn block(&mut self, least: usize) -> Result<usize, DatumError> {
        let mut declared = self.long()?;
        if declared < 0 {
            // The block's size in bytes lets a reader skip it; we read it, and so need none.
            let size = self.long()?;
            self.count(size, 1)?;
            declared = declared.checked_neg().ok_or(DatumError::Length {
                at: self.at,
                declared,
                left: self.left(),
            })?;
        }
        self.count(declared, least)
    }

    /// Reads on, and gives the bytes that were read.
    pub(crate) fn passed(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<(), DatumError>,
    ) -> Result<&'a [u8], DatumError> {
        let start = self.at;
        read(self)?;
        Ok(&self.bytes[start..self.at])
    }

    /// Ends the reading: nothing may be left.
    ///
    /// # Errors
    /// [`DatumError::Trailing`] if bytes are left.
    pub(crate) fn end(self) -> Result<(), DatumError> {
        match self.left() {
            0 => Ok(()),
            left => Err(DatumError::Trailing { at: self.at, left }),
        }
    }
}

/// A value with its binary encoding in Avro.
pub(crate) trait Datum: Sized {
    /// The fewest bytes that any value takes; it bounds what a declared count can make us allocate.
    const LEAST: usize;

    /// Appends the encoding of this value.
    fn write(&self, out: &mut Vec<u8>);

    /// Reads a value, and leaves the input behind it.
    ///
    /// # Errors
    /// [`DatumError`] for bytes that no writer of this type would have written.
    fn read(input: &mut Input<'_>) -> Result<Self, DatumError>;

    /// Passes over a value that [`Self::read`] would take, and makes nothing of it.
    ///
    /// # Errors
    /// As of [`Self::read`].
    fn check(input: &mut Input<'_>) -> Result<(), DatumError> {
        Self::read(input).map(drop)
    }

    /// The type in Avro's parsing canonical form, from which a test proves that struct and schema agree.
    #[cfg(test)]
    fn canonical() -> String;
}

/// Reads a datum that takes all of `bytes`.
///
/// # Errors
/// [`DatumError`] for bytes that no writer of this type would have written.
pub(crate) fn read_datum<T: Datum>(bytes: &[u8]) -> Result<T, DatumError> {
    let mut input = Input::new(bytes);
    let value = T::read(&mut input)?;
    input.end()?;
    Ok(value)
}

impl Datum for i64 {
    const LEAST: usize = 1;

    fn write(&self, out: &mut Vec<u8>) {
        write_long(*self, out);
    }

    fn read(input: &mut Input<'_>) -> Result<Self, DatumError> {
        input.long()
    }

    #[cfg(test)]
    fn canonical() -> String {
        r#""long""#.into()
    }
}

impl Datum for i32 {
    const LEAST: usize = 1;

    fn write(&self, out: &mut Vec<u8>) {
        write_long(i64::from(*self), out);
    }

    fn read(input: &mut Input<'_>) -> Result<Self, DatumError> {
        let at = input.at;
        Self::try_from(input.long()?).map_err(|_| DatumError::Number { at })
    }

    #[cfg(test)]
    fn canonical() -> String {
        r#""int""#.into()
    }
}

impl Datum for bool {
    const LEAST: usize = 1;

    fn write(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }

    fn read(input: &mut Input<'_>) -> Result<Self, DatumError> {
        match input.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DatumError::Boolean { at: input.at - 1 }),
        }
    }

    #[cfg(test)]
    fn canonical() -> String {
        r#""boolean""#.into()
    }
}

impl Datum for f32 {
    const LEAST: usize = 4;

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_le_bytes());
    }

    fn read(input: &mut Input<'_>) -> Result<Self, DatumError> {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(input.take(4)?);
        Ok(Self::from_le_bytes(bytes))
    }

    #[cfg(test)]
    fn canonical() -> String {
        r#""float""#.into()
    }
}

/// Appends a zigzag number.
pub(crate) fn write_long(value: i64, out: &mut Vec<u8>) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while rest >= 0x80 {
        out.push((rest & 0x7F) as u8 | 0x80);
        rest >>= 7;
    }
    out.push((rest & 0x7F) as u8);
}

/// Appends a length or count. No allocation is larger than `isize::MAX` bytes, so it always fits.
pub(crate) fn write_len(len: usize, out: &mut Vec<u8>) {
    write_long(len as i64, out);
}

/// Appends bytes behind their length.
pub(crate) fn write_counted(bytes: &[u8], out: &mut Vec<u8>) {
    write_len(bytes.len(), out);
    out.extend_from_slice(bytes);
}

impl Datum for String {
    const LEAST: usize = 1;

    fn write(&self, out: &mut Vec<u8>) {
        write_counted(self.as_bytes(), out);
    }

    fn read(input: &mut Input<'_>) -> Result<Self, DatumError> {
        input.text().map(Self::from)
    }

    fn check(input: &mut Input<'_>) -> Result<(), DatumError> {
        input.text().map(drop)
    }

    #[cfg(test)]
    fn canonical() -> String {
        r#""string""#.into()
    }
}

impl Datum for Vec<u8> {
    const LEAST: usize = 1;

    fn write(&self, out: &mut Vec<u8>) {
        write_counted(self, out);
    }

    fn read(input: &mut Input<'_>) -> Result<Self, DatumError> {
        input.counted().map(<[u8]>::to_vec)
    }

    #[cfg(test)]
    fn canonical() -> String {
        r#""bytes""#.into()
    }
}

/// A nullable value: null is the first branch, so that it can be the default.
impl<T: Datum> Datum for Option<T> {
    const LEAST: usize = 1;

    fn write(&self, out: &mut Vec<u8>) {
        write_long(i64::from(self.is_some()), out);
        if let Some(value) = self {
            value.write(out);
        }
    }

    fn read(input: &mut Input<'_>) -> Result<Self, DatumError> {
        match input.long()? {
            0 => Ok(None),
            1 => T::read(input).map(Some),
            branch => Err(DatumError::Branch { at: input.at, branch }),
        }
    }

    fn check(input: &mut Input<'_>) -> Result<(), DatumError> {
        match input.long()? {
            0 => Ok(()),
            1 => T::check(input),
            branch => Err(DatumError::Branch { at: input.at, branch }),
        }
    }

    #[cfg(test)]
    fn canonical() -> String {
        format!(r#"["null",{}]"#, T::canonical())
    }
}

impl<T: Datum> Datum for Vec<T> {
    const LEAST: usize = 1;

    fn write(&self, out: &mut Vec<u8>) {
        if !self.is_empty() {
            write_len(self.len(), out);
            self.iter().for_each(|item| item.write(out));
        }
        write_len(0, out);
    }

    fn read(input: &mut Input<'_>) -> Result<Self, DatumError> {
        let mut items = Self::new();
        loop {
            let count = input.block(T::LEAST)?;
            if count == 0 {
                return Ok(items);
            }
            items.reserve(count);
            for _ in 0..count {
                items.push(T::read(input)?);
            }
        }
    }

    #[cfg(test)]
    fn canonical() -> String {
        format!(r#"{{"type":"array","items":{}}}"#, T::canonical())
    }
}

/// A map is written in the order of its keys, so that equal maps have equal bytes; of a repeated key the last stands.
impl<T: Datum> Datum for BTreeMap<String, T> {
    const LEAST: usize = 1;

    fn write(&self, out: &mut Vec<u8>) {
        if !self.is_empty() {
            write_len(self.len(), out);
            for (key, value) in self {
                key.write(out);
                value.write(out);
            }
        }
        write_len(0, out);
    }

    fn read(input: &mut Input<'_>) -> Result<Self, DatumError> {
        let mut map = Self::new();
        loop {
            let count = input.block(1 + T::LEAST)?;
            if count == 0 {
                return Ok(map);
            }
            for _ in 0..count {
                map.insert(String::read(input)?, T::read(input)?);
            }
        }
    }

    #[cfg(test)]
    fn canonical() -> String {
        format!(r#"{{"type":"map","values":{}}}"#, T::canonical())
    }
}
