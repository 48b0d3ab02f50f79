//! The engine's own entries in the store, and reading them when it is opened: topics' numbers, where partitions begin
//! and end, what groups have committed, and which conversations were erased.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hasher};

use hansard_core::id::{Offset, Timestamp};
use hansard_schemas::Topic;

use crate::batch::Batch;
use crate::error::{OpenError, StoreError};
use crate::group::Position;
use crate::keys::{self, Key, Parts};
use crate::partitions::{Extent, Slot};
use crate::store::{Disk, Space, Store};
use crate::topics::Topics;
use crate::writer::{Fence, Op};

const COUNT: u8 = b'c';
const TOPIC: u8 = b't';
const EXTENT: u8 = b'e';
const POSITION: u8 = b'p';

/// What is kept in memory of the store's content.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) extents: Vec<Extent>,
    pub(crate) offsets: HashMap<String, HashMap<Slot, Position>>,
    pub(crate) erased: HashSet<u64>,
}

/// Reads the topics' numbers, gives numbers to new topics, and checks the partition count against the recorded one.
pub(crate) fn topics(disk: &Disk, catalogue: &[Topic], asked: u32) -> Result<Topics, OpenError> {
    let dir = || disk.dir().to_owned();
    let unreadable = || OpenError::Unreadable { dir: dir(), what: "topics" };
    let read = disk.with(|store| {
        let meta = store.space(Space::Meta);
        let recorded = meta.get([COUNT])?.and_then(|value| Parts(&value).u32());
        let known: Result<Vec<_>, fjall::Error> =
            meta.prefix([TOPIC]).map(fjall::Guard::into_inner).collect();
        Ok((recorded, known?))
    });
    let (recorded, known) = read.map_err(|_| unreadable())?;
    if let Some(recorded) = recorded
        && recorded != asked
    {
        return Err(OpenError::Partitions { dir: dir(), recorded, asked });
    }
    let mut ids = HashMap::new();
    for (key, value) in known {
        let name = Parts(&key[1..]).name().ok_or_else(unreadable)?;
        ids.insert(name.to_owned(), Parts(&value).u32().ok_or_else(unreadable)?);
    }
    let mut ops = vec![Op::put(Space::Meta, vec![COUNT], asked.to_be_bytes().to_vec())];
    let mut next = ids.values().map(|id| id + 1).max().unwrap_or(0);
    let mut numbers = HashMap::new();
    for topic in catalogue {
        let name = topic.to_string();
        let key = Key::new().byte(TOPIC).name(&name).build();
        let id = *ids.entry(name).or_insert_with(|| {
            ops.push(Op::put(Space::Meta, key, next.to_be_bytes().to_vec()));
            next += 1;
            next - 1
        });
        numbers.insert(*topic, id);
    }
    let written = disk.with(|store| {
        let mut batch = store.batch(ops.len()).durability(Some(fjall::PersistMode::SyncAll));
        for op in ops {
            batch.insert(store.space(op.space), op.key, op.value.unwrap_or_default());
        }
        disk.commit(batch)
    });
    written.map_err(|error| {
        let cause = std::io::Error::other(error.to_string());
        OpenError::Directory { dir: dir(), cause }
    })?;
    Ok(Topics::new(numbers, asked))
}

/// Reads everything that is kept in memory.
pub(crate) fn load(store: &Store, topics: &Topics) -> Result<Loaded, StoreError> {
    let extents: Result<Vec<_>, _> = (0..topics.slots()).map(|slot| extent(store, Slot(slot))).collect();
    let mut offsets: HashMap<String, HashMap<Slot, Position>> = HashMap::new();
    for guard in store.space(Space::Meta).prefix([POSITION]) {
        let (key, value) = guard.into_inner()?;
        let (group, slot, position) = read_position(&key, &value)
            .ok_or_else(|| StoreError::corrupt("committed offset", "it ends early"))?;
        offsets.entry(group).or_default().insert(slot, position);
    }
    let markers = store.space(Space::Erased).iter().map(|guard| Ok(marker_hash(&guard.key()?)));
    let erased: Result<_, fjall::Error> = markers.collect();
    Ok(Loaded { extents: extents?, offsets, erased: erased? })
}

fn extent(store: &Store, slot: Slot) -> Result<Extent, StoreError> {
    let corrupt = || StoreError::corrupt("partition's extent", "it ends early");
    let mut extent = Extent::EMPTY;
    if let Some(value) = store.space(Space::Meta).get(extent_key(slot))? {
        let mut parts = Parts(&value);
        let mut number = || parts.i64().ok_or_else(corrupt);
        extent = Extent { begin: number()?, next: number()?, time: Timestamp(number()?) };
    }
    if let Some(guard) = store.space(Space::Log).prefix(Key::new().u32(slot.0).build()).next_back() {
        let (key, value) = guard.into_inner()?;
        let last = keys::last_offset(&key).ok_or_else(corrupt)?;
        let batch = Batch::read(last, value.into())?;
        extent.next = extent.next.max(last + 1);
        extent.time = extent.time.max(batch.time()?);
    }
    Ok(extent)
}

fn extent_key(slot: Slot) -> Vec<u8> {
    Key::new().byte(EXTENT).u32(slot.0).build()
}

/// Records where a partition begins; with its end and time, since all its records may be gone.
pub(crate) fn extent_op(slot: Slot, extent: Extent) -> Op {
    let value = Key::new().i64(extent.begin).i64(extent.next).i64(extent.time.0).build();
    Op::put(Space::Meta, extent_key(slot), value)
}

/// Records a group's position.
pub(crate) fn position_op(group: &str, slot: Slot, (offset, metadata): &Position) -> Op {
    let key = Key::new().byte(POSITION).name(group).u32(slot.0).build();
    Op::put(Space::Meta, key, Key::new().i64(offset.0).bytes(metadata.as_bytes()).build())
}

fn read_position(key: &[u8], value: &[u8]) -> Option<(String, Slot, Position)> {
    let mut key = Parts(key.get(1..)?);
    let group = key.name()?.to_owned();
    let slot = Slot(key.u32()?);
    let mut value = Parts(value);
    let offset = Offset(value.i64()?);
    Some((group, slot, (offset, String::from_utf8(value.0.to_vec()).ok()?)))
}

/// The key of an erased conversation's marker.
pub(crate) fn marker(fence: Fence, conversation: &[u8]) -> Vec<u8> {
    let kind = match fence {
        Fence::Open | Fence::Facts => b'f',
        Fence::Journal => b'j',
    };
    Key::new().byte(kind).bytes(conversation).build()
}

/// What is kept in memory of a marker.
pub(crate) fn marker_hash(key: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(key);
    hasher.finish()
}
