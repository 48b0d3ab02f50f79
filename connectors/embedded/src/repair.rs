//! Cutting a torn end off the store's journal after a loss of power.
//!
//! What was never synced may reach the disk in part and in any order. fjall 3.1 drops an end that cannot be parsed, but
//! refuses to open where a batch parses and its checksum differs, as a large value with a hole in it does. What was
//! synced lies before every such batch, so cutting the newest journal there loses nothing that was acknowledged.
//! The format is that of fjall's `journal/entry.rs`.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
const TRAILER: &[u8] = b"FJL\x03";
/// Value type, compression, keyspace, and lengths of key, value and value on disk.
const ITEM_HEADER: usize = 1 + 1 + 8 + 2 + 4 + 4;

/// Cuts the newest journal behind its last whole batch. Gives the number of bytes cut off, 0 if nothing was wrong.
pub(crate) fn cut_torn_end(store: &Path) -> io::Result<u64> {
    let Some(path) = newest_journal(store)? else { return Ok(0) };
    let file = OpenOptions::new().read(true).write(true).open(&path)?;
    let length = file.metadata()?.len();
    let whole = whole_batches(&file)?;
    if whole == length {
        return Ok(0);
    }
    file.set_len(whole)?;
    file.sync_all()?;
    Ok(length - whole)
}

fn newest_journal(store: &Path) -> io::Result<Option<PathBuf>> {
    let mut newest = None;
    for entry in std::fs::read_dir(store)? {
        let path = entry?.path();
        let stem = path.file_stem().and_then(OsStr::to_str).and_then(|stem| stem.parse::<u64>().ok());
        if let Some(number) = stem.filter(|_| path.extension() == Some(OsStr::new("jnl"))) {
            newest = newest.max(Some((number, path)));
        }
    }
    Ok(newest.map(|(_, path)| path))
}

/// The length of the file's whole batches, from its start to the first that is not.
fn whole_batches(file: &File) -> io::Result<u64> {
    let mut input = Counted { input: BufReader::new(file), read: 0 };
    let mut whole = 0;
    loop {
        match batch(&mut input) {
            Ok(true) => whole = input.read,
            Ok(false) => return Ok(whole),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(whole),
            Err(error) => return Err(error),
        }
    }
}

struct Counted<R> {
    input: R,
    read: u64,
}

impl<R: Read> Counted<R> {
    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes)?;
        self.read += N as u64;
        Ok(bytes)
    }
}

/// Reads a batch; false if it is none.
fn batch(input: &mut Counted<impl Read>) -> io::Result<bool> {
    if input.array()? != [START] {
        return Ok(false);
    }
    let items = u32::from_le_bytes(input.array()?);
    input.array::<8>()?;
    let mut checksum = Xxh3::new();
    for _ in 0..items {
        if !item(input, &mut checksum)? {
            return Ok(false);
        }
    }
    let end = input.array()? == [END] && u64::from_le_bytes(input.array()?) == checksum.digest();
    Ok(end && input.array::<4>()? == TRAILER)
}

fn item(input: &mut Counted<impl Read>, checksum: &mut Xxh3) -> io::Result<bool> {
    let [tag] = input.array()?;
    checksum.update(&[tag]);
    match tag {
        CLEAR => checksum.update(&input.array::<8>()?),
        ITEM => {
            let header: [u8; ITEM_HEADER] = input.array()?;
            checksum.update(&header);
            let key = u64::from(u16::from_le_bytes([header[10], header[11]]));
            let value = u64::from(u32::from_le_bytes([header[16], header[17], header[18], header[19]]));
            let mut left = key + value;
            let mut bytes = [0; 4096];
            while left > 0 {
                let some = left.min(bytes.len() as u64);
                let some = &mut bytes[..usize::try_from(some).unwrap_or(0)];
                input.input.read_exact(some)?;
                checksum.update(some);
                input.read += some.len() as u64;
                left -= some.len() as u64;
            }
        }
        _ => return Ok(false),
    }
    Ok(true)
}
