//! The packages that hold the local models, with their pinned hashes: what is fetched, and what of it is used.

use std::fs;
use std::path::{Path, PathBuf};

use crate::fetch::FetchError;

/// The models of the local provider; both know English only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LocalModel {
    /// Moonshine tiny: 260 MB, about 0.1 of real time on a free core.
    #[default]
    Tiny,
    /// Moonshine base: fewer word errors, 630 MB, about 0.4 of real time on a free core.
    Base,
}

/// The name of Moonshine tiny.
pub const LOCAL_MODEL: &str = "moonshine-tiny-en";
/// The name of Moonshine base.
pub const LOCAL_BASE_MODEL: &str = "moonshine-base-en";

impl LocalModel {
    /// What it is called in options and results.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tiny => LOCAL_MODEL,
            Self::Base => LOCAL_BASE_MODEL,
        }
    }

    /// What the library calls its architecture.
    pub(crate) fn architecture(self) -> u32 {
        match self {
            Self::Tiny => 0,
            Self::Base => 1,
        }
    }
}

/// A Python package of which files are used.
pub(crate) struct Package {
    /// Its name and version.
    pub(crate) requirement: &'static str,
    /// The folder that it is unpacked to.
    pub(crate) folder: &'static str,
    /// What is used of it, beside all of `moonshine_voice.libs/`.
    pub(crate) members: &'static [&'static str],
    /// For which system it is asked for, where any will do since only data is used of it.
    pub(crate) platform: Option<&'static str>,
    /// Room for it, its contents, and what the package client keeps beside them, in bytes.
    pub(crate) room_bytes: u64,
}

/// The package's file for one platform.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wheel {
    pub(crate) file: &'static str,
    pub(crate) sha256: &'static str,
    pub(crate) bytes: u64,
}

/// The native library, the tiny model and three recordings. Later versions hold no model.
pub(crate) const VOICE: Package = Package {
    requirement: "moonshine-voice==0.0.73",
    folder: "moonshine-voice-0.0.73",
    members: &[
        "moonshine_voice/libmoonshine.so",
        "moonshine_voice/assets/tiny-en/decoder_model_merged.ort",
        "moonshine_voice/assets/tiny-en/encoder_model.ort",
        "moonshine_voice/assets/tiny-en/tokenizer.bin",
        "moonshine_voice/assets/beckett.wav",
        "moonshine_voice/assets/endgame_nagg_nell.wav",
        "moonshine_voice/assets/two_cities.wav",
        "moonshine_voice-0.0.73.dist-info/licenses/LICENSE",
    ],
    platform: None,
    room_bytes: 320 << 20,
};

/// The base model, which the library of [`VOICE`] reads; the package's own, older library is left alone.
pub(crate) const BASE: Package = Package {
    requirement: "moonshine-cpp==0.1.4",
    folder: "moonshine-cpp-0.1.4",
    members: &[
        "moonshine_cpp-0.1.4.data/purelib/moonshine_cpp/models/base-en/decoder_model_merged.ort",
        "moonshine_cpp-0.1.4.data/purelib/moonshine_cpp/models/base-en/encoder_model.ort",
        "moonshine_cpp-0.1.4.data/purelib/moonshine_cpp/models/base-en/tokenizer.bin",
        "moonshine_cpp-0.1.4.data/purelib/moonshine_cpp/LICENSE",
    ],
    platform: Some("manylinux2014_x86_64"),
    room_bytes: 256 << 20,
};

/// The only file of [`BASE`].
pub(crate) const BASE_WHEEL: Wheel = Wheel {
    file: "moonshine_cpp-0.1.4-py3-none-manylinux2014_x86_64.whl",
    sha256: "f7afc662bdd3ef98815ee3b940438b456e77d5a77cea5396ed9c572785412ebd",
    bytes: 54_645_697,
};

const X86_64: Wheel = Wheel {
    file: "moonshine_voice-0.0.73-py3-none-manylinux_2_34_x86_64.whl",
    sha256: "6461c8097ed78d054c46b4c821143008a07b5fa1f4169674493ccfa06c1407db",
    bytes: 56_320_672,
};
const AARCH64: Wheel = Wheel {
    file: "moonshine_voice-0.0.73-py3-none-manylinux_2_34_aarch64.whl",
    sha256: "c56de7614b18bbc65d8f4f2cb7432d8a258311aef38a49e9e16c8d06df8085f0",
    bytes: 55_105_425,
};

/// The file of [`VOICE`] for this system.
pub(crate) fn voice_wheel() -> Result<Wheel, FetchError> {
    match (std::env::consts::OS, std::env::consts::ARCH) {
        ("linux", "x86_64") => Ok(X86_64),
        ("linux", "aarch64") => Ok(AARCH64),
        (os, arch) => Err(FetchError::Platform(format!("{os} on {arch}"))),
    }
}

impl Package {
    /// Whether all that is used of it is below `models`.
    pub(crate) fn is_in(&self, models: &Path) -> bool {
        let folder = models.join(self.folder);
        let is_whole = |member: &&str| fs::metadata(folder.join(member)).is_ok_and(|found| found.len() > 0);
        self.members.iter().all(is_whole)
    }
}

/// The unpacked files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelFiles {
    models: PathBuf,
}

/// A real recording that comes with the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recording {
    /// A short name.
    pub name: &'static str,
    /// A WAV file, mono, 16 bits, of 16, 24 or 48 kHz.
    pub path: PathBuf,
    /// How long it lasts, in milliseconds.
    pub duration_ms: i64,
}

impl ModelFiles {
    /// The files as an earlier run left them in `data_dir`, if the library and the tiny model are all there.
    pub fn find(data_dir: &Path) -> Option<Self> {
        let models = data_dir.join("models");
        VOICE.is_in(&models).then_some(Self { models })
    }

    /// Whether this model is among them.
    #[must_use]
    pub fn has(&self, model: LocalModel) -> bool {
        match model {
            LocalModel::Tiny => VOICE.is_in(&self.models),
            LocalModel::Base => BASE.is_in(&self.models),
        }
    }

    /// The native library.
    pub fn library(&self) -> PathBuf {
        self.models.join(VOICE.folder).join("moonshine_voice/libmoonshine.so")
    }

    /// The folder of a model.
    #[must_use]
    pub fn model(&self, model: LocalModel) -> PathBuf {
        let (package, folder) = match model {
            LocalModel::Tiny => (&VOICE, "moonshine_voice/assets/tiny-en"),
            LocalModel::Base => (&BASE, "moonshine_cpp-0.1.4.data/purelib/moonshine_cpp/models/base-en"),
        };
        self.models.join(package.folder).join(folder)
    }

    /// The recordings, shortest first.
    pub fn recordings(&self) -> [Recording; 3] {
        let recording = |name, file, duration_ms| {
            let path = self.models.join(VOICE.folder).join("moonshine_voice/assets").join(file);
            Recording { name, path, duration_ms }
        };
        [
            recording("beckett", "beckett.wav", 9_963),
            recording("endgame", "endgame_nagg_nell.wav", 28_277),
            recording("two-cities", "two_cities.wav", 44_374),
        ]
    }
}
