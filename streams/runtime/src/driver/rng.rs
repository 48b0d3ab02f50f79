//! A small seeded generator (SplitMix64, <https://prng.di.unimi.it/splitmix64.c>): the one source of chance in a world.

/// The generator.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// The same seed gives the same numbers.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 where that is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.bits() % bound }
    }

    /// An index of a collection of `len`; 0 where that is 0.
    pub fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap_or(0)
    }

    /// A length of time from 0 to `max`, both included, in milliseconds.
    pub fn millis(&mut self, max: i64) -> i64 {
        i64::try_from(self.below(max.max(0).unsigned_abs() + 1)).unwrap_or(0)
    }

    /// True so many times in 10,000.
    pub fn chance(&mut self, per_10_000: u32) -> bool {
        per_10_000 > 0 && self.below(10_000) < u64::from(per_10_000)
    }
}
