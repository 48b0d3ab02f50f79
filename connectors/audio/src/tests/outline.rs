//! What we read of containers ourselves: edit lists, padding, tags and side channels, each at its edge, and on bytes that
//! are nothing at all.

use std::io::Write as _;

use proptest::prelude::*;

use crate::opus::OpusHead;
use crate::outline::{Outline, SoundTrack, Ticks, of_matroska, of_mp4, wave};
use crate::slice::Recording;
use crate::source::Part;
use crate::{probe, sbr};

fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// The same as it is read.
fn part(bytes: &[u8]) -> Part {
    Recording::whole(file(bytes).path()).open().unwrap()
}

fn mp4(bytes: &[u8]) -> Outline {
    of_mp4(&part(bytes)).unwrap()
}

fn matroska(bytes: &[u8]) -> Outline {
    of_matroska(&mut part(bytes)).unwrap()
}

/// A box of an MP4.
fn boxed(name: &[u8; 4], parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    [&u32::try_from(body.len() + 8).unwrap().to_be_bytes()[..], name, &body].concat()
}

/// A film of 1,000 ticks a second with one sound track of 48,000, whose edit list is given, and then more boxes.
fn film(list: &[u8], more: &[u8]) -> Vec<u8> {
    let number = |at: usize, value: u32| [&vec![0; at][..], &value.to_be_bytes(), &[0; 8]].concat();
    let entry = [&[0; 4][..], b"mp4a", &[0; 16], &[0, 2, 0, 16]].concat();
    let stsd = [&[0, 0, 0, 0, 0, 0, 0, 1][..], &entry].concat();
    let media = boxed(
        b"mdia",
        &[
            &boxed(b"mdhd", &[&number(12, 48_000)]),
            &boxed(b"hdlr", &[&[0; 8], b"soun", &[0; 12]]),
            &boxed(b"minf", &[&boxed(b"stbl", &[&boxed(b"stsd", &[&stsd])])]),
        ],
    );
    let track = boxed(
        b"trak",
        &[&boxed(b"tkhd", &[&number(12, 7)]), &boxed(b"edts", &[&boxed(b"elst", &[list])]), &media],
    );
    [boxed(b"ftyp", &[b"M4A "]), boxed(b"moov", &[&boxed(b"mvhd", &[&number(12, 1_000)]), &track, more])]
        .concat()
}

/// An edit list of version 0: lengths in the film's ticks, starts in the media's.
fn edits(entries: &[(u32, i32)]) -> Vec<u8> {
    let count = u32::try_from(entries.len()).unwrap();
    let mut list = [[0; 4], count.to_be_bytes()].concat();
    for (lasts, starts) in entries {
        list.extend([lasts.to_be_bytes(), starts.to_be_bytes(), [0, 1, 0, 0]].concat());
    }
    list
}

fn in_48_khz(count: u64) -> Option<Ticks> {
    Some(Ticks { count, per_second: 48_000 })
}

#[test]
fn an_edit_list_says_where_the_sound_lies() {
    let sound = |list: &[u8]| mp4(&film(list, &[])).tracks;
    let one = |delay, end| SoundTrack {
        id: 7,
        codec: "mp4a".to_owned(),
        channels: Some(2),
        delay,
        end,
        ..SoundTrack::default()
    };
    let track = |delay, end| vec![one(delay, end)];
    let edited = |delay, end| vec![SoundTrack { is_edited: true, ..one(delay, end) }];
    assert_eq!(sound(&edits(&[(2_000, 1_024)])), track(in_48_khz(1_024), in_48_khz(97_024)));
    // Silence before, which only delays; several parts, taken as one; a length that is not known.
    assert_eq!(sound(&edits(&[(500, -1), (2_000, 1_024)])), track(in_48_khz(1_024), in_48_khz(97_024)));
    assert_eq!(sound(&edits(&[(1_000, 0), (1_000, 96_000)])), edited(in_48_khz(0), in_48_khz(96_000)));
    assert_eq!(sound(&edits(&[(0, 1_024)])), track(in_48_khz(1_024), None));
    // What follows in fragments is not in the list.
    let fragmented = film(&edits(&[(2_000, 1_024)]), &boxed(b"mvex", &[]));
    assert_eq!(mp4(&fragmented).tracks, track(in_48_khz(1_024), None));
    // The longer form.
    let long =
        [&[1, 0, 0, 0, 0, 0, 0, 1][..], &2_000_u64.to_be_bytes(), &1_024_i64.to_be_bytes(), &[0, 1, 0, 0]];
    assert_eq!(sound(&long.concat()), track(in_48_khz(1_024), in_48_khz(97_024)));
    // As many parts as are read, and one more; a list that ends early.
    assert_eq!(sound(&edits(&[(1, 5); 64])), edited(in_48_khz(5), in_48_khz(5 + 64 * 48)));
    assert_eq!(sound(&edits(&[(1, 5); 65])), edited(None, None));
    assert_eq!(sound(&[0, 0, 0, 0, 0, 0, 0, 1, 0]), track(None, None));
    assert_eq!(sound(&[]), track(None, None));
}

