//! Pushed authorization requests (RFC 9126), and stamps: what we have seen of a request, and when, said in the request
//! itself so that nobody else can say it.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use subtle::ConstantTimeEq as _;

use super::{error::Error, model::Client, service::Identity};
use crate::{
    kernel::{ClientId, Secret, Timestamp, rng::random_bytes},
    store::{Scope, Tx},
};

/// Life of a pushed request, in seconds: until its client has sent the browser here.
const PUSHED_TTL_S: i64 = 90;
/// How the name of a pushed request begins (RFC 9126 section 2.2).
const REQUEST_URI: &str = "urn:ietf:params:oauth:request_uri:";
/// A stamp holds this long, in seconds: for a sign-in with all its steps.
const STAMP_TTL_S: i64 = 1_800;

/// What a stamp says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stamp {
    /// The request was pushed by its client.
    Pushed,
    /// The person was sent to sign in anew.
    SentToSignIn,
}

impl Stamp {
    const fn name(self) -> &'static str {
        match self {
            Self::Pushed => "pushed",
            Self::SentToSignIn => "sent to sign in",
        }
    }
}

impl Identity {
    /// Keeps a request, a form, for the client that pushed it: its name, and its life in seconds.
    pub async fn push_request(&self, client: &Client, params: &str) -> Result<(String, i64), Error> {
        let secret = Secret::new(URL_SAFE_NO_PAD.encode(random_bytes::<32>(&*self.rng)));
        let expires_at = self.clock.now().plus_secs(PUSHED_TTL_S);
        let mut tx = self.store.begin(Scope::Job("push")).await?;
        tx.pushed_insert(&self.master.hash(&secret), client.id, params, expires_at).await?;
        tx.commit().await?;
        Ok((format!("{REQUEST_URI}{}", secret.expose()), PUSHED_TTL_S))
    }

    /// Takes a client's pushed request by its name, once.
    pub async fn take_pushed(&self, client: &str, name: &str) -> Result<Option<String>, Error> {
        let (Ok(client), Some(secret)) = (client.parse::<ClientId>(), name.strip_prefix(REQUEST_URI)) else {
            return Ok(None);
        };
        let hash = self.master.hash(&Secret::new(secret.to_owned()));
        let mut tx = self.store.begin(Scope::Job("authorize")).await?;
        let params = tx.pushed_take(&hash, client, self.clock.now()).await?;
        tx.commit().await?;
        Ok(params)
    }

    /// Stamps a request now. No two stamps are the same.
    pub fn stamp(&self, stamp: Stamp, request: &str) -> String {
        let nonce = URL_SAFE_NO_PAD.encode(random_bytes::<12>(&*self.rng));
        let at = format!("{}.{nonce}", self.clock.now().as_micros());
        format!("{at}.{}", self.seal(stamp, request, &at))
    }

    /// When a request was stamped by us, if it was and not too long ago.
    pub fn stamped_at(&self, stamp: Stamp, request: &str, text: &str) -> Option<Timestamp> {
        let (at, seal) = text.rsplit_once('.')?;
        let micros: i64 = at.split_once('.')?.0.parse().ok()?;
        let ours: bool = self.seal(stamp, request, at).as_bytes().ct_eq(seal.as_bytes()).into();
        let at = Timestamp::from_micros(micros).filter(|_| ours)?;
        (self.clock.now() < at.plus_secs(STAMP_TTL_S)).then_some(at)
    }

    /// Uses a stamp up within the caller's transaction; `false` when it was used before.
    pub(super) async fn spend_stamp_in(&self, tx: &mut Tx, text: &str) -> Result<bool, Error> {
        let (hash, now) = (self.keyed_digest(format!("spent {text}").as_bytes()), self.clock.now());
        Ok(tx.stamp_spend(&hash, now.plus_secs(STAMP_TTL_S)).await?)
    }

    fn seal(&self, stamp: Stamp, request: &str, at: &str) -> String {
        let digest = self.keyed_digest(format!("{} at {at}: {request}", stamp.name()).as_bytes());
        blake3::Hash::from(digest).to_hex().to_string()
    }
}
