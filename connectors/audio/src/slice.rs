//! A recorder's slice without its own header, read as one source with the header of the slice that has it. Runs in the
//! child only.
//!
//! `MediaRecorder.start(timeslice)` gives blobs that are a file only together: the first begins with the header (EBML,
//! segment and tracks of WebM; `ftyp` and `moov` of MP4; the pages of Ogg up to the tags of Opus), the others go on where the
//! one before ended. In WebM that may be within a cluster whose head was in an earlier slice, so a head of a cluster without
//! size is put between. Chromium asks its clock whenever the writer of WebM hands over bytes, and that is element by element
//! and byte by byte in their heads: when time is up it still takes what it was just given. So all but the first slice lack
//! the first byte of their first element, which is the last byte of the slice before. It is known which byte it was, since an
//! audio recorder writes only blocks and clusters, and is put back; so no packet is lost, and none is there twice. Slices of
//! MP4 begin with `moof`, those of Ogg, which Firefox makes, with a page.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::error::AudioError;
use crate::ogg::OGG;
use crate::outline::{ogg_header, variable};
use crate::source::Part;

/// Bytes at a slice's start that are looked at to find where an element begins; twenty times the longest audio packet.
const START_BYTES_MAX: u64 = 1 << 20;

/// Elements that have to follow each other for a place in a torn slice to be believed in.
const ELEMENTS_IN_A_ROW: u32 = 3;

/// The first bytes of Matroska and WebM: the id of the element EBML.
const EBML: &[u8] = b"\x1a\x45\xdf\xa3";

const SEGMENT: u64 = 0x1853_8067;
const INFO: u64 = 0x1549_a966;
const TRACKS: u64 = 0x1654_ae6b;
const CLUSTER: u64 = 0x1f43_b675;
const SIMPLE_BLOCK: u64 = 0xa3;
const TIME: u64 = 0xe7;

/// What else a recorder writes within a segment or a cluster: group of blocks, time, position and previous size of a
/// cluster, void, check sum, cues, tags.
const OTHERS: [u64; 8] = [0xa0, TIME, 0xa7, 0xab, 0xec, 0xbf, 0x1c53_bb6b, 0x1254_c367];

/// Head of a segment without size.
const SEGMENT_HEAD: &[u8] = b"\x18\x53\x80\x67\x01\xff\xff\xff\xff\xff\xff\xff";

/// Head of a cluster without size, with the time 0, which decides nothing here.
const CLUSTER_HEAD: &[u8] = b"\x1f\x43\xb6\x75\x01\xff\xff\xff\xff\xff\xff\xff\xe7\x81\x00";

/// The first bytes that a slice of a browser lacks: none, that of a block, that of a cluster.
const MISSING: [&[u8]; 3] = [b"", b"\xa3", b"\x1f"];

/// Where a recording's bytes come from: a file, and what is to be read before it.
#[derive(Debug, Clone)]
pub(crate) struct Recording {
    path: PathBuf,
    before: Vec<u8>,
    /// Bytes at the file's start that are passed over, since they belong to an element that cannot be completed.
    skip: u64,
    continues: bool,
}

impl Recording {
    /// A file that stands for itself.
    pub(crate) fn whole(path: &Path) -> Self {
        Self { path: path.to_owned(), before: Vec::new(), skip: 0, continues: false }
    }

    /// The slice at `path` behind the header with which the file at `header` begins, within so many bytes. A slice that
    /// brings a header of its own is read for itself. `no_header` where there is none.
    pub(crate) fn slice(path: &Path, header: &Path, header_bytes_max: u64) -> Result<Self, AudioError> {
        let start = beginning(path, START_BYTES_MAX)?;
        if start.is_empty() {
            return Err(AudioError::Empty);
        }
        if start.starts_with(EBML) || is_mp4(&start) || ogg_header(&start).is_some() {
            return Ok(Self::whole(path));
        }
        let header = beginning(header, header_bytes_max)?;
        let no_header = |detail: &str| AudioError::NoHeader { detail: detail.to_owned() };
        let (before, skip, continues) = if header.starts_with(EBML) {
            let (init, _) =
                matroska_header(&header).ok_or_else(|| no_header("its WebM header is not whole"))?;
            let (between, skip) = join_cluster(&start);
            ([init, between].concat(), skip, true)
        } else if is_mp4(&header) {
            let init =
                mp4_header(&header).ok_or_else(|| no_header("its MP4 is not fragmented or not whole"))?;
            (init, 0, !begins_at_zero(&start))
        } else if header.starts_with(OGG) {
            let init =
                ogg_header(&header).ok_or_else(|| no_header("its Ogg header is not whole or not Opus"))?;
            let page = start.windows(OGG.len()).position(|bytes| bytes == OGG);
            (init.to_vec(), page.unwrap_or(0) as u64, true)
        } else {
            return Err(no_header("the first slice is none of WebM, MP4 and Ogg"));
        };
        Ok(Self { path: path.to_owned(), before, skip, continues })
    }

