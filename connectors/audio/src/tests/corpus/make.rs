//! Makes the corpus' files by their recipes. None of them has a name that says anything.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::super::{tool, wav};
use super::fetch;
use super::table::{Expected, Frames, Row};

/// Files that one run of ffmpeg counts.
const COUNTED_AT_ONCE: usize = 16;

/// All files, ready to be read.
pub(super) struct Corpus {
    pub(super) rows: Vec<Row>,
    directory: tempfile::TempDir,
    /// Files by their rows' names.
    paths: HashMap<String, PathBuf>,
    /// What ffmpeg counts in them.
    counts: HashMap<String, u64>,
}

impl Corpus {
    /// Fetches and makes all of it.
    pub(super) fn make(rows: &[Row]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut corpus =
            Self { rows: rows.to_vec(), directory, paths: HashMap::new(), counts: HashMap::new() };
        // The end of a sentence, a pause, the beginning of another.
        let (from, to) = (text(&wav()), text(&corpus.source()));
        tool("sox", &[&from, &to, "trim", "2.5", "2.003"]);
        let mut folders: HashMap<&str, PathBuf> = HashMap::new();
        for (number, row) in rows.iter().enumerate() {
            let path = match row.file.split_once('/') {
                Some((source, name)) => {
                    let folder = folders.entry(source).or_insert_with(|| fetch::directory(source));
                    let copy = corpus.place(number);
                    let original = folder.join(name);
                    std::fs::copy(&original, &copy)
                        .unwrap_or_else(|cause| panic!("{}: {cause}", original.display()));
                    copy
                }
                None => corpus.place(number),
            };
            let earlier = corpus.paths.insert(row.file.clone(), path);
            assert!(earlier.is_none(), "two rows for {}", row.file);
        }
        corpus.encode();
        for row in rows {
            corpus.derive(row);
        }
        corpus.count();
        corpus
    }

    /// The recording that most are made of: 48 kHz, stereo.
    pub(super) fn source(&self) -> PathBuf {
        self.directory.path().join("source.wav")
    }

    pub(super) fn path(&self, file: &str) -> PathBuf {
        self.paths.get(file).unwrap_or_else(|| panic!("no row for {file}")).clone()
    }

    /// The samples per channel that a row is to have.
    pub(super) fn frames(&self, row: &Row, frames: Frames) -> u64 {
        match frames {
            Frames::Counted(count) => count,
            Frames::AsFfmpeg { .. } => self.counts[&row.file],
        }
    }

    fn place(&self, number: usize) -> PathBuf {
        self.directory.path().join(number.to_string())
    }

    /// Encodes all files that ffmpeg makes, in one run of it, since starting it costs more than a file does. Its first input is
    /// the recording, its second a film without sound.
    fn encode(&self) {
        let source = text(&self.source());
        let film = "testsrc=d=2:r=5:s=64x48";
        let mut words = words("-nostdin -loglevel error -y -i");
        words.extend([source.clone()]);
        words.extend(["-f".into(), "lavfi".into(), "-i".into(), film.into()]);
        for row in &self.rows {
            let path = text(&self.path(&row.file));
            match row.recipe.split_first() {
                Some((program, arguments)) if program == "ffmpeg" => {
                    if !arguments.contains(&"-map".to_owned()) {
                        words.extend(["-map".into(), "0:a".into()]);
                    }
                    words.extend(arguments.iter().cloned());
                    words.push(path);
                }
                Some((program, arguments)) if program == "opusenc" => {
                    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
                    tool("opusenc", &[&arguments[..], &["--quiet", &source, &path]].concat());
                }
                _ => {}
            }
        }
        run("ffmpeg", &words);
    }

    /// Makes a file of others, or of nothing.
    fn derive(&self, row: &Row) {
        let recipe: Vec<&str> = row.recipe.iter().map(String::as_str).collect();
        let read = |name: &str| std::fs::read(self.path(name)).unwrap();
        let bytes = match recipe[..] {
            [] | ["ffmpeg" | "opusenc", ..] => return,
            ["half", name] => {
                let whole = read(name);
                whole[..whole.len() / 2].to_vec()
            }
            ["join", ref names @ ..] => names.iter().flat_map(|name| read(name)).collect(),
            ["behind", tag, name] => [id3(tag.parse().unwrap()), read(name)].concat(),
            ["set", name, key, offset, bytes] => {
                set(read(name), &hex(key), offset.parse().unwrap(), &hex(bytes))
            }
            ["sbr", name] => sbr(&read(name)),
            ["hex", ref bytes @ ..] => hex(&bytes.concat()),
            _ => panic!("{}: no recipe {recipe:?}", row.file),
        };
        std::fs::write(self.path(&row.file), bytes).unwrap();
    }

