//! Passwords: argon2id on blocking threads behind a semaphore, and what is too easy to guess.
//!
//! A password is the bytes that were sent; it is not normalised, so that what was set once keeps working.

use std::sync::{
    Arc, Mutex, OnceLock, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use argon2::{Algorithm, Argon2, Block, Params, PasswordVerifier, Version, password_hash::phc};
use tokio::sync::Semaphore;

use super::{error::Error, model::PasswordHash};
use crate::kernel::{Rng, Secret, rng::random_bytes};

/// OWASP Password Storage Cheat Sheet, argon2id: m = 19456 (19 MiB), t = 2, p = 1.
const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// Shortest password, in characters, whatever its strength.
const MIN_CHARS: usize = 8;
/// From this many characters on, a password need only not be a common one.
const LONG_CHARS: usize = 12;
/// Longest password, in bytes: more only costs time.
const MAX_BYTES: usize = 256;
/// zxcvbn is quadratic; what comes after this many characters cannot make a password weaker.
const SCORED_CHARS: usize = 72;
/// zxcvbn's scores run from 0 to 4; 3 is "safely unguessable" offline with a slow hash.
const MIN_SCORE: zxcvbn::Score = zxcvbn::Score::Three;
/// Below this, zxcvbn gets there within a million guesses by its lists (30,000 common passwords, names, words), keyboards,
/// repetitions, dates and the hints: such a password is a common one, however long.
const UNCOMMON: zxcvbn::Score = zxcvbn::Score::Two;

/// Hashes and checks passwords.
#[derive(Clone)]
pub(super) struct Passwords {
    permits: Arc<Semaphore>,
    concurrency: usize,
    rng: Arc<dyn Rng>,
    memory: Memory,
    /// Checked for users that do not exist, so that they take as long.
    nobody: Arc<OnceLock<PasswordHash>>,
    /// Hashes computed so far.
    done: Arc<AtomicU64>,
}

/// What a check of a password found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is another.
    Wrong,
    /// It is this one.
    Right,
    /// It is this one, and its hash was made with other parameters than today's.
    RightAndOutdated,
}

impl Passwords {
    /// At most `concurrency` hashes at once: each takes 19 MiB and a core.
    pub(super) fn new(concurrency: usize, rng: Arc<dyn Rng>) -> Self {
        let concurrency = concurrency.max(1);
        Self {
            permits: Arc::new(Semaphore::new(concurrency)),
            concurrency,
            rng,
            memory: Memory::default(),
            nobody: Arc::default(),
            done: Arc::default(),
        }
    }

    /// Hashes computed so far, for tests of who costs how much.
    pub(super) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    pub(super) async fn hash(&self, password: &Secret) -> Result<PasswordHash, Error> {
        let (password, salt) = (password.clone(), random_bytes::<16>(&*self.rng));
        self.on_a_blocking_thread(|| Ok(()), move |memory| hash(&password, &salt, memory)).await?
    }

    /// Whether a password is the one of a hash; without a hash the same work is done and the answer is no. `may_try` is asked
    /// when it is this check's turn.
    pub(super) async fn verify(
        &self,
        password: &Secret,
        stored: Option<PasswordHash>,
        may_try: impl FnOnce() -> Result<(), Error>,
    ) -> Result<Verdict, Error> {
        let (password, nobody) = (password.clone(), Arc::clone(&self.nobody));
        let salt = random_bytes::<16>(&*self.rng);
        self.on_a_blocking_thread(may_try, move |memory| {
            // Made within the first check of all, whoever it is for.
            let nobody = nobody.get_or_init(|| {
                let hash = hash(&Secret::new("nobody".into()), &salt, memory);
                hash.unwrap_or(PasswordHash::from_phc(String::new()))
            });
            let known = stored.is_some();
            let stored = stored.unwrap_or_else(|| nobody.clone());
            let Ok(parsed) = phc::PasswordHash::new(stored.as_str()) else { return Verdict::Wrong };
            // A password that is too long was never set; it costs the same.
            let outdated = is_outdated(&parsed);
            let matches = if outdated {
                argon2().verify_password(password.expose().as_bytes(), &parsed).is_ok()
            } else {
                let salt = parsed.salt.as_deref().unwrap_or_default();
                // Outputs are compared in constant time.
                digest(&password, salt, memory).is_some_and(|output| parsed.hash == Some(output))
            };
            match (matches && known, outdated) {
                (false, _) => Verdict::Wrong,
                (true, false) => Verdict::Right,
                (true, true) => Verdict::RightAndOutdated,
            }
        })
        .await
    }

