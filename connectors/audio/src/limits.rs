//! The limits of one decode or encode, each with its default: what an outsider's file may cost at most.

use serde::{Deserialize, Serialize};

/// Limits of one child process. Time and memory are enforced by the kernel and the parent, the others by the
/// child, which answers with its own code for each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Decoded audio of one input in milliseconds (12 h). Beyond it: `too_long`.
    pub decoded_ms: u64,
    /// Segments of one recording (5,000, the most a chunk may have). Beyond it: `too_many_segments`.
    pub segments: u32,
    /// Processor seconds of the child (900). Beyond it: `decode_limit`.
    pub cpu_seconds: u64,
    /// Seconds on the clock, waiting for the receiver of the segments included (1,800). Beyond it: `decode_timeout`.
    pub wall_seconds: u64,
    /// Address space of the child in bytes (256 MiB). Beyond it: `decode_limit`.
    pub memory_bytes: u64,
    /// Bytes of all segments, or of the merged file (4 GiB). Beyond it: `output_too_large`.
    pub output_bytes: u64,
    /// Bytes of the file with a slice's header that are looked at (1 MiB). A browser's header has less than 1 KiB; what goes
    /// beyond carries pictures or fonts. A longer one is `no_header`.
    pub header_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            decoded_ms: 12 * 3_600_000,
            segments: 5_000,
            cpu_seconds: 900,
            wall_seconds: 1_800,
            memory_bytes: 256 << 20,
            output_bytes: 4 << 30,
            header_bytes: 1 << 20,
        }
    }
}
