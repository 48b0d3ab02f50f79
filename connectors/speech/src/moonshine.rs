//! Moonshine's C library, loaded at run time; used by the child process only.
//! `unsafe` because a C library is called: the layouts and signatures are those of `moonshine-c-api.h`, version
//! 20000, as the package's own `moonshine_voice/moonshine_api.py` states them.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_float, c_int};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;

use libloading::Library;

const HEADER_VERSION: i32 = 20_000;
const SAMPLE_RATE: i32 = 16_000;

#[repr(C)]
struct RawOption {
    name: *const c_char,
    value: *const c_char,
}

#[repr(C)]
struct RawLine {
    text: *const c_char,
    audio: *const c_float,
    audio_count: usize,
    start_s: c_float,
    duration_s: c_float,
    id: u64,
    flags: [i8; 5],
    speaker_spans: *const u8,
    speaker_span_count: u64,
    latency_ms: u32,
    words: *const u8,
    word_count: u64,
}

#[repr(C)]
struct RawTranscript {
    lines: *const RawLine,
    line_count: u64,
}

// A wrong stride would read foreign memory instead of failing, so the sizes are held to the library's own check.
const _: () = assert!(size_of::<RawLine>() == 88 && size_of::<RawTranscript>() == 16);

type LoadFn = unsafe extern "C" fn(*const c_char, u32, *const RawOption, u64, i32) -> i32;
type TranscribeFn =
    unsafe extern "C" fn(i32, *const c_float, u64, i32, u32, *mut *const RawTranscript) -> c_int;
type ErrorTextFn = unsafe extern "C" fn(i32) -> *const c_char;

/// What the library answered instead of doing its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MoonshineError {
    #[error(
        "cannot load the speech library: {0}; fetch the model again, or check that this system has glibc 2.34"
    )]
    Library(#[from] libloading::Error),
    #[error("the path of the model holds a zero byte")]
    Path(#[from] std::ffi::NulError),
    #[error(
        "cannot load the speech model: {0}; raise the child's memory limit, or remove its folder to fetch it again"
    )]
    Model(String),
    #[error("the speech model failed: {0}")]
    Transcribe(String),
}

/// The loaded model. It is never unloaded: the process ends with it.
pub(crate) struct Moonshine {
    transcribe: TranscribeFn,
    error_text: ErrorTextFn,
    /// Recognises all samples as one piece. Its own detection, when on, cuts off the onsets of words: 5.9 % word
    /// errors against 3.4 % without it. But without it silence is heard as "You", so `voice` is asked first.
    words: i32,
    _library: Library,
}

impl Moonshine {
    /// Loads the library and the English model of this architecture in the folder `model`.
    pub(crate) fn load(library: &Path, model: &Path, architecture: u32) -> Result<Self, MoonshineError> {
        // SAFETY: the library is the one whose hash is pinned in `fetch.rs`; its initialisers run in a process
        // that exists for nothing else, and the symbols have the types that its header gives them.
        let (library, load, transcribe, error_text) = unsafe {
            let library = Library::new(library)?;
            let load: LoadFn = *library.get(b"moonshine_load_transcriber_from_files\0")?;
            let transcribe: TranscribeFn = *library.get(b"moonshine_transcribe_without_streaming\0")?;
            let error_text: ErrorTextFn = *library.get(b"moonshine_error_to_string\0")?;
            (library, load, transcribe, error_text)
        };
        let folder = CString::new(model.as_os_str().as_bytes())?;
        let options: [(&CStr, &CStr); 3] =
            [(c"identify_speakers", c"false"), (c"return_audio_data", c"false"), (c"vad_threshold", c"0.0")];
        let options = options.map(|(name, value)| RawOption { name: name.as_ptr(), value: value.as_ptr() });
        // SAFETY: the folder and the options outlive the call, which copies them.
        let words = unsafe {
            load(folder.as_ptr(), architecture, options.as_ptr(), options.len() as u64, HEADER_VERSION)
        };
        if words < 0 {
            return Err(MoonshineError::Model(text_of(error_text, words)));
        }
        Ok(Self { transcribe, error_text, words, _library: library })
    }

    /// The text of these samples (16 kHz, mono, −1 to 1). Hand over at most about 30 s: the memory that the
    /// library takes grows with the length, to 9 GB for minutes.
    pub(crate) fn text(&self, samples: &[f32]) -> Result<String, MoonshineError> {
        if samples.is_empty() {
            return Ok(String::new());
        }
        let mut transcript: *const RawTranscript = ptr::null();
        // SAFETY: the handle came from `load`, the samples outlive the call, and the transcript is an out pointer.
        let code = unsafe {
            let count = samples.len() as u64;
            (self.transcribe)(self.words, samples.as_ptr(), count, SAMPLE_RATE, 0, &raw mut transcript)
        };
        if code != 0 {
            return Err(MoonshineError::Transcribe(text_of(self.error_text, code)));
        }
        // SAFETY: on success the library points at a transcript of its own that lives until the next call on
        // this handle; everything is copied out before this function returns.
        let lines = unsafe {
            match transcript.as_ref() {
                Some(found) if found.line_count > 0 && !found.lines.is_null() => {
                    let count = usize::try_from(found.line_count).unwrap_or(0);
                    std::slice::from_raw_parts(found.lines, count)
                }
                _ => &[],
            }
        };
        let lines = lines.iter().filter(|line| !line.text.is_null()).map(|line| {
            // SAFETY: not null, ended by a zero, and alive until the next call on this handle.
            unsafe { CStr::from_ptr(line.text) }.to_string_lossy().trim().to_owned()
        });
        Ok(lines.collect::<Vec<_>>().join(" ").trim().to_owned())
    }
}

fn text_of(error_text: ErrorTextFn, code: i32) -> String {
    // SAFETY: the function takes any code and answers a static string or null.
    let text = unsafe {
        let text = error_text(code);
        if text.is_null() { None } else { Some(CStr::from_ptr(text).to_string_lossy()) }
    };
    format!("{} (code {code})", text.as_deref().unwrap_or("no reason given"))
}
