//! FLAC to samples and samples to WAV: for the local model, and for servers that do not take FLAC.

use hansard_provider::Cause;

/// The one sample rate of segments.
pub(crate) const SAMPLE_RATE: u32 = 16_000;

/// Why audio is not what a segment must be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AudioError {
    #[error("not FLAC, or damaged: {0}")]
    Flac(#[from] claxon::Error),
    #[error(
        "segment is {rate} Hz with {channels} channels and {bits} bits; 16 kHz mono with at most 16 bits is expected"
    )]
    Shape { rate: u32, channels: u32, bits: u32 },
    #[error("segment is longer than {0} ms; lower the splitter's longest segment")]
    TooLong(u64),
}

impl AudioError {
    pub(crate) fn cause(&self) -> Cause {
        match self {
            Self::Flac(_) | Self::Shape { .. } => Cause::UnsupportedAudio,
            Self::TooLong(_) => Cause::TooLarge,
        }
    }
}

/// Decodes a segment to 16-bit samples, at most `ms_max` milliseconds of them.
pub(crate) fn decode_flac(bytes: &[u8], ms_max: u64) -> Result<Vec<i16>, AudioError> {
    let mut reader = claxon::FlacReader::new(bytes)?;
    let info = reader.streaminfo();
    let (rate, channels, bits) = (info.sample_rate, info.channels, info.bits_per_sample);
    if rate != SAMPLE_RATE || channels != 1 || bits > 16 {
        return Err(AudioError::Shape { rate, channels, bits });
    }
    // The header's count of samples is not believed: the decoded ones are counted.
    let samples_max = ms_max.saturating_mul(u64::from(SAMPLE_RATE) / 1000);
    let mut samples = Vec::new();
    for sample in reader.samples() {
        if samples.len() as u64 >= samples_max {
            return Err(AudioError::TooLong(ms_max));
        }
        let full_scale = sample? << (16 - bits);
        samples.push(i16::try_from(full_scale).unwrap_or(if full_scale < 0 { i16::MIN } else { i16::MAX }));
    }
    Ok(samples)
}

/// The milliseconds that so many samples last.
pub(crate) fn duration_ms(samples: usize) -> i64 {
    i64::try_from(samples as u64 * 1000 / u64::from(SAMPLE_RATE)).unwrap_or(i64::MAX)
}

/// A WAV file of these samples: 16 kHz, mono, 16 bits.
pub(crate) fn encode_wav(samples: &[i16]) -> Vec<u8> {
    let data = u32::try_from(samples.len() * 2).unwrap_or(u32::MAX - 36);
    let mut file = Vec::with_capacity(44 + samples.len() * 2);
    file.extend_from_slice(b"RIFF");
    file.extend_from_slice(&(data + 36).to_le_bytes());
    file.extend_from_slice(b"WAVEfmt ");
    file.extend_from_slice(&16u32.to_le_bytes());
    file.extend_from_slice(&1u16.to_le_bytes()); // PCM
    file.extend_from_slice(&1u16.to_le_bytes()); // channels
    file.extend_from_slice(&SAMPLE_RATE.to_le_bytes());
    file.extend_from_slice(&(SAMPLE_RATE * 2).to_le_bytes()); // bytes a second
    file.extend_from_slice(&2u16.to_le_bytes()); // bytes a frame
    file.extend_from_slice(&16u16.to_le_bytes()); // bits a sample
    file.extend_from_slice(b"data");
    file.extend_from_slice(&data.to_le_bytes());
    file.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
    file
}
