//! Randomness, passed in: the operating system's in production, a seeded one where a run must repeat.

use std::sync::Mutex;

/// A source of random bytes. `fill` never fails: a machine whose random source is broken must not run at all.
pub trait Rng: Send + Sync {
    /// Fills `buffer` with random bytes.
    fn fill(&self, buffer: &mut [u8]);
}

/// `N` random bytes.
pub fn random_bytes<const N: usize>(rng: &dyn Rng) -> [u8; N] {
    let mut bytes = [0_u8; N];
    rng.fill(&mut bytes);
    bytes
}

/// The operating system's random source (`getrandom(2)`).
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemRng;

impl Rng for SystemRng {
    #[expect(clippy::disallowed_methods, reason = "the one place that asks the operating system")]
    fn fill(&self, buffer: &mut [u8]) {
        // Proof of the panic's rightness: keys made from anything but real randomness are worse than no server.
        getrandom::fill(buffer).expect("the operating system's random source does not answer");
    }
}

/// A repeatable source for tests and simulations: BLAKE3 in counter mode over a seed. Never for keys that matter.
#[derive(Debug)]
pub struct SeededRng {
    stream: Mutex<blake3::OutputReader>,
}

impl SeededRng {
    /// The same seed gives the same bytes.
    pub fn new(seed: u64) -> Self {
        let stream = blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof();
        Self { stream: Mutex::new(stream) }
    }
}

impl Rng for SeededRng {
    fn fill(&self, buffer: &mut [u8]) {
        // A poisoned lock means a panic inside `OutputReader::fill`, which has none.
        self.stream.lock().unwrap_or_else(std::sync::PoisonError::into_inner).fill(buffer);
    }
}
