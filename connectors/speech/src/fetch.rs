//! Fetching the local models: Python packages that hold a native library, models and three recordings, through
//! the user's own package client, so that the user's mirrors, proxies and certificates apply.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use crate::package::{BASE, BASE_WHEEL, LocalModel, ModelFiles, Package, VOICE, Wheel, voice_wheel};

const DOWNLOAD_WITHIN: Duration = Duration::from_secs(20 * 60);

/// Unpacks the members named by its arguments; the package's hash was checked before.
const UNPACK: &str = "import sys, zipfile\n\
    package = zipfile.ZipFile(sys.argv[1])\n\
    wanted = [n for n in package.namelist() if n in sys.argv[3:] or n.startswith('moonshine_voice.libs/')]\n\
    package.extractall(sys.argv[2], wanted)\n";

/// Why the model is not there; each text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The package has no file for this system.
    #[error(
        "the local speech model runs on Linux on x86_64 and aarch64 only, not on {0}; \
         configure an openai provider instead"
    )]
    Platform(String),
    /// There is no Python.
    #[error(
        "python3 is needed once to fetch the local speech model and was not found; install python3 and python3-pip"
    )]
    NoPython,
    /// Python has no package client.
    #[error(
        "python3 has no pip, which is needed once to fetch the local speech model; install python3-pip, \
         or run `python3 -m ensurepip`"
    )]
    NoPip,
    /// The package client failed.
    #[error(
        "pip could not download {package}; check the network and `python3 -m pip config list`, that this system has \
         glibc 2.34 or later, or put the file {file} into {}; pip said: {said}", .folder.display()
    )]
    Download {
        /// The package.
        package: &'static str,
        /// The file that is wanted.
        file: &'static str,
        /// Where it may be put by hand.
        folder: PathBuf,
        /// The end of what the client wrote.
        said: String,
    },
    /// The download did not end.
    #[error("the download of {package} took more than {} minutes and was stopped; check the network", .within.as_secs() / 60)]
    TooSlow {
        /// The package.
        package: &'static str,
        /// How long it was waited.
        within: Duration,
    },
    /// The file is not the one that was tested.
    #[error(
        "{} is not the tested file: its SHA-256 is {found}, expected {expected}; \
         if it was put there by hand remove it, else check the package index that pip uses", .file.display()
    )]
    WrongHash {
        /// The file.
        file: PathBuf,
        /// The hash that it has.
        found: String,
        /// The hash that is pinned.
        expected: &'static str,
    },
    /// The disk is too full.
    #[error(
        "{} has {free} bytes free, and fetching the local speech model takes {needed}; free some, \
         or set another cache folder", .folder.display()
    )]
    NoSpace {
        /// Where it was to be put.
        folder: PathBuf,
        /// Bytes free.
        free: u64,
        /// Bytes needed.
        needed: u64,
    },
    /// The package could not be unpacked.
    #[error("cannot unpack {}: {said}", .file.display())]
    Unpack {
        /// The package.
        file: PathBuf,
        /// What went wrong.
        said: String,
    },
    /// A file could not be read or written.
    #[error("cannot use {}: {source}; check its permissions, or set another cache folder", .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// How far fetching has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Another process fetches the same files; this one waits for it.
    Waiting,
    /// So many bytes are here, of so many.
    Downloading {
        /// Bytes here; at most `of`.
        bytes: u64,
        /// Bytes of the whole package.
        of: u64,
    },
    /// The hash is checked.
    Verifying,
    /// The files are unpacked.
    Unpacking,
}

