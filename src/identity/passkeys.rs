//! Passkeys (`WebAuthn` Level 2) as second factors: any authenticator that checks its user, without attestation.
//!
//! What a browser was asked to sign is kept sealed until it answers, once. Browsers know passkeys under names of domains
//! alone: where the issuer is an address of IP there are none.

use std::sync::Arc;

use serde::{Serialize, de::DeserializeOwned};
use webauthn_rs::prelude::{
    CreationChallengeResponse, Passkey, PasskeyAuthentication, PasskeyRegistration, PublicKeyCredential,
    RegisterPublicKeyCredential, RequestChallengeResponse, Webauthn, WebauthnBuilder,
};

use super::{
    error::Error,
    factors::own,
    model::{PasskeyRow, Proof},
    service::Identity,
    throttle::{Origin, Throttle},
};
use crate::{
    kernel::{Email, Secret, UserId, ids::uuid_v7},
    store::Scope,
};

/// A browser has this long to answer, in seconds.
const CHALLENGE_TTL_S: i64 = 300;
const REGISTER: &str = "register";
const SIGN_IN: &str = "sign-in";
/// The most passkeys a person has.
const MOST: usize = 20;

/// The party that passkeys are for; `None` where the issuer has no domain.
pub(super) fn relying_party(issuer: &str) -> Option<Arc<Webauthn>> {
    let url = url::Url::parse(issuer).ok()?;
    let domain = url.domain()?.to_owned();
    let builder = WebauthnBuilder::new(&domain, &url).ok()?.rp_name("Tollgate");
    builder.build().ok().map(Arc::new)
}

impl Identity {
    /// Whether people can have passkeys here.
    pub const fn has_passkeys(&self) -> bool {
        self.passkeys.is_some()
    }

    /// What a browser makes a new passkey of. `session` is the secret of the browser that asks.
    pub async fn begin_passkey(
        &self,
        session: &Secret,
        user: UserId,
        email: &Email,
    ) -> Result<CreationChallengeResponse, Error> {
        let party = self.party()?;
        let known = self.passkeys_of(user).await?;
        if known.len() >= MOST {
            return Err(Error::WrongFactor);
        }
        let known = known.iter().map(|(_, passkey)| passkey.cred_id().clone()).collect();
        let begun = party.start_passkey_registration(user.as_uuid(), email.as_str(), email.as_str(), Some(known));
        let (challenge, state) = begun.map_err(refused)?;
        self.keep(session, REGISTER, user, &state).await?;
        Ok(challenge)
    }

    /// Takes a new passkey; recovery codes, where there are none yet.
    pub async fn finish_passkey(
        &self,
        session: &Secret,
        user: UserId,
        name: &str,
        answer: &RegisterPublicKeyCredential,
    ) -> Result<Vec<Secret>, Error> {
        let state: PasskeyRegistration = self.take(session, REGISTER, user).await?;
        let passkey = self.party()?.finish_passkey_registration(answer, &state).map_err(refused)?;
        let now = self.clock.now();
        let row = PasskeyRow {
            id: uuid_v7(now, &*self.rng),
            user_id: user,
            credential_id: passkey.cred_id().as_slice().to_vec(),
            name: name.to_owned(),
            passkey: written(&passkey)?,
            created_at: now,
            used_at: None,
        };
        let mut tx = self.store.begin(Scope::Job("factors")).await?;
        if !tx.passkey_insert(&row).await? {
            return Err(Error::WrongFactor);
        }
        let codes = self.first_recovery_codes(&mut tx, user).await?;
        self.note_factor(&mut tx, own(user), "factor.added", &format!("passkey {}", row.id)).await?;
        tx.commit().await?;
        Ok(codes)
    }

    /// What a browser that gave the password has to sign.
    pub async fn begin_passkey_sign_in(&self, pending: &Secret) -> Result<RequestChallengeResponse, Error> {
        let user = self.pending_user(pending).await?.ok_or(Error::InvalidLink)?;
        let known: Vec<Passkey> = self.passkeys_of(user.id).await?.into_iter().map(|(_, passkey)| passkey).collect();
        if known.is_empty() {
            return Err(Error::WrongFactor);
        }
        let (challenge, state) = self.party()?.start_passkey_authentication(&known).map_err(refused)?;
        self.keep(pending, SIGN_IN, user.id, &state).await?;
        Ok(challenge)
    }

