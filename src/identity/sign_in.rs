//! Signing in: password, then a second factor where there is one, by JSON or with a browser.
//!
//! Wrong password, unknown email, somebody without a password: one answer, one hash computed, the same queries. What else
//! stands in the way is said after the password was right.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{
    error::Error,
    model::{Browser, PasswordHash, Proof, SeenBrowser, Session, TokenSet},
    password::Verdict,
    rules,
    service::{Identity, Withdrawal},
    sessions::{Also, Entry},
    throttle::Origin,
};
use crate::{
    kernel::{Act, Actor, BrowserId, Email, Secret, SessionId, TenantId, UserId, rng::random_bytes},
    store::{Scope, Tx},
    users::User,
};

/// A browser stays signed in this long, in seconds.
const BROWSER_TTL_S: i64 = 12 * 3_600;
const THROTTLED: &str = "sign_in.throttled";
/// A browser that gave the password has this long for the second factor, in seconds.
const PENDING_TTL_S: i64 = 600;

/// Somebody signs in with a password.
#[derive(Debug, Clone)]
pub struct LoginRequest {
    /// Who.
    pub email: Email,
    /// Proof.
    pub password: Secret,
    /// To which tenant; may be left out by who belongs to one.
    pub tenant: Option<TenantId>,
    /// A code of their authenticator, or a recovery code, for who has a second factor.
    pub otp: Option<Secret>,
}

/// What a password got a browser.
#[derive(Debug)]
pub enum BrowserSignIn {
    /// It is signed in: the secret of its cookie.
    Done(Secret),
    /// It owes the second factor: the secret that says who is asked.
    Pending(Secret),
}

impl Identity {
    /// Signs in with a password, and a code where the user has a second factor.
    pub async fn login(&self, request: LoginRequest, origin: &Origin) -> Result<TokenSet, Error> {
        let (user, proof) = self.prove(&request, origin).await?;
        let mut tx = self.store.begin(Scope::Job("login")).await?;
        let entry = self.entry(&mut tx, &user, request.tenant).await?;
        let now = self.clock.now();
        let (tenant_id, role, scope) = match &entry {
            Entry::Platform => (None, None, rules::admin_scope()),
            Entry::Tenant(place) => (Some(place.tenant_id), Some(place.role), rules::user_scope(place.role)),
        };
        let session = Session {
            id: SessionId::generate(now, &*self.rng),
            user_id: user.id,
            tenant_id,
            client_id: None,
            scope,
            authenticated_at: now,
            proof,
            created_at: now,
            renewed_at: None,
            ended_at: None,
            browser_id: None,
            parent_id: None,
        };
        tx.session_insert(&session, None).await?;
        let refresh_token = self.new_refresh_token(&mut tx, session.id).await?;
        self.note(&mut tx, signed_in(&user, tenant_id, proof, origin)).await?;
        tx.commit().await?;
        let also = Also { refresh_token: Some(refresh_token), ..Also::default() };
        self.token_set(&session, role, session.scope.clone(), also)
    }

    /// Who signs in, and by what they proved it: a password, and a code where they have a second factor.
    pub(super) async fn prove(&self, request: &LoginRequest, origin: &Origin) -> Result<(User, Proof), Error> {
        let user = self.check_password(&request.email, &request.password, origin).await?;
        let factors = self.factors(user.id).await?;
        let proof = match (factors.any(), &request.otp) {
            (false, _) => Proof::Password,
            (true, None) => {
                self.note_alone(factor_owed(&user, origin)).await?;
                return Err(Error::FactorNeeded { totp: factors.by_code() });
            }
            (true, Some(code)) => {
                self.check_code(user.id, code).await?;
                Proof::Code
            }
        };
        Ok((user, proof))
    }