    async fn on_a_blocking_thread<T: Send + 'static>(
        &self,
        may_begin: impl FnOnce() -> Result<(), Error>,
        work: impl FnOnce(&mut [Block]) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| Error::Stopped)?;
        may_begin()?;
        self.done.fetch_add(1, Ordering::Relaxed);
        let this = self.clone();
        // The permit goes with the work: a caller that goes away does not end it.
        let work = tokio::task::spawn_blocking(move || {
            let mut memory = this.memory.take();
            let done = work(&mut memory);
            let busy = this.permits.available_permits() + 1 < this.concurrency;
            this.memory.give_back(memory, busy);
            drop(permit);
            done
        });
        work.await.map_err(|_| Error::Stopped)
    }
}

/// Memory of hashes that are done, for the next ones: making the system hand out and clear 19 MiB costs as much as a third of
/// a hash.
#[derive(Clone, Default)]
struct Memory {
    idle: Arc<Mutex<Vec<Vec<Block>>>>,
}

impl Memory {
    fn take(&self) -> Vec<Block> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        idle.unwrap_or_else(|| vec![Block::default(); argon2().params().block_count()])
    }

    /// Keeps all of it while others compute, too, and that of one hash when nobody does.
    fn give_back(&self, memory: Vec<Block>, busy: bool) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.push(memory);
        if !busy {
            idle.truncate(1);
            idle.shrink_to_fit();
        }
    }
}

/// Whether a hash was made with other parameters than today's.
fn is_outdated(hash: &phc::PasswordHash) -> bool {
    let wanted = [("m", MEMORY_KIB), ("t", PASSES), ("p", LANES)];
    let same = wanted.iter().all(|(name, value)| hash.params.get_decimal(*name) == Some(*value));
    !same || hash.algorithm.as_str() != "argon2id"
}

fn argon2() -> Argon2<'static> {
    // The numbers lie within argon2's bounds.
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).unwrap_or_default();
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

/// argon2id with today's parameters.
fn digest(password: &Secret, salt: &[u8], memory: &mut [Block]) -> Option<phc::Output> {
    let mut output = [0; Params::DEFAULT_OUTPUT_LEN];
    argon2().hash_password_into_with_memory(password.expose().as_bytes(), salt, &mut output, memory).ok()?;
    phc::Output::new(&output).ok()
}

fn hash(password: &Secret, salt: &[u8], memory: &mut [Block]) -> Result<PasswordHash, Error> {
    let mut hashed = || {
        Some(phc::PasswordHash {
            algorithm: Algorithm::Argon2id.ident(),
            version: Some(Version::V0x13.into()),
            params: argon2().params().try_into().ok()?,
            salt: Some(phc::Salt::new(salt).ok()?),
            hash: Some(digest(password, salt, memory)?),
        })
    };
    let hashed = hashed().ok_or(Error::Key("a password could not be hashed"))?;
    Ok(PasswordHash::from_phc(hashed.to_string()))
}

