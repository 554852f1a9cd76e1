//! Randomness, passed in: the operating system's in production, a seeded one where a run must repeat.

use std::{cell::RefCell, sync::Mutex};

use zeroize::Zeroize as _;

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

/// The operating system's random source (`getrandom(2)`). A thread draws small amounts ahead of need: a call for each id
/// would cost a request more than most of what else it does.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemRng;

/// What a thread draws at once.
const AHEAD: usize = 1_024;
/// The most that comes out of what was drawn ahead.
const SMALL: usize = 32;

/// Bytes drawn ahead; what was given out is wiped.
struct Drawn {
    bytes: [u8; AHEAD],
    given: usize,
}

thread_local! {
    static DRAWN: RefCell<Drawn> = const { RefCell::new(Drawn { bytes: [0; AHEAD], given: AHEAD }) };
}

impl Drawn {
    fn give(&mut self, buffer: &mut [u8]) {
        if self.given + buffer.len() > AHEAD {
            draw(&mut self.bytes);
            self.given = 0;
        }
        let given = &mut self.bytes[self.given..self.given + buffer.len()];
        buffer.copy_from_slice(given);
        given.zeroize();
        self.given += buffer.len();
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that asks the operating system")]
fn draw(buffer: &mut [u8]) {
    // Proof of the panic's rightness: keys made from anything but real randomness are worse than no server.
    getrandom::fill(buffer).expect("the operating system's random source does not answer");
}

impl Rng for SystemRng {
    fn fill(&self, buffer: &mut [u8]) {
        // A thread that ends has nothing drawn any more.
        if buffer.len() > SMALL || DRAWN.try_with(|drawn| drawn.borrow_mut().give(buffer)).is_err() {
            draw(buffer);
        }
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