    /// Gives a browser what its password is worth.
    pub async fn sign_in_browser(
        &self,
        email: &Email,
        password: &Secret,
        origin: &Origin,
    ) -> Result<BrowserSignIn, Error> {
        let user = self.check_password(email, password, origin).await?;
        if !self.factors(user.id).await?.any() {
            return Ok(BrowserSignIn::Done(self.new_browser(&user, Proof::Password, origin).await?));
        }
        let secret = self.new_secret();
        let mut tx = self.store.begin(Scope::Job("sign-in")).await?;
        let expires_at = self.clock.now().plus_secs(PENDING_TTL_S);
        tx.pending_browser_insert(&self.master.hash(&secret), user.id, expires_at).await?;
        self.note(&mut tx, factor_owed(&user, origin)).await?;
        tx.commit().await?;
        Ok(BrowserSignIn::Pending(secret))
    }

    /// Who is asked for a second factor with a browser.
    pub async fn pending_user(&self, secret: &Secret) -> Result<Option<User>, Error> {
        let mut tx = self.store.read(Scope::Job("sign-in")).await?;
        match tx.pending_browser(&self.master.hash(secret), self.clock.now()).await? {
            Some(user) => Ok(tx.user_by_id(user).await?),
            None => Ok(None),
        }
    }

    /// Signs a browser in that has shown its second factor.
    pub(super) async fn promote(
        &self,
        pending: &Secret,
        user: &User,
        proof: Proof,
        origin: &Origin,
    ) -> Result<Secret, Error> {
        let mut tx = self.store.begin(Scope::Job("sign-in")).await?;
        let was_pending = tx.pending_browser_delete(&self.master.hash(pending)).await?;
        tx.commit().await?;
        if !was_pending {
            return Err(Error::WrongFactor);
        }
        self.new_browser(user, proof, origin).await
    }

    /// Signs a browser in by a code, or a recovery code: the secret of its cookie.
    pub async fn finish_by_code(&self, pending: &Secret, code: &Secret, origin: &Origin) -> Result<Secret, Error> {
        let user = self.pending_user(pending).await?.ok_or(Error::InvalidLink)?;
        self.check_code(user.id, code).await?;
        self.promote(pending, &user, Proof::Code, origin).await
    }

    /// A browser of somebody who has proved who they are.
    pub(super) async fn new_browser(&self, user: &User, proof: Proof, origin: &Origin) -> Result<Secret, Error> {
        let (secret, now) = (self.new_secret(), self.clock.now());
        let expires_at = now.plus_secs(BROWSER_TTL_S);
        let mut tx = self.store.begin(Scope::Job("sign-in")).await?;
        let (former, withdrawals) = self.leave_former_in(&mut tx, user.id, origin.browser.as_ref()).await?;
        let id = former.unwrap_or_else(|| BrowserId::generate(now, &*self.rng));
        let browser = Browser { id, user_id: user.id, proof, authenticated_at: now, expires_at };
        let seen = SeenBrowser { browser, address: origin.address, seen_at: now };
        tx.browser_insert(&self.master.hash(&secret), &seen).await?;
        self.note(&mut tx, signed_in(user, None, proof, origin)).await?;
        tx.commit().await?;
        self.revoke_all_now(withdrawals);
        Ok(secret)
    }

    /// A browser that signs in anew leaves its former sign-in, so that its former cookie opens nothing. The same person's goes
    /// on under its id, with what came out of it; somebody else is signed out.
    async fn leave_former_in(
        &self,
        tx: &mut Tx,
        user: UserId,
        former: Option<&Secret>,
    ) -> Result<(Option<BrowserId>, Vec<Withdrawal>), Error> {
        let Some(secret) = former else { return Ok((None, Vec::new())) };
        let hash = self.master.hash(secret);
        match tx.browser(&hash).await?.map(|seen| seen.browser) {
            Some(browser) if browser.user_id == user => {
                let left = tx.browser_leave(&hash).await?;
                Ok((left.then_some(browser.id), Vec::new()))
            }
            Some(_) => Ok((None, self.sign_out_browser_in(tx, secret).await?)),
            None => Ok((None, Vec::new())),
        }
    }

