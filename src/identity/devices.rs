//! The device authorization grant (RFC 8628): a device without a browser asks, a person says yes elsewhere.
//!
//! A person is signed in before they enter a code, so that guesses are theirs and are counted.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{
    access::ScopeSet,
    error::{Error, Waiting},
    model::{Allowed, Browser, Client, DeviceGrant, DeviceState, GrantType, Session, TokenSet},
    service::Identity,
};
use crate::{
    kernel::{Act, Actor, Rng, Secret, SessionId, TenantId, rng::random_bytes},
    store::Scope,
};

/// A device waits this long, in seconds.
const DEVICE_TTL_S: i64 = 600;
/// A device may ask this often at first, in seconds; each time it asks sooner, the same is added (RFC 8628 section 3.5).
const INTERVAL_S: i64 = 5;
/// What people enter: no vowels, so that it spells nothing, and no two that look alike (RFC 8628 section 6.1).
const ALPHABET: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";
/// 20^8 is 2^34.6; with [`MAX_MISSES`] a guesser of one account finds a given code once in two billion attempts.
const USER_CODE_CHARS: usize = 8;
/// Wrong codes of one person, before they have to wait.
const MAX_MISSES: i64 = 10;
/// For how long, in seconds.
const MISSES_WINDOW_S: i64 = 600;

/// What a device is told.
#[derive(Debug)]
pub struct DeviceStart {
    /// What it asks with.
    pub device_code: Secret,
    /// What it shows.
    pub user_code: String,
    /// How long it may wait, in seconds.
    pub expires_in_s: i64,
    /// How often it may ask, in seconds.
    pub interval_s: i64,
}

impl Identity {
    /// A device begins to wait.
    pub async fn start_device(&self, client: &Client, scope: ScopeSet) -> Result<DeviceStart, Error> {
        client.may_use(GrantType::DeviceCode)?;
        let device_code = Secret::new(URL_SAFE_NO_PAD.encode(random_bytes::<32>(&*self.rng)));
        let user_code = user_code(&*self.rng);
        let grant = DeviceGrant {
            hash: self.master.hash(&device_code),
            user_code_hash: self.user_code_hash(&user_code),
            client_id: client.id,
            scope,
            state: DeviceState::Pending,
            interval_s: INTERVAL_S,
            polled_at: None,
            expires_at: self.clock.now().plus_secs(DEVICE_TTL_S),
        };
        let mut tx = self.store.begin(Scope::Job("device")).await?;
        tx.device_insert(&grant).await?;
        tx.commit().await?;
        Ok(DeviceStart { device_code, user_code, expires_in_s: DEVICE_TTL_S, interval_s: INTERVAL_S })
    }

    /// The device that waits under the code a person entered, and with which client; a wrong one is counted.
    pub async fn device_of(&self, browser: &Browser, entered: &str) -> Result<Option<(DeviceGrant, Client)>, Error> {
        let now = self.clock.now();
        let since = now.plus_secs(-MISSES_WINDOW_S);
        let mut tx = self.store.begin(Scope::Job("device")).await?;
        if !tx.device_guess(browser.user_id, since, now, MAX_MISSES).await? {
            return Err(Error::TooManyGuesses);
        }
        let grant = tx.device_of_person(&self.user_code_hash(entered)).await?;
        let grant = grant.filter(|grant| grant.state == DeviceState::Pending && now < grant.expires_at);
        if let Some(grant) = grant
            && let Some(client) = tx.client(grant.client_id).await?
        {
            // The transaction ends here, and with it the guess: this one was right.
            return Ok(Some((grant, client)));
        }
        if tx.device_misses(browser.user_id).await? == MAX_MISSES {
            let (actor, subject) = (Actor::User(browser.user_id), browser.user_id.to_string());
            self.note(&mut tx, Act { actor, action: "device.throttled", tenant: None, subject, detail: None }).await?;
        }
        tx.commit().await?;
        Ok(None)
    }