#[test]
fn padding_is_that_of_the_last_block() {
    let element = |id: &[u8], body: &[u8]| [id, &[0x80 | u8::try_from(body.len()).unwrap()], body].concat();
    let entry = [element(&[0xd7], &[1]), element(&[0x83], &[2]), element(&[0x86], b"A_OPUS")].concat();
    let tracks = element(&[0x16, 0x54, 0xae, 0x6b], &element(&[0xae], &entry));
    let block = |padding: &[u8]| {
        let padding = if padding.is_empty() { vec![] } else { element(&[0x75, 0xa2], padding) };
        element(&[0xa0], &[element(&[0xa1], &[0x81, 0, 0, 0, 9]), padding].concat())
    };
    let padding = |blocks: &[Vec<u8>]| matroska(&[&tracks[..], &blocks.concat()].concat()).tracks[0].padding;
    let nanoseconds = |count| Some(Ticks { count, per_second: 1_000_000_000 });
    assert_eq!(padding(&[block(&[]), block(&[0x1e, 0x84, 0x80])]), nanoseconds(2_000_000));
    assert_eq!(padding(&[block(&[0x1e, 0x84, 0x80]), block(&[])]), None);
    assert_eq!(padding(&[block(&[0xff, 0x84, 0x80])]), None, "a negative one");
    assert_eq!(nanoseconds(10_500_000).unwrap().samples(48_000), 504);
}

#[test]
fn so_many_tags_are_passed_over_and_no_more() {
    let tag = [&b"ID3\x04\x00\x00\x00\x00\x00\x05"[..], &[0; 5]].concat();
    let sound = [&b"fLaC\x80\x00\x00\x22"[..], &[0; 34]].concat();
    let container = |tags| {
        let file = file(&[tag.repeat(tags), sound.clone()].concat());
        probe::open(&Recording::whole(file.path())).map_err(|error| error.code())
    };
    assert_ne!(container(16).err(), Some("not_audio"));
    assert_eq!(container(17).err(), Some("not_audio"));
}

#[test]
fn a_long_delay_is_a_cut_and_is_not_copied() {
    let head = |pre_skip: u16| [&b"OpusHead\x01\x01"[..], &pre_skip.to_le_bytes(), &[0; 7]].concat();
    assert!(OpusHead::parse(&head(3_840), false).unwrap().is_plain());
    assert!(!OpusHead::parse(&head(3_841), false).unwrap().is_plain());
}

#[test]
fn hidden_data_counts_only_where_different_packets_carry_it() {
    // A channel's element, a filling element of two bytes with replicated bands, the end's mark.
    let packet = |first: u8| [first, 0b1100_0101, 0b1010_0000, 0b0000_0001, 0b1100_0000];
    let carry = |firsts: &[u8]| {
        let packets: Vec<_> = firsts.iter().map(|first| packet(*first)).collect();
        sbr::carry_sbr(packets.iter().map(|packet| &packet[..]))
    };
    assert!(carry(&[1, 2, 3]));
    assert!(carry(&[1, 1, 2, 3]));
    assert!(!carry(&[1, 2, 2, 2]), "two packets may look so by chance");
    assert!(!sbr::carry_sbr([&packet(1)[..], &packet(2), &packet(3), &[1, 2, 0xe0]].into_iter()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever follows the first bytes of a container, it is answered.
    #[test]
    fn any_bytes_are_answered(
        magic in prop::sample::select(vec![
            &b""[..], b"RIFF\0\0\0\0WAVE", b"RF64\xff\xff\xff\xffWAVEds64", b"OggS\0\x02", b"\x1a\x45\xdf\xa3", b"\0\0\0\x08ftyp",
            b"\0\0\0\x08ftyp\0\0\0\0moov", b"fLaC\0\0\0\x22", b"caff\0\x01\0\0", b"FORM\0\0\0\0AIFC", b"ID3\x03\0\0", b"\xff\xf1", b"\xff\xfb",
        ]),
        rest in prop::collection::vec(any::<u8>(), 0..2_000),
    ) {
        let bytes = [magic, &rest].concat();
        let (file, length) = (file(&bytes), bytes.len() as u64);
        let opened = probe::open(&Recording::whole(file.path()));
        prop_assert!(bytes.is_empty() || opened.is_ok() || opened.is_err_and(|error| error.code() != "io"));
        if let Some(wave) = wave(&part(&bytes), 0).unwrap() {
            prop_assert!(wave.samples.start <= wave.samples.end && wave.samples.end <= length);
        }
    }

    /// Nor do bytes that are none of AAC's keep its readers from answering.
    #[test]
    fn any_packet_is_looked_at(packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..8)) {
        sbr::carry_sbr(packets.iter().map(|packet| &packet[..]));
        for packet in &packets {
            sbr::refusal(packet);
            sbr::adts_refusal(packet);
        }
    }
}