    /// Signs a browser in by what it signed: the secret of its cookie.
    pub async fn finish_by_passkey(
        &self,
        pending: &Secret,
        answer: &PublicKeyCredential,
        origin: &Origin,
    ) -> Result<Secret, Error> {
        let user = self.pending_user(pending).await?.ok_or(Error::InvalidLink)?;
        let (counters, now) = ([Throttle::factor(user.id)], self.clock.now());
        self.begin_factor(user.id, &counters).await?;
        let state: PasskeyAuthentication = self.take(pending, SIGN_IN, user.id).await?;
        let result = match self.party()?.finish_passkey_authentication(answer, &state) {
            Ok(result) => result,
            Err(error) => {
                let mut tx = self.store.begin(Scope::Job("factors")).await?;
                self.note_factor(&mut tx, own(user.id), "factor.failed", "passkey").await?;
                tx.commit().await?;
                return Err(refused(error));
            }
        };
        let known = self.passkeys_of(user.id).await?;
        let shown = known.into_iter().find(|(_, passkey)| passkey.cred_id() == result.cred_id());
        let (row, mut passkey) = shown.ok_or(Error::WrongFactor)?;
        passkey.update_credential(&result);
        let mut tx = self.store.begin(Scope::Job("factors")).await?;
        // Its counter moves on once; an answer that crossed with another is not taken.
        if !tx.passkey_use(row.id, &row.passkey, &written(&passkey)?, now).await? {
            return Err(Error::WrongFactor);
        }
        tx.commit().await?;
        self.throttle.succeeded(&counters);
        self.promote(pending, &user, Proof::Passkey, origin).await
    }

    /// Takes one of a person's passkeys away.
    pub async fn remove_passkey(&self, user: UserId, id: &str) -> Result<(), Error> {
        let Ok(id) = id.parse() else { return Ok(()) };
        let mut tx = self.store.begin(Scope::Job("factors")).await?;
        if tx.passkey_delete(user, id).await? {
            self.note_factor(&mut tx, own(user), "factor.removed", &format!("passkey {id}")).await?;
            self.forget_lone_codes(&mut tx, user).await?;
            tx.commit().await?;
        }
        Ok(())
    }

    async fn passkeys_of(&self, user: UserId) -> Result<Vec<(PasskeyRow, Passkey)>, Error> {
        let rows = self.store.read(Scope::Job("factors")).await?.passkeys(user).await?;
        let read = |row: PasskeyRow| match serde_json::from_str(&row.passkey) {
            Ok(passkey) => Ok((row, passkey)),
            Err(_) => Err(Error::Key("of a passkey cannot be read")),
        };
        rows.into_iter().map(read).collect()
    }

    fn party(&self) -> Result<&Webauthn, Error> {
        self.passkeys.as_deref().ok_or(Error::WrongFactor)
    }

    async fn keep(&self, session: &Secret, purpose: &str, user: UserId, state: &impl Serialize) -> Result<(), Error> {
        let hash = self.master.hash(session);
        let sealed = self.master.seal(&format!("passkey {purpose} {user}"), written(state)?.as_bytes(), &*self.rng)?;
        let expires_at = self.clock.now().plus_secs(CHALLENGE_TTL_S);
        let mut tx = self.store.begin(Scope::Job("factors")).await?;
        tx.passkey_challenge_put(&hash, purpose, user, &sealed, expires_at).await?;
        Ok(tx.commit().await?)
    }

    async fn take<T: DeserializeOwned>(&self, session: &Secret, purpose: &str, user: UserId) -> Result<T, Error> {
        let (hash, now) = (self.master.hash(session), self.clock.now());
        let mut tx = self.store.begin(Scope::Job("factors")).await?;
        let sealed = tx.passkey_challenge_take(&hash, purpose, user, now).await?.ok_or(Error::WrongFactor)?;
        tx.commit().await?;
        let state = self.master.unseal(&format!("passkey {purpose} {user}"), &sealed)?;
        serde_json::from_slice(&state).map_err(|_| Error::Key("of a passkey cannot be read"))
    }
}

fn written(value: &impl Serialize) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|_| Error::Key("of a passkey cannot be written"))
}

#[expect(clippy::needless_pass_by_value, reason = "errors are handed over, not lent")]
fn refused(error: webauthn_rs::prelude::WebauthnError) -> Error {
    tracing::info!(%error, "a passkey was refused");
    Error::WrongFactor
}