    /// Whether it goes on where another ended, so that no encoder's delay is at its start.
    pub(crate) fn continues(&self) -> bool {
        self.continues
    }

    /// Whether bytes at its start are lost.
    pub(crate) fn is_torn(&self) -> bool {
        self.skip > 0
    }

    /// Whether it is no more than a header of MP4 or WebM, as a browser's first slice is when time is up before the first
    /// sound: nothing is missing in it.
    pub(crate) fn is_bare_header(&self, header_bytes_max: u64) -> Result<bool, AudioError> {
        if self.continues {
            return Ok(false);
        }
        // One byte more tells a file that is longer.
        let bytes = beginning(&self.path, header_bytes_max.saturating_add(1))?;
        if bytes.len() as u64 > header_bytes_max {
            return Ok(false);
        }
        Ok(if bytes.starts_with(EBML) {
            matroska_header(&bytes).is_some_and(|(_, rest)| is_before_sound(rest))
        } else {
            is_mp4(&bytes) && mp4_header(&bytes).is_some_and(|header| header.len() == bytes.len())
        })
    }

    /// Opens it at its start.
    pub(crate) fn open(&self) -> io::Result<Part> {
        let file = File::open(&self.path)?;
        let length = file.metadata()?.len();
        Ok(Part::new(file, self.before.clone(), self.skip.min(length)..length))
    }
}

/// Whether the first bytes are those of an MP4 with its header.
fn is_mp4(start: &[u8]) -> bool {
    start.get(4..8) == Some(b"ftyp")
}

fn beginning(path: &Path, bytes_max: u64) -> Result<Vec<u8>, AudioError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(bytes_max).read_to_end(&mut bytes))
        .map_err(AudioError::io("reading the input"))?;
    Ok(bytes)
}

/// An element's id, the length of its head, and its size; `None` where the bytes do not hold a head.
fn element(bytes: &[u8]) -> Option<(u64, usize, u64)> {
    let mut rest = bytes;
    let (id, id_bytes) = variable(&mut rest, true).ok()??;
    let (size, size_bytes) = variable(&mut rest, false).ok()??;
    Some((id, usize::try_from(id_bytes + size_bytes).ok()?, size))
}

/// EBML, a segment without size, and what describes the tracks; and what follows, from the first cluster on or what there
/// is of its head.
fn matroska_header(bytes: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut header = Vec::new();
    let mut rest = bytes;
    let mut has_tracks = false;
    while let Some((id, head, size)) = element(rest) {
        if id == SEGMENT {
            header.extend_from_slice(SEGMENT_HEAD);
            rest = &rest[head..];
            continue;
        }
        if id == CLUSTER {
            break;
        }
        let (this, after) = rest.split_at_checked(usize::try_from(size).ok()?.checked_add(head)?)?;
        if header.is_empty() || id == INFO || id == TRACKS {
            header.extend_from_slice(this);
        }
        has_tracks |= id == TRACKS;
        rest = after;
    }
    has_tracks.then_some((header, rest))
}

/// Whether what follows a header of WebM is at most the head of a cluster, its time, and what there is of the head of
/// the next element: Chromium takes its first byte into the slice before.
fn is_before_sound(rest: &[u8]) -> bool {
    let mut rest = rest;
    for wanted in [CLUSTER, TIME] {
        if let Some((id, head, size)) = element(rest)
            && id == wanted
        {
            let content = if id == CLUSTER { Some(0) } else { usize::try_from(size).ok() };
            rest = content.and_then(|content| rest.get(head..)?.get(content..)).unwrap_or(&[]);
        }
    }
    rest.len() < CLUSTER_HEAD.len() && element(rest).is_none()
}