/// Makes sure that a model is in `data_dir`, with the library that every model needs, and fetches it if it is not: a package
/// of about 55 MB each, of which the tiny one has the library too. Blocks, for seconds to minutes.
///
/// Safe in several processes at once: one fetches, the others wait. Safe to kill at any time: the files appear
/// whole or not at all. Works without the network once the files are there, or once the package's file was put
/// into `<data_dir>/models/` by hand.
///
/// # Errors
/// See [`FetchError`]; each says what to do.
pub fn fetch(
    data_dir: &Path,
    model: LocalModel,
    progress: &mut dyn FnMut(Progress),
) -> Result<ModelFiles, FetchError> {
    let of = |package: &'static Package, wheel| Fetcher {
        models: data_dir.join("models"),
        package,
        wheel,
        python: "python3".into(),
        room_bytes: package.room_bytes,
    };
    let files = match ModelFiles::find(data_dir) {
        Some(files) => files,
        None => of(&VOICE, voice_wheel()?).run(progress)?,
    };
    if files.has(model) { Ok(files) } else { of(&BASE, BASE_WHEEL).run(progress) }
}

/// One run of fetching, with what tests need to vary.
pub(crate) struct Fetcher {
    pub(crate) models: PathBuf,
    pub(crate) package: &'static Package,
    pub(crate) wheel: Wheel,
    pub(crate) python: OsString,
    pub(crate) room_bytes: u64,
}

impl Fetcher {
    pub(crate) fn run(&self, progress: &mut dyn FnMut(Progress)) -> Result<ModelFiles, FetchError> {
        fs::create_dir_all(&self.models).map_err(at(&self.models))?;
        let _lock = self.lock(progress)?;
        let data_dir = self.models.parent().unwrap_or(Path::new(""));
        if self.package.is_in(&self.models)
            && let Some(files) = ModelFiles::find(data_dir)
        {
            return Ok(files);
        }
        self.check_room()?;
        // The name is fixed since only the holder of the lock uses it; what a killed run left there goes.
        let scratch = self.models.join(format!(".{}.part", self.package.folder));
        remove(&scratch)?;
        fs::create_dir(&scratch).map_err(at(&scratch))?;
        let result = self.fetch_into(&scratch, progress);
        remove(&scratch)?;
        let package = result?;
        let files = ModelFiles::find(data_dir).filter(|_| self.package.is_in(&self.models));
        files.ok_or_else(|| FetchError::Unpack {
            file: package,
            said: "a member is missing or empty".to_owned(),
        })
    }

    /// Waits for the lock. The kernel frees it when its holder ends, however it ends.
    fn lock(&self, progress: &mut dyn FnMut(Progress)) -> Result<File, FetchError> {
        let path = self.models.join(".lock");
        let lock = File::create(&path).map_err(at(&path))?;
        if lock.try_lock().is_err() {
            progress(Progress::Waiting);
            lock.lock().map_err(at(&path))?;
        }
        Ok(lock)
    }

    fn check_room(&self) -> Result<(), FetchError> {
        let found = rustix::fs::statvfs(&self.models).map_err(|error| at(&self.models)(error.into()))?;
        let (free, needed) = (found.f_bavail.saturating_mul(found.f_frsize), self.room_bytes);
        if free < needed {
            return Err(FetchError::NoSpace { folder: self.models.clone(), free, needed });
        }
        Ok(())
    }

    /// Puts the unpacked files in their place; the package's file.
    fn fetch_into(&self, scratch: &Path, progress: &mut dyn FnMut(Progress)) -> Result<PathBuf, FetchError> {
        let by_hand = self.models.join(self.wheel.file);
        let package = if by_hand.exists() { by_hand } else { self.download(scratch, progress)? };
        progress(Progress::Verifying);
        self.check_hash(&package)?;
        progress(Progress::Unpacking);
        let unpacked = scratch.join("unpacked");
        self.unpack(&package, &unpacked)?;
        sync_all(&unpacked)?;
        let folder = self.models.join(self.package.folder);
        remove(&folder)?;
        fs::rename(&unpacked, &folder).map_err(at(&folder))?;
        sync(&self.models)?;
        Ok(package)
    }

