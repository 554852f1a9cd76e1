//! Second factors: codes of an authenticator (RFC 6238), recovery codes, and taking factors away.
//!
//! A secret is sealed under the key file. A code counts once: its step is used up by a conditional update, and so is a
//! recovery code, of which a keyed hash is all that is kept.

use super::{error::Error, model::Factors, service::Identity, throttle::Throttle, totp};
use crate::{
    kernel::{Act, Actor, Email, Secret, TenantId, UserId, rng::random_bytes},
    store::{Scope, Tx},
};

/// Bytes of an authenticator's secret (RFC 4226 section 4, R6: 160 bits).
const SECRET_BYTES: usize = 20;
/// Recovery codes a person gets.
const RECOVERY_CODES: usize = 10;
/// Characters of a code of an authenticator.
const CODE_DIGITS: usize = 6;

/// An authenticator to be set up.
#[derive(Debug)]
pub struct TotpOffer {
    /// The secret in base 32, for who types it.
    pub secret: Secret,
    /// The secret as authenticators read it from a picture: `otpauth://totp/…`.
    pub uri: Secret,
}

/// Who acts, on whose factors, and in which tenant's name.
#[derive(Debug, Clone, Copy)]
pub struct FactorChange {
    /// Who.
    pub actor: Actor,
    /// Whose.
    pub user: UserId,
    /// In whose name.
    pub tenant: Option<TenantId>,
}

impl Identity {
    /// What a person has beside the password.
    pub async fn factors(&self, user: UserId) -> Result<Factors, Error> {
        let mut tx = self.store.read(Scope::Job("factors")).await?;
        let totp = tx.totp(user).await?.is_some_and(|factor| factor.confirmed_at.is_some());
        Ok(Factors { totp, passkeys: tx.passkeys(user).await?, recovery_codes: tx.recovery_codes_left(user).await? })
    }

    /// Offers a person an authenticator; it counts once they have shown a code of it.
    pub async fn offer_totp(&self, user: UserId, email: &Email) -> Result<TotpOffer, Error> {
        let secret = random_bytes::<SECRET_BYTES>(&*self.rng);
        let sealed = self.master.seal(&sealed_as(user), &secret, &*self.rng)?;
        let mut tx = self.store.begin(Scope::Job("factors")).await?;
        if !tx.totp_offer(user, &sealed, self.clock.now()).await? {
            return Err(Error::InvalidLink);
        }
        tx.commit().await?;
        let text = totp::base32(&secret);
        let issuer = url::Url::parse(self.issuer()).ok().and_then(|url| url.host_str().map(str::to_owned));
        let issuer = issuer.unwrap_or_else(|| "tollgate".to_owned());
        let encode = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let (label, name) = (encode(email.as_str()), encode(&issuer));
        let uri =
            format!("otpauth://totp/{name}:{label}?secret={text}&issuer={name}&algorithm=SHA1&digits=6&period=30");
        Ok(TotpOffer { secret: Secret::new(text), uri: Secret::new(uri) })
    }

    /// Takes an authenticator that was offered, by a code of it; recovery codes, where there are none yet.
    pub async fn confirm_totp(&self, user: UserId, code: &Secret) -> Result<Vec<Secret>, Error> {
        let (counters, now) = ([Throttle::factor(user)], self.clock.now());
        self.begin_factor(user, &counters).await?;
        let mut tx = self.store.begin(Scope::Job("factors")).await?;
        let offered = tx.totp(user).await?.filter(|factor| factor.confirmed_at.is_none()).ok_or(Error::InvalidLink)?;
        let secret = self.master.unseal(&sealed_as(user), &offered.sealed_secret)?;
        let Some(step) = totp::step_of(&secret, &plain(code), now) else {
            self.note_factor(&mut tx, own(user), "factor.failed", "totp that is set up").await?;
            tx.commit().await?;
            return Err(Error::WrongFactor);
        };
        if !tx.totp_confirm(user, &offered.sealed_secret, step, now).await? {
            return Err(Error::InvalidLink);
        }
        let codes = self.first_recovery_codes(&mut tx, user).await?;
        self.note_factor(&mut tx, own(user), "factor.added", "totp").await?;
        tx.commit().await?;
        self.throttle.succeeded(&counters);
        Ok(codes)
    }

    /// Recovery codes for who has none left.
    pub(super) async fn first_recovery_codes(&self, tx: &mut Tx, user: UserId) -> Result<Vec<Secret>, Error> {
        if tx.recovery_codes_left(user).await? > 0 {
            Ok(Vec::new())
        } else {
            self.replace_recovery_codes(tx, user).await
        }
    }

    /// New recovery codes in the place of the old ones.
    pub async fn renew_recovery_codes(&self, user: UserId) -> Result<Vec<Secret>, Error> {
        let mut tx = self.store.begin(Scope::Job("factors")).await?;
        let codes = self.replace_recovery_codes(&mut tx, user).await?;
        self.note_factor(&mut tx, own(user), "factor.recovery_codes_renewed", "recovery_codes").await?;
        tx.commit().await?;
        Ok(codes)
    }

