//! Passwords: argon2id on blocking threads behind a semaphore, and what is too easy to guess.

use std::sync::{Arc, OnceLock};

use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version, password_hash::phc};
use tokio::sync::Semaphore;

use super::{error::Error, model::PasswordHash};
use crate::kernel::{Rng, Secret, rng::random_bytes};

/// OWASP Password Storage Cheat Sheet, argon2id: m = 19456 (19 MiB), t = 2, p = 1.
const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// Shortest password, in characters.
const MIN_CHARS: usize = 8;
/// Longest password, in bytes: more only costs time.
const MAX_BYTES: usize = 512;
/// zxcvbn is quadratic; what comes after this many characters cannot make a password weaker.
const SCORED_CHARS: usize = 72;
/// zxcvbn's scores run from 0 to 4; 3 is "safely unguessable" offline with a slow hash.
const MIN_SCORE: zxcvbn::Score = zxcvbn::Score::Three;

/// Hashes and checks passwords.
#[derive(Clone)]
pub(super) struct Passwords {
    permits: Arc<Semaphore>,
    rng: Arc<dyn Rng>,
    /// Checked for users that do not exist, so that they take as long.
    nobody: Arc<OnceLock<PasswordHash>>,
}

impl Passwords {
    /// At most `concurrency` hashes at once: each takes 19 MiB and a core.
    pub(super) fn new(concurrency: usize, rng: Arc<dyn Rng>) -> Self {
        Self { permits: Arc::new(Semaphore::new(concurrency.max(1))), rng, nobody: Arc::default() }
    }

    pub(super) async fn hash(&self, password: &Secret) -> Result<PasswordHash, Error> {
        let (password, salt) = (password.clone(), random_bytes::<16>(&*self.rng));
        self.on_a_blocking_thread(move || hash(&password, &salt)).await?
    }

    /// Whether a password is the one of a hash; without a hash the same work is done and the answer is no.
    pub(super) async fn verify(&self, password: &Secret, stored: Option<PasswordHash>) -> Result<bool, Error> {
        let (password, nobody) = (password.clone(), Arc::clone(&self.nobody));
        let salt = random_bytes::<16>(&*self.rng);
        self.on_a_blocking_thread(move || {
            let known = stored.is_some();
            let stored = match stored {
                Some(stored) => stored,
                None => match nobody.get() {
                    Some(nobody) => nobody.clone(),
                    None => nobody
                        .get_or_init(|| {
                            hash(&Secret::new("nobody".into()), &salt).unwrap_or(PasswordHash::from_phc(String::new()))
                        })
                        .clone(),
                },
            };
            let Ok(parsed) = phc::PasswordHash::new(stored.as_str()) else { return false };
            let matches = argon2().verify_password(password.expose().as_bytes(), &parsed).is_ok();
            matches && known
        })
        .await
    }

    async fn on_a_blocking_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let _permit = self.permits.acquire().await.map_err(|_| Error::Stopped)?;
        tokio::task::spawn_blocking(work).await.map_err(|_| Error::Stopped)
    }
}

fn argon2() -> Argon2<'static> {
    // The numbers lie within argon2's bounds.
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).unwrap_or_default();
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

fn hash(password: &Secret, salt: &[u8]) -> Result<PasswordHash, Error> {
    let hashed: phc::PasswordHash = argon2()
        .hash_password_with_salt(password.expose().as_bytes(), salt)
        .map_err(|_| Error::Key("a password could not be hashed"))?;
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
    if entropy.score() >= MIN_SCORE {
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
    use super::*;
    use crate::kernel::SeededRng;

    #[tokio::test]
    async fn a_password_is_checked_and_an_unknown_user_takes_the_same_way() {
        let passwords = Passwords::new(1, Arc::new(SeededRng::new(1)));
        let right = Secret::new("correct horse battery".into());
        let hash = passwords.hash(&right).await.unwrap();
        assert!(hash.as_str().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert!(passwords.verify(&right, Some(hash.clone())).await.unwrap());
        assert!(!passwords.verify(&Secret::new("wrong".into()), Some(hash)).await.unwrap());
        assert!(!passwords.verify(&Secret::new("nobody".into()), None).await.unwrap());
    }

    #[test]
    fn weak_passwords_are_refused_with_a_reason() {
        let weak = |text: &str| check_strength(&Secret::new(text.into()), &["ada@example.com", "Acme"]).is_err();
        for text in ["", "short", "password", "12345678", "aaaaaaaaaaaa", "ada@example.com", "qwertyuiop"] {
            assert!(weak(text), "{text}");
        }
        assert!(weak(&"x".repeat(600)));
        assert!(!weak("wunderbar-Kaffee-7-Uhr"));
    }
}
