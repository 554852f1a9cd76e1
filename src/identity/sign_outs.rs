//! Signing out: a browser with all that came out of it, and telling clients (`OpenID` Connect RP-Initiated Logout and
//! Back-Channel Logout).

use super::{
    error::Error,
    id_tokens::IdTokenHint,
    model::{Client, LogoutNotice},
    revocation::Revoked,
    service::{Identity, Withdrawal},
};
use crate::{
    kernel::{Actor, Secret, SessionId, Timestamp},
    store::{Scope, Tx},
};

/// Waits between attempts to tell a client, in seconds; after the last, nobody tries again.
const BACKOFF_S: [i64; 5] = [10, 60, 300, 1_800, 7_200];
/// Clients told in one round.
const ROUND: i64 = 50;

impl Identity {
    /// Signs a browser out, and ends every sign-in that came out of it.
    pub async fn sign_out_browser(&self, secret: &Secret) -> Result<(), Error> {
        let mut tx = self.store.begin(Scope::Job("sign-out")).await?;
        let withdrawals = self.sign_out_browser_in(&mut tx, secret).await?;
        tx.commit().await?;
        self.revoke_all_now(withdrawals);
        Ok(())
    }

    /// The same within the caller's transaction.
    pub(super) async fn sign_out_browser_in(&self, tx: &mut Tx, secret: &Secret) -> Result<Vec<Withdrawal>, Error> {
        match tx.browser(&self.master.hash(secret)).await? {
            Some(seen) => self.sign_out_in(tx, &seen.browser).await,
            None => Ok(Vec::new()),
        }
    }

    /// Ends the sign-in that an ID token was issued for.
    pub async fn sign_out_hinted(&self, hint: &IdTokenHint) -> Result<(), Error> {
        let mut tx = self.store.begin(Scope::Job("sign-out")).await?;
        let session = tx.session(hint.session).await?;
        let own = |session: &super::Session| {
            session.user_id == hint.user && session.client_id == Some(hint.client) && session.ended_at.is_none()
        };
        let Some(session) = session.filter(own) else { return Ok(()) };
        let withdrawals = self.end_in(&mut tx, Actor::User(hint.user), &session).await?;
        tx.commit().await?;
        self.revoke_all_now(withdrawals);
        Ok(())
    }

    /// Ends a session and those that were switched from it, within the caller's transaction.
    pub(super) async fn end_session_in(
        &self,
        tx: &mut Tx,
        id: SessionId,
        reason: &str,
    ) -> Result<Vec<Withdrawal>, Error> {
        let mut sessions = vec![id];
        sessions.extend(tx.sessions_of_parent(id).await?);
        let mut withdrawals = Vec::new();
        for session in sessions {
            tx.session_end(session, self.clock.now(), reason).await?;
            withdrawals.push(self.revoke_in(tx, Revoked::Session(session)).await?);
        }
        Ok(withdrawals)
    }

    /// Clients that are to be told now that a session is over.
    pub async fn logouts_due(&self) -> Result<Vec<LogoutNotice>, Error> {
        let mut tx = self.store.read(Scope::Job("back-channel-logout")).await?;
        Ok(tx.logouts_due(self.clock.now(), ROUND).await?)
    }

    /// Takes it on to tell a client, once more; `false` when another node has.
    pub async fn claim_logout(&self, notice: &LogoutNotice) -> Result<bool, Error> {
        let mut tx = self.store.begin(Scope::Job("back-channel-logout")).await?;
        let claimed = tx.logout_attempt(notice, next_attempt(notice.attempts, self.clock.now())).await?;
        tx.commit().await?;
        Ok(claimed)
    }

    /// Notes that a client was told.
    pub async fn logout_told(&self, notice: &LogoutNotice) -> Result<(), Error> {
        let mut tx = self.store.begin(Scope::Job("back-channel-logout")).await?;
        tx.logout_told(notice.session_id).await?;
        Ok(tx.commit().await?)
    }
}

fn next_attempt(attempts: i64, now: Timestamp) -> Option<Timestamp> {
    let wait_s = usize::try_from(attempts).ok().and_then(|made| BACKOFF_S.get(made).copied())?;
    Some(now.plus_secs(wait_s))
}

impl Client {
    /// From when on it is to be told of the end of a session that begins now, if it is to be told.
    pub(super) fn logout_due_from(&self, now: Timestamp) -> Option<Timestamp> {
        self.metadata.backchannel_logout_uri.as_ref().map(|_| now)
    }
}
