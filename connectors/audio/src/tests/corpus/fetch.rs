//! Fetches the packages whose files are in the corpus, once, by the package clients of the machine. They are pinned by their
//! hashes, and kept below `HANSARD_CACHE`.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::super::tool;

/// A package that is fetched.
struct Package {
    folder: &'static str,
    file: &'static str,
    sha256: &'static str,
    /// The client and its arguments; the directory to download into follows.
    client: &'static [&'static str],
    /// What is unpacked, and how many directories lie above it.
    members: (&'static str, &'static str),
}

const LENA: Package = Package {
    folder: "audio-lena-3.0.1",
    file: "audio-lena-3.0.1.tgz",
    sha256: "8b0e9d6cc58e264563f410da76b292e3770448670314b52bfae3764a876fc283",
    client: &["npm", "pack", "--silent", "audio-lena@3.0.1", "--pack-destination"],
    members: ("package/lena*", "--strip-components=1"),
};

const MUTAGEN: Package = Package {
    folder: "mutagen-1.48.1",
    file: "mutagen-1.48.1.tar.gz",
    sha256: "8f95637ab9f6f305cec6bd1294e197debe207998e3e068596563c74f86b0a173",
    client: &[
        "python3",
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--no-binary=:all:",
        "mutagen==1.48.1",
        "--dest",
    ],
    members: ("*/tests/data/*", "--strip-components=3"),
};

/// The directory of the files that a row's first word before the stroke names.
pub(super) fn directory(source: &str) -> PathBuf {
    match source {
        "lena" => package(&LENA),
        "mutagen" => package(&MUTAGEN),
        "claxon" => of_crate("claxon-0.4.3"),
        "hound" => of_crate("hound-3.5.1"),
        "mp4parse" => of_foreign_crate("mp4parse", "0.17.0"),
        other => panic!("no source {other}"),
    }
}

/// Where downloads are kept.
fn cache() -> PathBuf {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("HANSARD_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|base| base.join("hansard")))
        .or_else(|| set("HOME").map(|home| home.join(".cache/hansard")))
        .expect("no home directory; set HANSARD_CACHE")
        .join("audio")
}

fn package(package: &Package) -> PathBuf {
    let folder = cache().join(package.folder);
    if folder.is_dir() {
        return folder;
    }
    std::fs::create_dir_all(cache()).unwrap();
    let scratch = tempfile::tempdir_in(cache()).unwrap();
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let (client, arguments) = package.client.split_first().unwrap();
    let into = text(scratch.path());
    tool(client, &[arguments, &[&into]].concat());
    let archive = scratch.path().join(package.file);
    let found = Sha256::digest(std::fs::read(&archive).unwrap());
    let found: String = found.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(found, package.sha256, "{} is not the tested file", package.file);
    let unpacked = scratch.path().join("unpacked");
    std::fs::create_dir(&unpacked).unwrap();
    let (members, strip) = package.members;
    let (archive, into) = (text(&archive), text(&unpacked));
    tool("tar", &["-xzf", &archive, "-C", &into, strip, "--wildcards", members]);
    // Another test may have been faster; both have the same files.
    if let Err(cause) = std::fs::rename(&unpacked, &folder) {
        assert!(folder.is_dir(), "{}: {cause}", folder.display());
    }
    folder
}

/// The test samples of a crate that the workspace uses elsewhere, where cargo has unpacked it.
fn of_crate(name: &str) -> PathBuf {
    unpacked(name, "testsamples", || {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        tool(env!("CARGO"), &["fetch", "--quiet", "--locked", "--manifest-path", manifest.to_str().unwrap()]);
    })
}

/// The tests' files of a crate that nothing here uses. Cargo checks its hash.
fn of_foreign_crate(name: &str, version: &str) -> PathBuf {
    unpacked(&format!("{name}-{version}"), "tests", || {
        let scratch = tempfile::tempdir().unwrap();
        let manifest = scratch.path().join("Cargo.toml");
        let package =
            "[package]\nname = \"scratch\"\nedition = \"2024\"\n[workspace]\n[lib]\npath = \"lib.rs\"\n";
        std::fs::write(&manifest, format!("{package}[dependencies]\n{name} = \"={version}\"\n")).unwrap();
        std::fs::write(scratch.path().join("lib.rs"), "").unwrap();
        tool(env!("CARGO"), &["fetch", "--quiet", "--manifest-path", manifest.to_str().unwrap()]);
    })
}

/// A folder of a crate where cargo has unpacked it, after it was fetched if it has to be.
fn unpacked(name: &str, folder: &str, fetch: impl FnOnce()) -> PathBuf {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cargo"));
    let find = || {
        let registries = std::fs::read_dir(home.join("registry/src")).ok()?;
        let mut places = registries.map(|registry| registry.unwrap().path().join(name).join(folder));
        places.find(|place| place.is_dir())
    };
    find().unwrap_or_else(|| {
        fetch();
        find().unwrap_or_else(|| panic!("cargo has not unpacked {name}"))
    })
}