    /// The user whose password this is. Wrong password and unknown email are one error, with the same work done.
    pub(super) async fn check_password(
        &self,
        email: &Email,
        password: &Secret,
        origin: &Origin,
    ) -> Result<User, Error> {
        let device = origin.device.as_deref().filter(|device| self.is_device_of(email, device));
        let counters = self.throttle.sign_in(email, origin.address, device);
        if let Err(held) = self.throttle.admit(&counters, self.clock.now()) {
            return Err(self.held_up(held, &counters, (email, THROTTLED), origin).await);
        }
        let mut tx = self.store.read(Scope::Job("login")).await?;
        let user = tx.user_by_email(email).await?;
        // Nobody has the nil id; they are looked up all the same.
        let id = user.as_ref().map_or(UserId::from_uuid(uuid::Uuid::nil()), |user| user.id);
        let hash = tx.credential(id).await?;
        drop(tx);
        // Again when it is this one's turn: many at once are not free.
        let may_try = || self.throttle.admit(&counters, self.clock.now());
        let verdict = match self.passwords.verify(password, hash, may_try).await {
            Ok(verdict) => verdict,
            Err(held) => return Err(self.held_up(held, &counters, (email, THROTTLED), origin).await),
        };
        match (user, verdict) {
            (Some(user), verdict @ (Verdict::Right | Verdict::RightAndOutdated)) => {
                self.throttle.succeeded(&counters);
                if verdict == Verdict::RightAndOutdated {
                    let hash = self.passwords.hash(password).await?;
                    self.put_password(user.id, &hash).await?;
                }
                Ok(user)
            }
            (user, _) => {
                self.throttle.failed(&counters, self.clock.now());
                let mut tx = self.store.begin(Scope::Job("login")).await?;
                self.note_try(&mut tx, "sign_in.failed", (email, user.map(|user| user.id)), origin).await?;
                tx.commit().await?;
                Err(Error::WrongCredentials)
            }
        }
    }

    async fn put_password(&self, user: UserId, hash: &PasswordHash) -> Result<(), Error> {
        let mut tx = self.store.begin(Scope::Job("login")).await?;
        self.set_password_in(&mut tx, user, hash).await?;
        Ok(tx.commit().await?)
    }

    /// What a browser shows later to prove that it signed in as somebody before: a random text and its keyed hash.
    pub fn new_device(&self, email: &Email) -> Secret {
        let nonce = URL_SAFE_NO_PAD.encode(random_bytes::<12>(&*self.rng));
        Secret::new(format!("{nonce}.{}", self.device_mac(email, &nonce)))
    }

    fn is_device_of(&self, email: &Email, device: &str) -> bool {
        let Some((nonce, mac)) = device.split_once('.') else { return false };
        subtle::ConstantTimeEq::ct_eq(mac.as_bytes(), self.device_mac(email, nonce).as_bytes()).into()
    }

    fn device_mac(&self, email: &Email, nonce: &str) -> String {
        URL_SAFE_NO_PAD.encode(self.master.digest(format!("device {nonce} {}", email.key()).as_bytes()))
    }

    /// A random secret of 256 bits.
    pub fn new_secret(&self) -> Secret {
        Secret::new(URL_SAFE_NO_PAD.encode(random_bytes::<32>(&*self.rng)))
    }

    /// Password hashes computed by this process so far: a seam for tests of who costs how much.
    pub fn password_hashes(&self) -> u64 {
        self.passwords.done()
    }
}

pub(super) fn signed_in(user: &User, tenant: Option<TenantId>, proof: Proof, origin: &Origin) -> Act {
    let from = origin.address.map(|address| format!(" from {address}")).unwrap_or_default();
    let detail = Some(format!("by {}{from}", proof.name()));
    Act { actor: as_actor(user), action: "sign_in.succeeded", tenant, subject: user.id.to_string(), detail }
}

/// The password was right, and opens nothing yet.
pub(super) fn factor_owed(user: &User, origin: &Origin) -> Act {
    let (action, detail) = ("sign_in.factor_owed", origin.address.map(|address| format!("from {address}")));
    Act { actor: as_actor(user), action, tenant: None, subject: user.id.to_string(), detail }
}

const fn as_actor(user: &User) -> Actor {
    if user.platform_admin { Actor::Admin(user.id) } else { Actor::User(user.id) }
}
