//! Two small ordered collections: a map that costs nothing beside its entries, and a counted set.
//!
//! Windows are many and most of their collections hold one entry, for which a B-tree's node would be ten times too big.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// A map in one sorted vector; meant for few entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Keyed<K, V>(Vec<(K, V)>);

impl<K, V> Default for Keyed<K, V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<K: Ord, V: Default> Keyed<K, V> {
    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.0.binary_search_by(|(held, _)| held.cmp(key)).ok().map(|place| &self.0[place].1)
    }

    /// The value under the key, made first where there is none.
    pub(crate) fn at(&mut self, key: K) -> &mut V {
        let place = match self.0.binary_search_by(|(held, _)| held.cmp(&key)) {
            Ok(place) => place,
            Err(place) => {
                self.0.reserve_exact(usize::from(self.0.is_empty()));
                self.0.insert(place, (key, V::default()));
                place
            }
        };
        &mut self.0[place].1
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.0.iter().map(|(_, value)| value)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// A set that knows how often each member was put in, so that its greatest stays right when members leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Counted<K>(BTreeMap<K, u32>);

impl<K> Default for Counted<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord + Copy> Counted<K> {
    pub(crate) fn add(&mut self, member: K) {
        *self.0.entry(member).or_insert(0) += 1;
    }

    pub(crate) fn remove(&mut self, member: K) {
        if let Some(times) = self.0.get_mut(&member) {
            *times -= 1;
            if *times == 0 {
                self.0.remove(&member);
            }
        }
    }

    pub(crate) fn greatest(&self) -> Option<K> {
        self.0.last_key_value().map(|(member, _)| *member)
    }

    /// The distinct members, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = K> {
        self.0.keys().copied()
    }

    /// Number of distinct members.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// About how many bytes a B-tree of so many entries keeps: its nodes have 11 places, of which those of a tree that was
/// filled in order are little more than half in use.
pub(crate) fn tree_bytes(entries: usize, entry_bytes: usize) -> usize {
    entries.div_ceil(6) * 11 * entry_bytes
}
