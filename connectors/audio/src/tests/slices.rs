//! Slices of a recorder, each behind the header of the first: nothing is lost between them, and nothing is there twice.

use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::{child, ffmpeg, samples_of, split, wav};
use crate::decode::{Media, Wish};
use crate::merge::{Format, InputStatus, MergeInput, MergeRequest};
use crate::outline::variable;
use crate::slice::Recording;
use crate::{AudioError, Decoder, Limits, PlanMs, SplitRequest};

fn behind(path: &Path, header: &Path) -> Result<Recording, AudioError> {
    Recording::slice(path, header, Limits::default().header_bytes)
}

/// A recording as a browser writes it, cut into slices.
struct Slices {
    directory: tempfile::TempDir,
    whole: Vec<u8>,
    paths: Vec<PathBuf>,
}

impl Slices {
    /// Cuts a file at these places.
    fn cut(whole: Vec<u8>, places: &[usize]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let ends = places.iter().copied().chain([whole.len()]);
        let begins = [0].into_iter().chain(places.iter().copied());
        let write = |(index, (begin, end)): (usize, (usize, usize))| {
            let path = directory.path().join(index.to_string());
            std::fs::write(&path, &whole[begin..end]).unwrap();
            path
        };
        let paths = begins.zip(ends).enumerate().map(write).collect();
        Self { directory, whole, paths }
    }

    fn recordings(&self) -> Vec<Recording> {
        let rest = self.paths[1..].iter().map(|path| behind(path, &self.paths[0]).unwrap());
        [Recording::whole(&self.paths[0])].into_iter().chain(rest).collect()
    }

    /// Samples of each, and whether it says that it is whole.
    fn samples(&self) -> Vec<(usize, bool)> {
        let read = |recording: &Recording| {
            let mut media = Media::open(recording, Wish { rate: None, channels: None }).unwrap();
            let mut samples = 0;
            while let Some(block) = media.read().unwrap() {
                samples += block.samples.len();
            }
            (samples, !media.truncated())
        };
        self.recordings().iter().map(read).collect()
    }

    fn samples_of_whole(&self) -> usize {
        let path = self.directory.path().join("whole");
        std::fs::write(&path, &self.whole).unwrap();
        samples_of(&Recording::whole(&path), 48_000, 1).unwrap().len()
    }
}

/// WebM as a browser's recorder writes it: segment and clusters without size, no duration, no cues. The encoder's delay
/// of 312 samples is dropped at the start.
fn webm() -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("live.webm");
    let arguments =
        ["-t", "9", "-ac", "1", "-c:a", "libopus", "-f", "webm", "-live", "1", "-cluster_time_limit", "2000"];
    ffmpeg(&wav(), &arguments, &path);
    std::fs::read(path).unwrap()
}

fn mp4(codec: &str) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("fragments.mp4");
    let arguments = ["-t", "9", "-ac", "1", "-ar", "48000", "-c:a", codec, "-frag_duration", "500000"];
    ffmpeg(&wav(), &[&arguments[..], &["-movflags", "empty_moov+default_base_moof"]].concat(), &path);
    std::fs::read(path).unwrap()
}

/// Where the blocks and clusters of a WebM begin.
fn elements(webm: &[u8]) -> Vec<usize> {
    let (mut at, mut found) = (0, Vec::new());
    while at < webm.len() {
        let mut rest = &webm[at..];
        let (id, id_bytes) = variable(&mut rest, true).unwrap().unwrap();
        let (size, size_bytes) = variable(&mut rest, false).unwrap().unwrap();
        if matches!(id, 0xa3 | 0x1f43_b675) {
            found.push(at);
        }
        at += usize::try_from(id_bytes + size_bytes).unwrap();
        if !matches!(id, 0x1853_8067 | 0x1f43_b675) {
            at += usize::try_from(size).unwrap();
        }
    }
    found
}

/// Where the boxes of this kind begin.
fn boxes(mp4: &[u8], kind: &[u8]) -> Vec<usize> {
    let (mut at, mut found) = (0, Vec::new());
    while at < mp4.len() {
        if &mp4[at + 4..at + 8] == kind {
            found.push(at);
        }
        at += u32::from_be_bytes(mp4[at..at + 4].try_into().unwrap()) as usize;
    }
    found
}

fn is_whole(slices: &Slices) {
    let samples = slices.samples();
    assert!(samples.iter().all(|(samples, whole)| *samples > 0 && *whole), "{samples:?}");
    assert_eq!(samples.iter().map(|(samples, _)| samples).sum::<usize>(), slices.samples_of_whole());
}

