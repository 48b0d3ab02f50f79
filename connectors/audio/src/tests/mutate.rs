//! Hostile files, made by a seed: a small recording of each format, damaged the way that parsers break on.

use std::path::{Path, PathBuf};

use super::{ffmpeg, tool};

/// Numbers that lengths, rates and counts lie with.
const LIES: [u64; 10] = [
    0,
    1,
    0x7f,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    0x7fff_ffff_ffff_ffff,
    0xffff_ffff_ffff_ffff,
];

/// The first bytes of a file, where its lengths mostly stand.
const HEAD: usize = 400;

/// One recording of each format that is read, as bytes. All hold the same tone with noise.
pub(super) struct Corpus {
    pub(super) files: Vec<(&'static str, Vec<u8>)>,
}

impl Corpus {
    pub(super) fn make(directory: &Path) -> Self {
        let tone = directory.join("tone.wav");
        let synth = "synth 1.1 sine 300 synth 1.1 sine mix 900 synth 1.1 noise mix gain -6";
        let arguments = format!("-n -r 16000 -c 1 -b 16 {} {synth}", tone.display());
        tool("sox", &arguments.split(' ').collect::<Vec<_>>());
        let fragments = "-movflags frag_keyframe+empty_moov+default_base_moof -frag_duration 300000";
        let formats = [
            ("wav", ""),
            ("f32.wav", "-c:a pcm_f32le -ar 8000"),
            ("rf64.wav", "-rf64 always -ar 8000"),
            ("aiff", "-ar 8000"),
            ("caf", "-ar 8000"),
            ("flac", ""),
            ("mp3", "-b:a 32k"),
            ("aac", "-b:a 32k"),
            ("m4a", "-b:a 32k"),
            ("frag.mp4", fragments),
            ("alac.m4a", "-c:a alac"),
            ("opus.ogg", "-c:a libopus -b:a 24k"),
            ("vorbis.ogg", "-c:a libvorbis"),
            ("flac.ogg", "-c:a flac"),
            ("opus.webm", "-c:a libopus -b:a 24k"),
            ("live.webm", "-c:a libopus -b:a 24k -live 1"),
            ("vorbis.webm", "-c:a libvorbis"),
            ("opus.mp4", "-c:a libopus -b:a 24k"),
        ];
        let make = |(name, options): (&'static str, &str)| {
            let path = directory.join(format!("corpus.{name}"));
            // The same bytes in each run, so that a seed stands for one file.
            let options = format!("{options} -fflags +bitexact -flags:a +bitexact");
            ffmpeg(&tone, &options.split_whitespace().collect::<Vec<_>>(), &path);
            (name, std::fs::read(path).unwrap())
        };
        Self { files: formats.map(make).into() }
    }

    /// A damaged file of the corpus; the seed says which, and how.
    pub(super) fn damaged(&self, seed: u64) -> (String, Vec<u8>) {
        let mut chance = Chance(seed);
        let (name, whole) = &self.files[chance.below(self.files.len())];
        let mut bytes = whole.clone();
        for _ in 0..1 + chance.below(4) {
            self.damage(&mut bytes, &mut chance);
        }
        (format!("{name} damaged by seed {seed}"), bytes)
    }

    fn damage(&self, bytes: &mut Vec<u8>, chance: &mut Chance) {
        if bytes.len() < 16 {
            return;
        }
        // Half of the damage is done where it decides the most.
        let reach = if chance.below(2) == 0 { bytes.len().min(HEAD) } else { bytes.len() };
        let at = chance.below(reach - 8);
        let length = (1 + chance.below(300)).min(bytes.len() - at);
        match chance.below(8) {
            0 | 1 => (0..1 + chance.below(8)).for_each(|_| {
                let place = chance.below(reach);
                bytes[place] ^= 1 << chance.below(8);
            }),
            2 => bytes[at..at + length].fill([0, 0xff, 0x80][chance.below(3)]),
            3 => bytes[at..at + length].fill_with(|| chance.byte()),
            4 => {
                let (_, other) = &self.files[chance.below(self.files.len())];
                let from = chance.below(other.len());
                let to = other.len().min(from + 4 * length);
                bytes.splice(at..at, other[from..to].iter().copied());
            }
            5 => bytes.truncate(at + 8),
            6 => drop(bytes.drain(at..at + length)),
            _ => lie(bytes, at, chance),
        }
    }
}

/// Writes a number that is a lie over 1, 2, 4 or 8 bytes, either way round.
fn lie(bytes: &mut [u8], at: usize, chance: &mut Chance) {
    let (number, width) = (LIES[chance.below(LIES.len())], [1, 2, 4, 8][chance.below(4)]);
    if chance.below(2) == 0 {
        bytes[at..at + width].copy_from_slice(&number.to_be_bytes()[8 - width..]);
    } else {
        bytes[at..at + width].copy_from_slice(&number.to_le_bytes()[..width]);
    }
}

/// Pseudo-random numbers: SplitMix64.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }
}