/// What has to stand between the header and a slice of WebM, and how many bytes of the slice are to be passed over.
fn join_cluster(start: &[u8]) -> (Vec<u8>, u64) {
    for missing in MISSING {
        if goes_on([missing, start].concat().as_slice(), 1) {
            return ([CLUSTER_HEAD, missing].concat(), 0);
        }
    }
    let found = (1..start.len()).find(|at| goes_on(&start[*at..], ELEMENTS_IN_A_ROW));
    (CLUSTER_HEAD.to_vec(), found.unwrap_or(0) as u64)
}

/// Whether the bytes begin with as many elements of a segment or cluster as `wanted`, or only with such, and behind them
/// comes another or its beginning.
fn goes_on(mut bytes: &[u8], wanted: u32) -> bool {
    for _ in 0..wanted {
        let Some((id, head, size)) = element(bytes).filter(|(id, ..)| is_known(*id)) else { return false };
        // Track, time and flags come before a packet; the track's number has a marker bit.
        let is_block = size > 4 && bytes.get(head).is_none_or(|track| track & 0x80 != 0);
        if id == SIMPLE_BLOCK && !is_block {
            return false;
        }
        let length = if id == CLUSTER {
            Some(head)
        } else {
            usize::try_from(size).ok().and_then(|size| size.checked_add(head))
        };
        match length.and_then(|length| bytes.get(length..)) {
            Some(behind) => bytes = behind,
            // It reaches beyond what is looked at.
            None => return wanted == 1,
        }
        if bytes.len() < CLUSTER_HEAD.len() && element(bytes).is_none() {
            return bytes.is_empty()
                || MISSING.iter().any(|first| !first.is_empty() && bytes.starts_with(first));
        }
    }
    element(bytes).is_some_and(|(id, ..)| is_known(id))
}

fn is_known(id: u64) -> bool {
    id == SIMPLE_BLOCK || id == CLUSTER || OTHERS.contains(&id)
}

/// A box's kind, the length of its head, and its whole length.
fn mp4_box(bytes: &[u8]) -> Option<(&[u8], usize, usize)> {
    let (size, rest) = bytes.split_first_chunk::<4>()?;
    let kind = rest.get(..4)?;
    match u32::from_be_bytes(*size) as usize {
        1 => {
            let length = u64::from_be_bytes(*rest.get(4..)?.first_chunk()?);
            Some((kind, 16, usize::try_from(length).ok()?)).filter(|(.., length)| *length >= 16)
        }
        length => Some((kind, 8, length)).filter(|(.., length)| *length >= 8),
    }
}

/// `ftyp` and the `moov` of a fragmented file: one that says so by an `mvex`.
fn mp4_header(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut header = Vec::new();
    let mut rest = bytes;
    while let Some((kind, head, length)) = mp4_box(rest) {
        let (this, after) = rest.split_at_checked(length)?;
        match kind {
            b"ftyp" => header.extend_from_slice(this),
            b"moov" => {
                header.extend_from_slice(this);
                return child(&this[head..], b"mvex").map(|_| header);
            }
            b"moof" => return None,
            _ => {}
        }
        rest = after;
    }
    None
}

/// The content of the first box of this kind.
fn child<'b>(mut boxes: &'b [u8], kind: &[u8]) -> Option<&'b [u8]> {
    while let Some((found, head, length)) = mp4_box(boxes) {
        if found == kind {
            return boxes.get(head..length.min(boxes.len()));
        }
        boxes = boxes.get(length..)?;
    }
    None
}

/// Whether a slice of MP4 has the first sound of all, where the first slice was a bare header: only there is an encoder's
/// delay to be dropped.
fn begins_at_zero(start: &[u8]) -> bool {
    let time =
        child(start, b"moof").and_then(|moof| child(moof, b"traf")).and_then(|traf| child(traf, b"tfdt"));
    // Version and flags, then the time, in four or eight bytes.
    time.is_some_and(|time| time.len() >= 8 && time[4..].iter().all(|byte| *byte == 0))
}