#[test]
fn slices_of_webm_have_all_samples_wherever_a_browser_cuts() {
    let webm = webm();
    let elements = elements(&webm);
    let clusters = |at: &&usize| webm[**at] == 0x1f;
    assert!(elements.iter().filter(clusters).count() > 2, "cuts lie at clusters and between");
    // Chromium takes the first byte of the next element into a slice; others cut between elements.
    for taken in [0, 1] {
        let every = |step| elements.iter().skip(20).step_by(step).map(|at| at + taken).collect::<Vec<_>>();
        is_whole(&Slices::cut(webm.clone(), &every(37)));
        let at_clusters: Vec<usize> = elements.iter().filter(clusters).skip(1).map(|at| at + taken).collect();
        is_whole(&Slices::cut(webm.clone(), &at_clusters));
    }
    // Slices of one block.
    is_whole(&Slices::cut(webm.clone(), &[elements[20] + 1, elements[21] + 1, elements[22] + 1]));
}

#[test]
fn slices_of_mp4_have_all_samples() {
    for codec in ["libopus", "aac"] {
        let mp4 = mp4(codec);
        let fragments = boxes(&mp4, b"moof");
        let places: Vec<usize> = fragments.iter().copied().skip(2).step_by(3).collect();
        assert!(places.len() > 3, "{codec}");
        is_whole(&Slices::cut(mp4, &places));
    }
}

/// Ogg as Firefox writes it: Opus, a page for some packets.
fn ogg() -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("live.ogg");
    ffmpeg(&wav(), &["-t", "9", "-ac", "1", "-c:a", "libopus", "-page_duration", "200000"], &path);
    std::fs::read(path).unwrap()
}

/// Where the pages of an Ogg begin.
fn pages(ogg: &[u8]) -> Vec<usize> {
    (0..ogg.len() - 4).filter(|at| ogg[*at..].starts_with(b"OggS")).collect()
}

#[test]
fn slices_of_ogg_have_all_samples() {
    let ogg = ogg();
    let pages = pages(&ogg);
    assert!(pages.len() > 30, "{}", pages.len());
    for step in [1, 7] {
        let places: Vec<usize> = pages.iter().copied().skip(5).step_by(step).collect();
        let slices = Slices::cut(ogg.clone(), &places[..places.len() - 1]);
        let samples = slices.samples();
        // Ogg marks its end, so that the first slice cannot be told from a file that was cut there.
        assert!(
            !samples[0].1 && samples[1..].iter().all(|(samples, whole)| *samples > 0 && *whole),
            "{samples:?}"
        );
        assert_eq!(samples.iter().map(|(samples, _)| samples).sum::<usize>(), slices.samples_of_whole());
    }
    // Where a page is torn, its packets are lost, and the slice that goes on says so.
    let torn = Slices::cut(ogg, &[pages[20] + 100]);
    let samples = torn.samples();
    assert!(!samples[1].1, "{samples:?}");
    let lost = torn.samples_of_whole() - samples.iter().map(|(samples, _)| samples).sum::<usize>();
    assert!((1..=9_600).contains(&lost), "{lost}");
}

#[test]
fn a_first_slice_of_nothing_but_the_header_is_silence_of_no_length() {
    let (mp4, webm) = (mp4("libopus"), webm());
    let (fragment, clusters) = (boxes(&mp4, b"moof")[0], elements(&webm));
    let (cluster, block) = (clusters[0], clusters[1]);
    // The first sound is in the next slice, and with it the encoder's delay, which only MP4 tells there. Chromium takes the
    // first byte of the next element with it.
    for (whole, first, delay) in [
        (&mp4, fragment, 0),
        (&webm, cluster, 312),
        (&webm, cluster + 1, 312),
        (&webm, block, 312),
        (&webm, block + 1, 312),
    ] {
        let slices = Slices::cut(whole.clone(), &[first]);
        let (report, segments) = split(&slices.paths[0]).unwrap();
        assert_eq!((report.duration_ms, report.truncated, segments.len()), (0, false, 0), "{first}");
        assert_eq!(slices.samples()[1], (slices.samples_of_whole() + delay, true), "{first}");
    }
    // One that was cut short is no header.
    for (whole, first) in [(&mp4, fragment), (&webm, cluster)] {
        let torn = Slices::cut(whole[..first - 1].to_vec(), &[]);
        assert_eq!(split(&torn.paths[0]).unwrap_err().code(), "corrupt");
    }
}

#[test]
fn a_slice_that_is_torn_elsewhere_loses_one_packet_and_says_so() {
    let webm = webm();
    let elements = elements(&webm);
    // In the middle of a packet.
    let slices = Slices::cut(webm, &[elements[100] + 30]);
    let samples = slices.samples();
    assert!(samples.iter().all(|(_, whole)| !whole), "{samples:?}");
    let all: usize = samples.iter().map(|(samples, _)| samples).sum();
    assert_eq!(slices.samples_of_whole() - all, 960);
}

