//! What holds a child, tried by children: each test asks a real one for what it must not be able to do.

use super::{child, runtime, wav};
use crate::error::AudioError;
use crate::process::Process;
use crate::protocol::{Kind, Request, Shape};
use crate::{Decoder, Format, Limits};

#[test]
fn a_child_is_held_by_the_kernel() {
    let decoder = Decoder::new(child(), Limits::default());
    let allowed = runtime().block_on(decoder.uncontained()).unwrap();
    assert!(allowed.is_empty(), "a child can {allowed:?}");
}

#[test]
fn a_program_that_is_no_child_contains_nothing() {
    let refused = runtime().block_on(Decoder::new("/bin/false", Limits::default()).uncontained());
    assert_eq!(refused.unwrap_err().code(), "decode_crashed");
}

/// A child that writes to a file is given nothing to read but that.
#[test]
fn the_file_to_write_is_made_or_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("merged.wav");
    for _ in ["made", "replaced"] {
        let shape = Shape { sample_rate: 8_000, channels: 1, copied: None };
        let limits = Limits::default();
        let request = Request::Encode { path: path.clone(), format: Format::Wav, shape, limits };
        runtime().block_on(async {
            let mut process = Process::start(child(), &request).await.unwrap();
            process.send(Kind::Samples, &[1, 2, 3, 4]).await.unwrap();
            process.send(Kind::End, &[]).await.unwrap();
            assert_eq!(process.next().await.unwrap(), Kind::Report);
            process.finish().await.unwrap();
        });
        assert_eq!(std::fs::read(&path).unwrap().len(), 44 + 4);
    }
}

#[test]
fn a_link_leads_to_its_file() {
    let directory = tempfile::tempdir().unwrap();
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(wav(), &link).unwrap();
    assert_eq!(super::split(&link).unwrap(), super::split(&wav()).unwrap());
    std::fs::remove_file(&link).unwrap();
    assert!(matches!(super::split(&link).unwrap_err(), AudioError::Io { .. }));
}
