//! Browsers that are signed in, as their owner sees and ends them.

use super::{
    error::Error,
    model::{Browser, SeenBrowser},
    service::{Identity, Withdrawal},
};
use crate::{
    kernel::{Act, Actor, BrowserId, Secret, UserId},
    store::{Scope, Tx},
};

const SCOPE: Scope = Scope::Job("account");
/// A browser that is used is seen at most so often, in seconds: each time is a write.
const SEEN_EVERY_S: i64 = 60;

impl Identity {
    /// Who is signed in with a browser.
    pub async fn browser(&self, secret: &Secret) -> Result<Option<Browser>, Error> {
        let (hash, now) = (self.master.hash(secret), self.clock.now());
        let found = self.store.read(Scope::Job("sign-in")).await?.browser(&hash).await?;
        let Some(seen) = found.filter(|seen| now < seen.browser.expires_at) else { return Ok(None) };
        if now >= seen.seen_at.plus_secs(SEEN_EVERY_S) {
            let mut tx = self.store.begin(Scope::Job("sign-in")).await?;
            tx.browser_seen(seen.browser.id, now).await?;
            tx.commit().await?;
        }
        Ok(Some(seen.browser))
    }

    /// The browsers that a person is signed in with, the oldest first.
    pub async fn browsers_of_person(&self, user: UserId) -> Result<Vec<SeenBrowser>, Error> {
        let browsers = self.store.read(SCOPE).await?.browsers_of_user(user).await?;
        let now = self.clock.now();
        Ok(browsers.into_iter().filter(|seen| now < seen.browser.expires_at).collect())
    }

    /// Signs one of a person's browsers out, with all that came out of it.
    pub async fn end_browser_of_person(&self, user: UserId, id: BrowserId) -> Result<(), Error> {
        let mut tx = self.store.begin(SCOPE).await?;
        let browsers = tx.browsers_of_user(user).await?;
        let own = browsers.iter().find(|seen| seen.browser.id == id).ok_or(Error::UnknownBrowser(id))?;
        let withdrawals = self.sign_out_in(&mut tx, &own.browser).await?;
        tx.commit().await?;
        self.revoke_all_now(withdrawals);
        Ok(())
    }

    /// Signs a browser out, and ends every sign-in that came out of it, within the caller's transaction.
    pub(super) async fn sign_out_in(&self, tx: &mut Tx, browser: &Browser) -> Result<Vec<Withdrawal>, Error> {
        // First the browser: a code of it that is redeemed meanwhile has its session, which is found, or finds no browser.
        tx.browser_delete(browser.id).await?;
        let mut withdrawals = Vec::new();
        for session in tx.sessions_of_browser(browser.id).await? {
            withdrawals.extend(self.end_session_in(tx, session, "signed out").await?);
        }
        let (actor, subject) = (Actor::User(browser.user_id), browser.user_id.to_string());
        let detail = Some(format!("browser {}", browser.id));
        self.note(tx, Act { actor, action: "sign_out", tenant: None, subject, detail }).await?;
        Ok(withdrawals)
    }
}
