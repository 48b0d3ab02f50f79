//! Properties of what this crate parses itself: ends of containers, heads of Opus, frames of the protocol. Cases that once
//! failed are kept beside this file by proptest.

use std::io::{Read, Write};

use proptest::prelude::*;

use crate::ogg::{CHECKSUM, checksum};
use crate::opus::{OPUS_RATE, OpusDecoder, OpusHead};
use crate::outline::{self, Outline};
use crate::protocol::{
    FRAME_BYTES_MAX, FRAME_HEAD, Kind, head, next_packet, parse_head, put_packet, read_frame, write_frame,
};
use crate::source::Part;

type Outliner = fn(&mut Part) -> std::io::Result<Outline>;

/// What is said of the end of a file of these bytes.
fn whole(outline: Outliner, bytes: &[u8]) -> bool {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    let mut file = Part::new(file, Vec::new(), 0..bytes.len() as u64);
    !outline(&mut file).unwrap().cut_short
}

/// Some pieces of a file one after the other, with the places where a cut leaves no piece in two.
fn joined(pieces: &[Vec<u8>]) -> (Vec<u8>, Vec<usize>) {
    let (mut bytes, mut ends) = (Vec::new(), vec![0]);
    for piece in pieces {
        bytes.extend(piece);
        ends.push(bytes.len());
    }
    (bytes, ends)
}

/// A box of MP4, in the short form of its length or the long one.
fn mp4_box() -> impl Strategy<Value = Vec<u8>> {
    (any::<bool>(), any::<[u8; 4]>(), payload()).prop_map(|(long, name, payload)| {
        let mut bytes = Vec::new();
        let length = payload.len() + if long { 16 } else { 8 };
        bytes.extend(if long { 1 } else { u32::try_from(length).unwrap() }.to_be_bytes());
        bytes.extend(name);
        if long {
            bytes.extend((length as u64).to_be_bytes());
        }
        bytes.extend(payload);
        bytes
    })
}

/// An element of Matroska: one that states its length, or the head of a cluster that does not.
fn element() -> impl Strategy<Value = Vec<u8>> {
    let stated = payload().prop_map(|payload| {
        let length = u16::try_from(payload.len()).unwrap() | 0x4000;
        [&[0xec], length.to_be_bytes().as_slice(), &payload].concat()
    });
    prop_oneof![4 => stated, 1 => Just(b"\x1f\x43\xb6\x75\x01\xff\xff\xff\xff\xff\xff\xff".to_vec())]
}

/// A page of Ogg with one packet, the last of its stream.
fn page() -> impl Strategy<Value = Vec<u8>> {
    payload().prop_map(|payload| {
        let lacing =
            [vec![255; payload.len() / 255], vec![u8::try_from(payload.len() % 255).unwrap()]].concat();
        let mut bytes = b"OggS\0\x04".to_vec();
        bytes.resize(26, 0);
        bytes.push(u8::try_from(lacing.len()).unwrap());
        summed([bytes, lacing, payload].concat())
    })
}

/// A page of Ogg with its checksum.
fn summed(mut page: Vec<u8>) -> Vec<u8> {
    let sum = checksum(&page);
    page[CHECKSUM].copy_from_slice(&sum);
    page
}

/// Content in which no page of Ogg seems to begin, as long as one lacing value or two.
fn payload() -> impl Strategy<Value = Vec<u8>> {
    let byte = any::<u8>().prop_map(|byte| if byte == b'O' { b'o' } else { byte });
    let length = prop_oneof![4 => 0_usize..30, 1 => 250_usize..260];
    length.prop_flat_map(move |length| prop::collection::vec(byte.clone(), length))
}

fn kind() -> impl Strategy<Value = Kind> {
    any::<u8>().prop_filter_map("a kind", Kind::of)
}