    async fn replace_recovery_codes(&self, tx: &mut Tx, user: UserId) -> Result<Vec<Secret>, Error> {
        let codes: Vec<Secret> = (0..RECOVERY_CODES)
            .map(|_| {
                let text = totp::base32(&random_bytes::<10>(&*self.rng)).to_lowercase();
                Secret::new(format!("{}-{}-{}-{}", &text[..4], &text[4..8], &text[8..12], &text[12..]))
            })
            .collect();
        let hashes: Vec<[u8; 32]> = codes.iter().map(|code| self.recovery_hash(user, &plain(code))).collect();
        tx.recovery_codes_replace(user, &hashes).await?;
        Ok(codes)
    }

    fn recovery_hash(&self, user: UserId, code: &str) -> [u8; 32] {
        self.master.digest(format!("recovery {user} {code}").as_bytes())
    }

    /// An error unless this is a code of the person's authenticator, or a recovery code; it is used up.
    pub(super) async fn check_code(&self, user: UserId, code: &Secret) -> Result<(), Error> {
        let (counters, now, code) = ([Throttle::factor(user)], self.clock.now(), plain(code));
        self.begin_factor(user, &counters).await?;
        let mut tx = self.store.begin(Scope::Job("factors")).await?;
        let digits = code.len() == CODE_DIGITS && code.bytes().all(|byte| byte.is_ascii_digit());
        let right = if digits {
            match self.confirmed_secret(&mut tx, user).await?.and_then(|secret| totp::step_of(&secret, &code, now)) {
                Some(step) => tx.totp_use(user, step).await?,
                None => false,
            }
        } else {
            let found = tx.recovery_code_use(user, &self.recovery_hash(user, &code), now).await?;
            if found {
                self.note_factor(&mut tx, own(user), "factor.recovery_code_used", "recovery_codes").await?;
            }
            found
        };
        if right {
            tx.commit().await?;
            self.throttle.succeeded(&counters);
            return Ok(());
        }
        self.note_factor(&mut tx, own(user), "factor.failed", "code").await?;
        tx.commit().await?;
        Err(Error::WrongFactor)
    }

    async fn confirmed_secret(&self, tx: &mut Tx, user: UserId) -> Result<Option<zeroize::Zeroizing<Vec<u8>>>, Error> {
        let factor = tx.totp(user).await?.filter(|factor| factor.confirmed_at.is_some());
        factor.map(|factor| self.master.unseal(&sealed_as(user), &factor.sealed_secret)).transpose()
    }

    /// Takes a person's authenticator away.
    pub async fn remove_totp(&self, user: UserId) -> Result<(), Error> {
        let mut tx = self.store.begin(Scope::Job("factors")).await?;
        if tx.totp_delete(user).await? {
            self.note_factor(&mut tx, own(user), "factor.removed", "totp").await?;
            self.forget_lone_codes(&mut tx, user).await?;
            tx.commit().await?;
        }
        Ok(())
    }

    /// Recovery codes stand for a factor; without any they are nothing.
    pub(super) async fn forget_lone_codes(&self, tx: &mut Tx, user: UserId) -> Result<(), Error> {
        let totp = tx.totp(user).await?.is_some_and(|factor| factor.confirmed_at.is_some());
        if !totp && tx.passkeys(user).await?.is_empty() {
            tx.recovery_codes_replace(user, &[]).await?;
        }
        Ok(())
    }

    /// Takes all of somebody's factors away, in the name of an administrator. A tenant's own may do so only for people who
    /// belong nowhere else.
    pub async fn reset_factors(&self, change: FactorChange) -> Result<(), Error> {
        let FactorChange { user, tenant, .. } = change;
        let mut tx = self.store.begin(Scope::Job("factors")).await?;
        let shared = tx.memberships_of_user(user).await?.iter().any(|place| Some(place.tenant_id) != tenant);
        if matches!(change.actor, Actor::User(_)) && shared {
            return Err(Error::SharedUser);
        }
        tx.totp_delete(user).await?;
        tx.passkeys_delete(user).await?;
        tx.recovery_codes_replace(user, &[]).await?;
        self.note_factor(&mut tx, change, "factor.reset", "all").await?;
        Ok(tx.commit().await?)
    }

    pub(super) async fn note_factor(
        &self,
        tx: &mut Tx,
        change: FactorChange,
        action: &'static str,
        what: &str,
    ) -> Result<(), Error> {
        let FactorChange { actor, user, tenant } = change;
        self.note(tx, Act { actor, action, tenant, subject: user.to_string(), detail: Some(what.to_owned()) }).await
    }
}

/// A person changes what is theirs.
pub(super) const fn own(user: UserId) -> FactorChange {
    FactorChange { actor: Actor::User(user), user, tenant: None }
}

/// What people type between the characters of a code does not count, nor does their case.
fn plain(code: &Secret) -> String {
    let plain = code.expose().chars().filter(|c| !c.is_whitespace() && *c != '-');
    plain.take(64).collect::<String>().to_lowercase()
}

fn sealed_as(user: UserId) -> String {
    format!("totp {user}")
}