/// Splits and merges in real children.
fn in_children(slices: &Slices, header: &Path) -> (Vec<Result<u64, AudioError>>, Vec<InputStatus>, u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let decoder = Decoder::new(child(), Limits::default());
        let header = |index: usize| (index > 0).then(|| header.to_owned());
        let mut durations = Vec::new();
        let output = slices.directory.path().join("merged.ogg");
        let mut merge = decoder.merge(MergeRequest {
            output,
            format: Format::OPUS,
            fill_gaps_ms: 0,
            lost_share_max: 0.9,
        });
        let mut statuses = Vec::new();
        for (index, path) in slices.paths.iter().enumerate() {
            let (path, plan) = (path.clone(), PlanMs::default());
            let request = SplitRequest { path: path.clone(), header: header(index), plan };
            let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
            let drain = async { while receiver.recv().await.is_some() {} };
            let (report, ()) = tokio::join!(decoder.split(request, sender), drain);
            durations.push(report.map(|report| report.duration_ms));
            let input = MergeInput { chunk_id: index.to_string(), path, header: header(index), offset_ms: 0 };
            statuses.push(merge.add(input).await.unwrap().status);
        }
        (durations, statuses, merge.finish().await.unwrap().duration_ms)
    })
}

#[test]
fn children_split_and_merge_slices() {
    let webm = webm();
    let elements = elements(&webm);
    let slices = Slices::cut(webm, &[elements[130] + 1, elements[260] + 1]);
    let (durations, statuses, merged_ms) = in_children(&slices, &slices.paths[0]);
    let sum: u64 = durations.into_iter().map(Result::unwrap).sum();
    let whole_ms = slices.samples_of_whole() as u64 / 48;
    assert!(sum.abs_diff(whole_ms) <= 3, "{sum} and {whole_ms}: each is rounded up");
    assert!(statuses.iter().all(|status| *status == InputStatus::Merged), "{statuses:?}");
    // The packets are copied, so that the encoder's delay is there once.
    assert!(merged_ms.abs_diff(whole_ms) <= 1, "{merged_ms} and {whole_ms}");
    // Behind a file that has no header of the kind each of them is refused, and the first one is not concerned.
    for foreign in [wav(), slices.paths[1].clone()] {
        let (durations, statuses, _) = in_children(&slices, &foreign);
        let codes: Vec<&str> =
            durations.iter().map(|found| found.as_ref().map_or_else(AudioError::code, |_| "")).collect();
        assert_eq!(codes, ["", "no_header", "no_header"]);
        assert_eq!(statuses, [InputStatus::Merged, InputStatus::Skipped, InputStatus::Skipped]);
    }
}

#[test]
fn a_header_may_be_as_long_as_the_limit() {
    let webm = webm();
    let elements = elements(&webm);
    let slices = Slices::cut(webm, &[elements[100] + 1]);
    let limit = usize::try_from(Limits::default().header_bytes).unwrap();
    // Void elements may stand anywhere; the tracks have to end within the limit.
    let length = elements[0];
    let tracks = slices.whole[..length].windows(4).rposition(|id| id == b"\x16\x54\xae\x6b").unwrap();
    for (room, fits) in [(limit - length, true), (limit - length + 1, false)] {
        let mut void = vec![0xec, 0x08, 0, 0, 0, 0];
        let size = u32::try_from(room - void.len()).unwrap().to_be_bytes();
        void[2..6].copy_from_slice(&size);
        void.resize(room, 0);
        let header = slices.directory.path().join("header");
        std::fs::write(&header, [&slices.whole[..tracks], &void, &slices.whole[tracks..]].concat()).unwrap();
        let bare = slices.directory.path().join("bare");
        std::fs::write(&bare, [&slices.whole[..tracks], &void, &slices.whole[tracks..length]].concat())
            .unwrap();
        let is_bare = Recording::whole(&bare).is_bare_header(Limits::default().header_bytes);
        assert_eq!(is_bare.unwrap(), fits, "{room}");
        let found = behind(&slices.paths[1], &header);
        assert_eq!(found.err().map(|error| error.code()), (!fits).then_some("no_header"), "{room}");
    }
}

/// The pages of a header of Opus.
const OGG_HEAD: &[u8] = b"OggS\0\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x08OpusHead\
    OggS\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x08OpusTags";

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// Whatever the bytes, there is an answer, and what is read is the header and the end of the slice.
    #[test]
    fn any_bytes_get_an_answer(
        header in prop::collection::vec(any::<u8>(), 0..200),
        slice in prop::collection::vec(prop_oneof![Just(0xa3), Just(0x81), Just(0x1f), any::<u8>()], 1..400),
        kind in 0_usize..4,
    ) {
        let magic: &[u8] = [&b"\x1a\x45\xdf\xa3\x80\x16\x54\xae\x6b\x80"[..], b"\0\0\0\x08ftyp", OGG_HEAD, b""][kind];
        let directory = tempfile::tempdir().unwrap();
        let (first, next) = (directory.path().join("first"), directory.path().join("next"));
        std::fs::write(&first, [magic, &header].concat()).unwrap();
        std::fs::write(&next, &slice).unwrap();
        match behind(&next, &first) {
            Ok(recording) => {
                let mut bytes = Vec::new();
                std::io::Read::read_to_end(&mut recording.open().unwrap(), &mut bytes).unwrap();
                prop_assert!(recording.is_torn() || bytes.ends_with(&slice));
                prop_assert_eq!(bytes.len() as u64, recording.open().unwrap().length());
            }
            Err(error) => prop_assert_eq!(error.code(), "no_header"),
        }
    }
}
