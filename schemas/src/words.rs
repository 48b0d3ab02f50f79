//! The words of a transcript, which stay in their encoding until somebody reads them: most of those who hand a transcript
//! on never do, and twenty words cost more than everything else of a record.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::codec::{Datum, DatumError, Input, write_len};
use crate::records::Word;

/// Words as Avro encodes them, one behind the other; checked when they are read from the wire.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Words {
    count: usize,
    items: Vec<u8>,
}

impl Words {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Removes them all, and keeps the room that they took.
    pub fn clear(&mut self) {
        self.count = 0;
        self.items.clear();
    }

    /// The words, each made anew.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Word> + '_ {
        let mut input = Input::new(&self.items);
        (0..self.count).map(move |_| {
            Word::read(&mut input).expect("words were encoded here, or checked when they were read")
        })
    }
}

impl FromIterator<Word> for Words {
    fn from_iter<I: IntoIterator<Item = Word>>(words: I) -> Self {
        let mut packed = Self::default();
        for word in words {
            word.write(&mut packed.items);
            packed.count += 1;
        }
        packed
    }
}

impl fmt::Debug for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl Serialize for Words {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl Datum for Words {
    const LEAST: usize = 1;

    fn write(&self, out: &mut Vec<u8>) {
        if self.count > 0 {
            write_len(self.count, out);
            out.extend_from_slice(&self.items);
        }
        write_len(0, out);
    }

    fn read(input: &mut Input<'_>) -> Result<Self, DatumError> {
        let mut packed = Self::default();
        while let count @ 1.. = input.block(Word::LEAST)? {
            let items = input.passed(|input| (0..count).try_for_each(|_| Word::check(input)))?;
            packed.items.extend_from_slice(items);
            packed.count += count;
        }
        Ok(packed)
    }

    #[cfg(test)]
    fn canonical() -> String {
        Vec::<Word>::canonical()
    }
}