    /// Says yes, for a tenant, or no; `false` when the device waits no more.
    pub async fn decide_device(
        &self,
        browser: &Browser,
        grant: &DeviceGrant,
        tenant: Option<TenantId>,
    ) -> Result<bool, Error> {
        let allowed = tenant.map(|tenant_id| Allowed {
            user_id: browser.user_id,
            tenant_id,
            browser_id: browser.id,
            authenticated_at: browser.authenticated_at,
            proof: browser.proof,
        });
        let mut tx = self.store.begin(Scope::Job("device")).await?;
        let decided = tx.device_decide(&grant.user_code_hash, allowed.as_ref(), self.clock.now()).await?;
        if decided {
            let action = if tenant.is_some() { "device.allowed" } else { "device.denied" };
            let (actor, subject) = (Actor::User(browser.user_id), grant.client_id.to_string());
            let detail = Some(grant.scope.to_string());
            self.note(&mut tx, Act { actor, action, tenant, subject, detail }).await?;
        }
        tx.commit().await?;
        Ok(decided)
    }

    /// Tokens for a device whose person said yes, once.
    pub async fn redeem_device(&self, client: &Client, device_code: &Secret) -> Result<TokenSet, Error> {
        const UNKNOWN: Error = Error::InvalidGrant("the device code is not valid");
        client.may_use(GrantType::DeviceCode)?;
        let (now, hash) = (self.clock.now(), self.master.hash(device_code));
        let mut tx = self.store.begin(Scope::Job("device")).await?;
        let grant = tx.device_lock(&hash).await?.filter(|grant| grant.client_id == client.id).ok_or(UNKNOWN)?;
        let allowed = match grant.state {
            DeviceState::Used => return Err(UNKNOWN),
            _ if now >= grant.expires_at => return Err(Error::Waiting(Waiting::Expired)),
            DeviceState::Denied => return Err(Error::Waiting(Waiting::Denied)),
            DeviceState::Allowed(allowed) => allowed,
            DeviceState::Pending => {
                let soon = grant.polled_at.is_some_and(|at| now < at.plus_secs(grant.interval_s));
                let interval_s = if soon { grant.interval_s + INTERVAL_S } else { grant.interval_s };
                tx.device_polled(&hash, now, interval_s).await?;
                tx.commit().await?;
                return Err(Error::Waiting(if soon { Waiting::SlowDown } else { Waiting::Pending }));
            }
        };
        if !tx.device_used(&hash).await? {
            return Err(UNKNOWN);
        }
        let session = Session {
            id: SessionId::generate(now, &*self.rng),
            user_id: allowed.user_id,
            tenant_id: Some(allowed.tenant_id),
            client_id: Some(client.id),
            scope: grant.scope,
            authenticated_at: allowed.authenticated_at,
            proof: allowed.proof,
            renewed_at: None,
            created_at: now,
            ended_at: None,
            // The device goes on when the person's browser is signed out: it is another machine.
            browser_id: None,
            parent_id: None,
        };
        self.begin_session(tx, client, session, None).await
    }

    fn user_code_hash(&self, entered: &str) -> [u8; 32] {
        let plain = entered.chars().filter(char::is_ascii_alphanumeric).map(|own| own.to_ascii_uppercase());
        self.keyed_digest(format!("user code {}", plain.collect::<String>()).as_bytes())
    }
}

/// `XXXX-XXXX`, each character as likely as any other.
fn user_code(rng: &dyn Rng) -> String {
    let mut code = String::new();
    while code.len() < USER_CODE_CHARS {
        let [byte] = random_bytes::<1>(rng);
        // 240 is the largest multiple of 20 in a byte.
        if byte < 240 {
            code.push(char::from(ALPHABET[usize::from(byte) % ALPHABET.len()]));
        }
    }
    code.insert(USER_CODE_CHARS / 2, '-');
    code
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::SeededRng;

    #[test]
    fn a_user_code_is_eight_plain_letters_in_two_groups() {
        let rng = SeededRng::new(1);
        for _ in 0..200 {
            let code = user_code(&rng);
            let (first, second) = code.split_once('-').unwrap();
            assert_eq!((first.len(), second.len()), (4, 4));
            assert!(code.bytes().all(|byte| byte == b'-' || ALPHABET.contains(&byte)), "{code}");
        }
    }
}
