//! Fetching: the real package client where it works, broken ones where each error must show its remedy.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::recordings::model;
use crate::fetch::{FetchError, Fetcher, Progress, fetch};
use crate::package::{LocalModel, ModelFiles, VOICE, Wheel};

const WHEEL: Wheel = Wheel { file: "tested.whl", sha256: EMPTY_SHA256, bytes: 1_000 };
const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn fetcher(data_dir: &Path, python: impl Into<PathBuf>) -> Fetcher {
    let python = python.into().into_os_string();
    Fetcher { models: data_dir.join("models"), package: &VOICE, wheel: WHEEL, python, room_bytes: 1 << 20 }
}

/// A program in place of python3; `$dest` is the folder that pip is to download to.
fn script(folder: &Path, body: &str) -> PathBuf {
    let path = folder.join("python");
    let dest = "for dest; do :; done";
    fs::write(&path, format!("#!/bin/sh\n{dest}\n{body}\n")).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
    path
}

fn no_scratch_left(data_dir: &Path) {
    let left: Vec<_> = fs::read_dir(data_dir.join("models")).expect("a folder").flatten().collect();
    assert!(left.iter().all(|entry| entry.file_name() == ".lock"), "{left:?}");
}

#[test]
fn each_failure_says_what_to_do() {
    let pip_works = "[ \"$3\" = --version ] && exit 0; ";
    let table = [
        ("exit 1", "ensurepip"),
        (&format!("{pip_works} echo 'no route to the index' >&2; exit 1"), "pip said: no route to the index"),
        (
            &format!("{pip_works} echo x > \"$dest/other.whl\""),
            "pip said: it chose another file for this system",
        ),
        (&format!("{pip_works} echo x > \"$dest/tested.whl\""), EMPTY_SHA256),
        (
            &format!(
                "{pip_works} case $1 in -m) : > \"$dest/tested.whl\";; *) echo 'no zip' >&2; exit 1;; esac"
            ),
            "tested.whl: no zip",
        ),
    ];
    for (body, remedy) in table {
        let data_dir = tempfile::tempdir().expect("a folder");
        let python = script(data_dir.path(), body);
        let error = fetcher(data_dir.path(), python).run(&mut |_| {}).expect_err(remedy).to_string();
        assert!(error.contains(remedy), "{remedy:?} is missing in {error:?}");
        no_scratch_left(data_dir.path());
        assert_eq!(ModelFiles::find(data_dir.path()), None);
    }
}

#[test]
fn a_missing_python_and_a_full_disk_are_told() {
    let data_dir = tempfile::tempdir().expect("a folder");
    let error = fetcher(data_dir.path(), "/nonexistent/python3").run(&mut |_| {}).expect_err("no python");
    assert!(matches!(error, FetchError::NoPython), "{error}");
    assert!(error.to_string().contains("install python3"), "{error}");
    let full = Fetcher { room_bytes: u64::MAX, ..fetcher(data_dir.path(), "/nonexistent/python3") };
    let error = full.run(&mut |_| {}).expect_err("no room");
    assert!(matches!(error, FetchError::NoSpace { needed: u64::MAX, .. }), "{error}");
    assert!(error.to_string().contains("set another cache folder"), "{error}");
    no_scratch_left(data_dir.path());
}

#[test]
fn a_folder_that_cannot_be_written_is_told() {
    let data_dir = tempfile::NamedTempFile::new().expect("a file");
    let error = fetcher(data_dir.path(), "python3").run(&mut |_| {}).expect_err("a file is no folder");
    assert!(error.to_string().contains("set another cache folder"), "{error}");
}

#[test]
fn what_is_there_is_used_without_any_program() {
    let files = model();
    let library = files.library();
    let data_dir = library.ancestors().nth(4).expect("the cache");
    let mut seen = Vec::new();
    let again = fetch(data_dir, LocalModel::Tiny, &mut |progress| seen.push(progress)).expect("it is there");
    assert_eq!((&again, seen), (files, vec![]));
    assert!(files.recordings().iter().all(|recording| recording.path.exists()));
}

#[test]
fn progress_grows_and_two_processes_fetch_once() {
    let data_dir = tempfile::tempdir().expect("a folder");
    let (log, part_seen) = (data_dir.path().join("calls"), data_dir.path().join("part-seen"));
    let library = model().library();
    let whole = library.ancestors().nth(2).expect("the unpacked package");
    let part = Progress::Downloading { bytes: 700, of: 1_000 };
    // Downloads a part, the rest once the watcher has seen that, and unpacks by copying the real files.
    let body = format!(
        "[ \"$3\" = --version ] && exit 0\n\
         if [ \"$2\" = pip ]; then echo download >> {log}; head -c 700 /dev/zero > \"$dest/part\"\n\
         until [ -e {seen} ]; do sleep 0.01; done; : > \"$dest/tested.whl\"; else cp -r {whole} \"$4\"; fi",
        log = log.display(),
        seen = part_seen.display(),
        whole = whole.display()
    );
    let python = script(data_dir.path(), &body);
    let run = || {
        let mut seen = Vec::new();
        let files = fetcher(data_dir.path(), &python).run(&mut |progress| {
            if progress == part {
                fs::write(&part_seen, b"").expect("written");
            }
            seen.push(progress);
        });
        (files.expect("fetched"), seen)
    };
    let (one, two) = std::thread::scope(|scope| {
        let other = scope.spawn(run);
        (run(), other.join().expect("no panic"))
    });
    assert_eq!(one.0, two.0);
    assert_eq!(ModelFiles::find(data_dir.path()), Some(one.0));
    assert_eq!(fs::read_to_string(&log).expect("calls"), "download\n", "only one of them downloads");
    let (first, second) = if one.1.contains(&Progress::Verifying) { (one.1, two.1) } else { (two.1, one.1) };
    assert!(first.contains(&part), "{first:?}");
    assert_eq!(first[first.len() - 2..], [Progress::Verifying, Progress::Unpacking]);
    assert!(second.is_empty() || second == [Progress::Waiting], "{second:?}");
}

#[test]
fn files_put_there_by_hand_need_no_network() {
    let data_dir = tempfile::tempdir().expect("a folder");
    let models = data_dir.path().join("models");
    fs::create_dir(&models).expect("a folder");
    fs::write(models.join(WHEEL.file), b"").expect("written");
    let library = model().library();
    let whole = library.ancestors().nth(2).expect("the unpacked package").display().to_string();
    let python = script(data_dir.path(), &format!("[ \"$2\" = pip ] && exit 1; cp -r {whole} \"$4\""));
    let files = fetcher(data_dir.path(), python).run(&mut |_| {}).expect("no pip is needed");
    assert!(files.library().exists());
}