    fn download(&self, scratch: &Path, progress: &mut dyn FnMut(Progress)) -> Result<PathBuf, FetchError> {
        let pip =
            self.python_with(&["-m", "pip", "--version"]).output().map_err(|error| self.no_python(error))?;
        if !pip.status.success() {
            return Err(FetchError::NoPip);
        }
        let said = scratch.join("pip.log");
        let log = File::create(&said).map_err(at(&said))?;
        let options = ["--no-deps", "--only-binary=:all:", "--no-input", "--quiet", "--progress-bar=off"];
        let mut child = self
            .python_with(&["-m", "pip", "download", self.package.requirement])
            .args(options)
            .args(self.package.platform.into_iter().flat_map(|platform| ["--platform", platform]))
            .arg("--dest")
            .arg(scratch)
            // The client downloads into its temporary folder: here its progress can be seen, and is cleaned up.
            .env("TMPDIR", scratch)
            .stderr(log)
            .spawn()
            .map_err(|error| self.no_python(error))?;
        let ended = self.watch(&mut child, scratch, progress);
        if !matches!(ended, Ok(true)) {
            // It may have ended by itself; then there is nothing to kill.
            let _ = child.kill();
            let _ = child.wait();
        }
        let package = scratch.join(self.wheel.file);
        match ended? {
            true if package.exists() => Ok(package),
            true => Err(self.download_failed("it chose another file for this system")),
            false => Err(self.download_failed(&tail(&said))),
        }
    }

    fn python_with(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.python);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn no_python(&self, source: io::Error) -> FetchError {
        match source.kind() {
            io::ErrorKind::NotFound => FetchError::NoPython,
            _ => at(Path::new(&self.python))(source),
        }
    }

    fn download_failed(&self, said: &str) -> FetchError {
        let package = self.package.requirement;
        FetchError::Download {
            package,
            file: self.wheel.file,
            folder: self.models.clone(),
            said: said.to_owned(),
        }
    }

    fn watch(
        &self,
        child: &mut std::process::Child,
        scratch: &Path,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<bool, FetchError> {
        let began = Instant::now();
        loop {
            if let Some(status) = child.try_wait().map_err(at(Path::new(&self.python)))? {
                return Ok(status.success());
            }
            if began.elapsed() > DOWNLOAD_WITHIN {
                return Err(FetchError::TooSlow {
                    package: self.package.requirement,
                    within: DOWNLOAD_WITHIN,
                });
            }
            let bytes = bytes_below(scratch).min(self.wheel.bytes);
            progress(Progress::Downloading { bytes, of: self.wheel.bytes });
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn check_hash(&self, package: &Path) -> Result<(), FetchError> {
        let mut file = File::open(package).map_err(at(package))?;
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 1 << 16];
        loop {
            match file.read(&mut buffer).map_err(at(package))? {
                0 => break,
                count => hash.update(&buffer[..count]),
            }
        }
        let found = hex::encode(hash.finalize());
        if found != self.wheel.sha256 {
            return Err(FetchError::WrongHash { file: package.into(), found, expected: self.wheel.sha256 });
        }
        Ok(())
    }

    fn unpack(&self, package: &Path, unpacked: &Path) -> Result<(), FetchError> {
        let output = self
            .python_with(&["-c", UNPACK])
            .args([package, unpacked])
            .args(self.package.members)
            .stderr(Stdio::piped())
            .output()
            .map_err(|error| self.no_python(error))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let said = said.lines().next_back().unwrap_or("no reason given").to_owned();
            return Err(FetchError::Unpack { file: package.into(), said });
        }
        Ok(())
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> FetchError + '_ {
    move |source| FetchError::Io { path: path.to_owned(), source }
}

fn remove(folder: &Path) -> Result<(), FetchError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(folder)(error)),
        _ => Ok(()),
    }
}

fn sync(path: &Path) -> Result<(), FetchError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(at(path))
}

/// Makes a folder and all below it durable, so that the rename never shows a file without its bytes.
fn sync_all(folder: &Path) -> Result<(), FetchError> {
    for entry in fs::read_dir(folder).map_err(at(folder))? {
        let path = entry.map_err(at(folder))?.path();
        if path.is_dir() { sync_all(&path)? } else { sync(&path)? }
    }
    sync(folder)
}

/// The bytes of all files below a folder that another process is writing to; what vanishes meanwhile counts nothing.
fn bytes_below(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() => bytes_below(&entry.path()),
        Ok(found) => found.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

/// The last lines of a log, as one line.
fn tail(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(3)..].join("; ")
}