/// Refuses a password that is too short, too long or too easy to guess; `hints` are what an attacker tries first.
pub(super) fn check_strength(password: &Secret, hints: &[&str]) -> Result<(), Error> {
    let text = password.expose();
    if text.chars().count() < MIN_CHARS {
        return Err(Error::WeakPassword(format!("must be at least {MIN_CHARS} characters long")));
    }
    if text.len() > MAX_BYTES {
        return Err(Error::WeakPassword(format!("must be at most {MAX_BYTES} bytes long")));
    }
    let scored: String = text.chars().take(SCORED_CHARS).collect();
    let entropy = zxcvbn::zxcvbn(&scored, hints);
    let long_enough = text.chars().count() >= LONG_CHARS && entropy.score() >= UNCOMMON;
    if entropy.score() >= MIN_SCORE || long_enough {
        return Ok(());
    }
    let advice = entropy.feedback().map(|feedback| {
        let warning = feedback.warning().map(|warning| warning.to_string());
        let suggestions = feedback.suggestions().iter().map(ToString::to_string);
        warning.into_iter().chain(suggestions).collect::<Vec<_>>().join(" ")
    });
    Err(Error::WeakPassword(format!("is too easy to guess. {}", advice.unwrap_or_default()).trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use argon2::PasswordHasher as _;

    use super::*;
    use crate::kernel::SeededRng;

    #[tokio::test]
    async fn a_password_is_checked_and_an_unknown_user_takes_the_same_way() {
        let passwords = Passwords::new(1, Arc::new(SeededRng::new(1)));
        let right = Secret::new("correct horse battery".into());
        let hash = passwords.hash(&right).await.unwrap();
        assert!(hash.as_str().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert!(argon2().verify_password(right.expose().as_bytes(), hash.as_str()).is_ok(), "others can check it");
        let check = async |text: &str, hash: Option<PasswordHash>| {
            passwords.verify(&Secret::new(text.into()), hash, || Ok(())).await.unwrap()
        };
        assert_eq!(check(right.expose(), Some(hash.clone())).await, Verdict::Right);
        assert_eq!(check("wrong", Some(hash)).await, Verdict::Wrong);
        assert_eq!(check("nobody", None).await, Verdict::Wrong);
        let refused = passwords.verify(&right, None, || Err(Error::WrongCredentials)).await;
        assert!(refused.is_err());
        // The hash of nobody is made once, within the first check, and is not counted.
        assert_eq!(passwords.done(), 4, "a check that was refused costs nothing");
    }

    #[tokio::test]
    async fn a_caller_that_goes_away_leaves_no_room_for_another() {
        let passwords = Passwords::new(1, Arc::new(SeededRng::new(1)));
        let secret = Secret::new("correct horse battery".into());
        tokio::select! {
            biased;
            _ = passwords.hash(&secret) => panic!("a hash takes longer than that"),
            () = tokio::task::yield_now() => {}
        }
        assert_eq!(passwords.permits.available_permits(), 0);
    }

    #[tokio::test]
    async fn a_hash_of_other_parameters_is_outdated() {
        let passwords = Passwords::new(1, Arc::new(SeededRng::new(1)));
        let params = Params::new(8 * 1024, 1, 1, None).unwrap();
        let weak = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let hash: phc::PasswordHash = weak.hash_password_with_salt(b"violet-Harbour-42", &[7; 16]).unwrap();
        let hash = PasswordHash::from_phc(hash.to_string());
        let verdict = passwords.verify(&Secret::new("violet-Harbour-42".into()), Some(hash), || Ok(())).await;
        assert_eq!(verdict.unwrap(), Verdict::RightAndOutdated);
    }

    #[test]
    fn weak_passwords_are_refused_with_a_reason() {
        let weak = |text: &str| check_strength(&Secret::new(text.into()), &["ada@example.com", "Acme"]).is_err();
        for text in ["", "short", "password", "12345678", "aaaaaaaaaaaa", "ada@example.com", "qwertyuiop"] {
            assert!(weak(text), "{text}");
        }
        for common in ["password1234", "qwertyuiop123", "abcabcabcabcabc", "letmein123456", "iloveyou2026"] {
            assert!(weak(common), "{common} is long, and common");
        }
        assert!(weak(&"violet-Harbour-42".repeat(20)), "too long");
        // Long and not common, or short and strong.
        for fine in ["wunderbar-Kaffee-7-Uhr", "kettle-trombone", "kV9#qLw2xZ"] {
            assert!(!weak(fine), "{fine}");
        }
    }
}