/// Files that once crashed other decoders of FLAC and WAV. They lie in the packages of `claxon` and `hound`, which
/// Hansard's tests depend on.
pub(super) fn crashes() -> Vec<PathBuf> {
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let arguments =
        ["metadata", "--offline", "--locked", "--format-version", "1", "--filter-platform", &target];
    let said = std::process::Command::new(env!("CARGO"))
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&said.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let samples = packages.iter().filter(|package| package["name"] == "claxon" || package["name"] == "hound");
    let files = samples.flat_map(|package| {
        let manifest = Path::new(package["manifest_path"].as_str().unwrap());
        let samples = manifest.with_file_name("testsamples");
        [samples.clone(), samples.join("fuzz")]
            .into_iter()
            .flat_map(|below| std::fs::read_dir(below).unwrap())
    });
    let files = files.map(|entry| entry.unwrap().path());
    files.filter(|file| file.extension().is_some_and(|kind| kind == "wav" || kind == "flac")).collect()
}

/// WAV, CAF and AIFF files with rates, channels and lengths that no recording has.
pub(super) fn absurd() -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for rate in [0, 1, 1_999, 768_001, 0x7fff_ffff, 0xffff_ffff_u32] {
        for channels in [0, 1, 3, 255, 0xffff_u16] {
            files.push((format!("wav of {channels} channels at {rate} Hz"), wav(rate, channels)));
        }
    }
    for rate in [0.0, -1.0, 0.5, 1e300, f64::NAN, f64::INFINITY, f64::MIN_POSITIVE] {
        for (packet, length) in [(2, 4_000), (0, i64::MAX), (u32::MAX, -1), (2, i64::MIN)] {
            let name = format!("caf of {rate:e} Hz, packets of {packet}, {length} bytes");
            files.push((name, caf(rate, packet, length)));
        }
    }
    files
}

/// A WAV of 32-bit floats, among them some that are no numbers.
fn wav(rate: u32, channels: u16) -> Vec<u8> {
    let mut bytes = b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0\x03\0".to_vec();
    bytes.extend(channels.to_le_bytes());
    bytes.extend(rate.to_le_bytes());
    bytes.extend(rate.wrapping_mul(4).wrapping_mul(channels.into()).to_le_bytes());
    bytes.extend(channels.wrapping_mul(4).to_le_bytes());
    bytes.extend(b"\x20\0data\xff\xff\xff\xff");
    let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN_POSITIVE, 0.5];
    bytes.extend(odd.iter().cycle().take(4_000).flat_map(|sample| sample.to_le_bytes()));
    bytes
}

/// A CAF of 16-bit samples (Apple Core Audio Format Specification 1.0).
fn caf(rate: f64, packet: u32, length: i64) -> Vec<u8> {
    let mut bytes = b"caff\0\x01\0\0desc\0\0\0\0\0\0\0\x20".to_vec();
    bytes.extend(rate.to_be_bytes());
    bytes.extend(b"lpcm\0\0\0\0");
    for number in [packet, 1, 1, 16] {
        bytes.extend(number.to_be_bytes());
    }
    bytes.extend(b"data");
    bytes.extend(length.to_be_bytes());
    bytes.resize(bytes.len() + 4_000, 0x11);
    bytes
}

/// An hour of silence in packets of 120 ms, each of two bytes: Ogg Opus of about 95 KB.
pub(super) fn opus_bomb() -> Vec<u8> {
    use ogg::writing::{PacketWriteEndInfo, PacketWriter};
    let mut writer = PacketWriter::new(Vec::new());
    let head = b"OpusHead\x01\x01\0\0\x80\xbb\0\0\0\0\0".as_slice();
    let tags = b"OpusTags\0\0\0\0\0\0\0\0".as_slice();
    writer.write_packet(head, 1, PacketWriteEndInfo::EndPage, 0).unwrap();
    writer.write_packet(tags, 1, PacketWriteEndInfo::EndPage, 0).unwrap();
    let packets = 30_000;
    for index in 1..=packets {
        let end = match index {
            index if index == packets => PacketWriteEndInfo::EndStream,
            _ => PacketWriteEndInfo::NormalPacket,
        };
        // Six frames of 20 ms without content.
        writer.write_packet([0xfb, 6].as_slice(), 1, end, index * 5_760).unwrap();
    }
    writer.into_inner()
}