    /// Has ffmpeg count the samples of the files where that is asked for, many in one run.
    fn count(&mut self) {
        let asked =
            |row: &&Row| matches!(row.expected, Expected::Decoded { frames: Frames::AsFfmpeg { .. }, .. });
        let files: Vec<String> = self.rows.iter().filter(asked).map(|row| row.file.clone()).collect();
        for files in files.chunks(COUNTED_AT_ONCE) {
            // Damage is of no interest, however much there is.
            let mut words = words("-nostdin -loglevel error -max_error_rate 1 -y");
            for file in files {
                words.extend(["-i".into(), text(&self.path(file))]);
            }
            for (number, file) in files.iter().enumerate() {
                let map = format!("{number}:a:0");
                words.extend(["-map", &map, "-ac", "1", "-f", "s16le"].map(str::to_owned));
                words.push(text(&self.decoded(file)));
            }
            run("ffmpeg", &words);
        }
        for file in files {
            let count = std::fs::metadata(self.decoded(&file)).unwrap().len() / 2;
            std::fs::remove_file(self.decoded(&file)).unwrap();
            self.counts.insert(file, count);
        }
    }

    /// Where ffmpeg puts the samples of a file.
    fn decoded(&self, file: &str) -> PathBuf {
        self.path(file).with_extension("raw")
    }
}

fn run(program: &str, words: &[String]) {
    tool(program, &words.iter().map(String::as_str).collect::<Vec<_>>());
}

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

fn hex(digits: &str) -> Vec<u8> {
    let pairs = digits.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// Overwrites bytes so many after the beginning of the first place that has the key.
fn set(mut file: Vec<u8>, key: &[u8], offset: usize, bytes: &[u8]) -> Vec<u8> {
    let place = file.windows(key.len()).position(|window| window == key).expect("the key is there") + offset;
    file[place..place + bytes.len()].copy_from_slice(bytes);
    file
}

/// An ID3 tag with a picture of so many bytes (<https://id3.org/id3v2.3.0>).
fn id3(bytes: usize) -> Vec<u8> {
    let sized = |size: usize| [21, 14, 7, 0].map(|shift| u8::try_from(size >> shift & 0x7f).unwrap());
    let mut tag = b"ID3\x03\x00\x00".to_vec();
    tag.extend(sized(bytes + 10));
    tag.extend(b"APIC");
    tag.extend(u32::try_from(bytes).unwrap().to_be_bytes());
    tag.extend([0, 0]);
    // What other formats begin with is no sound here.
    tag.extend(b"RIFF\x24\x00\x00\x00WAVEfmt \xff\xfe\xff\xfb".iter().cycle().take(bytes));
    tag
}

/// ADTS of which each packet has a filling element with SBR data before its end, as HE-AAC has.
fn sbr(adts: &[u8]) -> Vec<u8> {
    const HEAD: usize = 7;
    let (mut rest, mut out) = (adts, Vec::new());
    while rest.len() > HEAD {
        let length = usize::from(rest[3] & 3) << 11 | usize::from(rest[4]) << 3 | usize::from(rest[5] >> 5);
        let (packet, after) = rest.split_at(length);
        rest = after;
        let body = with_sbr(&packet[HEAD..]);
        let length = HEAD + body.len();
        let mut head = packet[..HEAD].to_vec();
        head[3] = head[3] & !3 | u8::try_from(length >> 11).unwrap();
        head[4] = u8::try_from(length >> 3 & 0xff).unwrap();
        head[5] = head[5] & 0x1f | u8::try_from(length << 5 & 0xe0).unwrap();
        out.extend(head);
        out.extend(body);
    }
    out
}

fn with_sbr(packet: &[u8]) -> Vec<u8> {
    let mut bits: Vec<u8> =
        packet.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)).collect();
    // The end's mark is the last of what is set.
    bits.truncate(bits.iter().rposition(|bit| *bit == 1).unwrap() + 1 - 3);
    // A filling element of two bytes, of SBR data, then the mark.
    for (value, count) in [(6, 3), (2, 4), (13, 4), (0, 12), (7, 3)] {
        bits.extend((0..count).rev().map(|bit| u8::from(value >> bit & 1_u16 == 1)));
    }
    bits.resize(bits.len().next_multiple_of(8), 0);
    bits.chunks(8).map(|byte| byte.iter().fold(0, |byte, bit| byte << 1 | bit)).collect()
}