/// Checks that a file is whole where it ends with a piece, and nowhere else; within its first bytes, so many, a piece is
/// none yet. Nothing is as whole as its container says.
fn check(
    outline: Outliner,
    pieces: &[Vec<u8>],
    empty: bool,
    first_bytes: fn(&[u8]) -> usize,
) -> Result<(), TestCaseError> {
    let (bytes, ends) = joined(pieces);
    for cut in 0..=bytes.len() {
        let mut begun = pieces.iter().zip(&ends);
        let none_yet = begun.any(|(piece, start)| (*start..start + first_bytes(piece)).contains(&cut));
        let expected = if cut == 0 { empty } else { ends.contains(&cut) || none_yet };
        prop_assert_eq!(whole(outline, &bytes[..cut]), expected, "cut at {} of {:?}", cut, ends);
    }
    Ok(())
}

/// The head of an element: that of a cluster, or of one that states its length.
fn head_of_element(element: &[u8]) -> usize {
    if element.len() == 12 && element[0] == 0x1f { 12 } else { 3 }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20, ..ProptestConfig::default() })]

    #[test]
    fn mp4_is_whole_between_boxes(boxes in prop::collection::vec(mp4_box(), 1..5)) {
        check(|file| outline::of_mp4(file), &boxes, true, |_| 0)?;
    }

    #[test]
    fn matroska_is_whole_between_elements(elements in prop::collection::vec(element(), 1..5)) {
        check(outline::of_matroska, &elements, true, head_of_element)?;
    }

    #[test]
    fn ogg_is_whole_after_a_page(mut pages in prop::collection::vec(page(), 1..4)) {
        check(|file| outline::of_ogg(file, false), &pages, false, |_| 0)?;
        // Where others follow, no page needs to be the last.
        for page in &mut pages {
            page[5] = 0;
            *page = summed(std::mem::take(page));
        }
        check(|file| outline::of_ogg(file, true), &pages, false, |_| 0)?;
        prop_assert!(!whole(|file| outline::of_ogg(file, false), &pages.concat()));
    }

    /// Damage of a page of video takes nothing of the sound.
    #[test]
    fn ogg_is_whole_where_a_page_of_video_is_damaged(video in page(), sound in page()) {
        let page = |page: &[u8], serial: u8, flags: u8, damage: u8| {
            let mut page = page.to_vec();
            (page[5], page[14]) = (flags, serial);
            let mut page = summed(page);
            page[CHECKSUM.start] ^= damage;
            page
        };
        for (serial, expected) in [(1, true), (2, false)] {
            let pages = [page(&video, 1, 2, 0), page(&video, serial, 0, 1), page(&sound, 2, 4, 0)];
            prop_assert_eq!(whole(|file| outline::of_ogg(file, false), &pages.concat()), expected);
        }
    }

    #[test]
    fn ogg_is_not_whole_where_a_bit_is_wrong(pages in prop::collection::vec(page(), 1..4), at in any::<u32>(), bit in 0_u32..8) {
        let mut bytes = pages.concat();
        let at = at as usize % bytes.len();
        bytes[at] ^= 1_u8 << bit;
        prop_assert!(!whole(|file| outline::of_ogg(file, false), &bytes), "bit {bit} of byte {at}");
    }

    /// The header of Opus is the page of its head and those of its tags, however many and whatever follows.
    #[test]
    fn ogg_has_its_header_in_pages(tags in page(), more in prop::collection::vec(page(), 0..3), cut in any::<u16>()) {
        let mut head = b"OggS\0\x02".to_vec();
        head.resize(26, 0);
        head.extend_from_slice(b"\x01\x08OpusHead");
        let full = [&b"OggS\0\0"[..], &[0; 20], &[1, 255], &[0; 255]].concat();
        let header = [head, full, tags].concat();
        let bytes = [header.clone(), more.concat()].concat();
        let cut = usize::from(cut) % (bytes.len() + 1);
        let expected = (cut >= header.len()).then_some(&header[..]);
        prop_assert_eq!(outline::ogg_header(&bytes[..cut]), expected);
        prop_assert_eq!(outline::ogg_header(&bytes[1..]), None);
    }
}

proptest! {
    /// Whatever a file holds, looking at its end is neither a failure nor a panic.
    #[test]
    fn any_bytes_have_an_end(
        magic in prop::sample::select(vec![b"OggS".as_slice(), b"\x1a\x45\xdf\xa3", b"\0\0\0\x01ftyp", b""]),
        rest in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        let bytes = [magic, &rest].concat();
        let outlines: [Outliner; 3] =
            [|file| outline::of_mp4(file), outline::of_matroska, |file| outline::of_ogg(file, false)];
        for outline in outlines {
            whole(outline, &bytes);
        }
    }

    /// What is taken for a head is one that a decoder can be made for, or that it refuses; no packet breaks it.
    #[test]
    fn any_head_of_opus_is_read_or_refused(
        mut head in prop::collection::vec(any::<u8>(), 0..300),
        family in 0_u8..3,
        channels in 0_u8..10,
        packet in prop::collection::vec(any::<u8>(), 0..100),
        big_endian in any::<bool>(),
        mono in any::<bool>(),
    ) {
        head.splice(..8.min(head.len()), *b"OpusHead");
        if let Some([at, .., kind]) = head.get_mut(9..19) {
            (*at, *kind) = (channels, family);
        }
        let Some(parsed) = OpusHead::parse(&head, big_endian) else { return Ok(()) };
        prop_assert_eq!(parsed.channels, channels);
        if let Some(mut decoder) = OpusDecoder::new(&parsed, OPUS_RATE, mono) {
            let channels = decoder.channels();
            let (samples, _) = decoder.decode(&packet);
            prop_assert!(samples.len() % channels == 0 && samples.len() <= 5_760 * channels);
        }
    }

    #[test]
    fn packets_come_as_they_went(packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..5)) {
        let mut bytes = Vec::new();
        packets.iter().for_each(|packet| put_packet(packet, &mut bytes));
        let mut left = bytes.as_slice();
        for packet in &packets {
            prop_assert_eq!(next_packet(&mut left).unwrap(), Some(packet.as_slice()));
        }
        prop_assert_eq!(next_packet(&mut left).unwrap(), None);
        // One that was cut in two is not taken for a shorter one.
        if let Some(last) = packets.last() {
            let mut left = &bytes[bytes.len() - last.len() - 2..bytes.len() - 1];
            prop_assert!(next_packet(&mut left).is_err());
        }
    }

    #[test]
    fn frames_come_as_they_went(
        kind in kind(),
        payload in prop::collection::vec(any::<u8>(), 0..300),
        cut in any::<prop::sample::Index>(),
    ) {
        let (mut bytes, mut got) = (Vec::new(), Vec::new());
        write_frame(&mut bytes, kind, &payload).unwrap();
        prop_assert_eq!(read_frame(&mut bytes.as_slice(), &mut got).unwrap(), kind);
        prop_assert_eq!(&got, &payload);
        let cut = cut.index(bytes.len());
        prop_assert!(read_frame(&mut bytes[..cut].take(u64::MAX), &mut got).is_err());
    }

    /// A head that is read is one that was written; no other asks for memory.
    #[test]
    fn any_head_of_a_frame_is_read_or_refused(bytes in any::<[u8; FRAME_HEAD]>()) {
        if let Ok((kind, length)) = parse_head(bytes) {
            prop_assert!(length <= FRAME_BYTES_MAX);
            prop_assert_eq!(head(kind, length), bytes);
        }
    }
}

#[test]
fn a_frame_is_bounded_at_its_edge() {
    let read = |length: usize| parse_head(head(Kind::Samples, length));
    assert_eq!(read(FRAME_BYTES_MAX).unwrap(), (Kind::Samples, FRAME_BYTES_MAX));
    assert_eq!(read(FRAME_BYTES_MAX + 1).unwrap_err().code(), "protocol");
}
