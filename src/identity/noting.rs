//! What is noted of tries that are turned away: enough to see an attack, and no more than so much, whoever sends how many.
//! Who has to wait is noted when that begins, and so is a client that does not prove who it is; not each further try.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{
    error::Error,
    factors::own,
    model::Client,
    service::Identity,
    throttle::{Counter, Origin},
};
use crate::{
    kernel::{Act, Actor, Email, UserId},
    store::{Scope, Tx},
};

impl Identity {
    /// Notes an act that nothing else is written with.
    pub(super) async fn note_alone(&self, act: Act) -> Result<(), Error> {
        let mut tx = self.store.begin(Scope::Job("audit")).await?;
        self.note(&mut tx, act).await?;
        Ok(tx.commit().await?)
    }

    /// Notes what somebody who has not said who they are did about an email.
    pub(super) async fn note_try(
        &self,
        tx: &mut Tx,
        action: &'static str,
        (email, user): (&Email, Option<UserId>),
        origin: &Origin,
    ) -> Result<(), Error> {
        let subject = user.map_or_else(|| self.email_subject(email), |user| user.to_string());
        let detail = origin.address.map(|address| format!("from {address}"));
        self.note(tx, Act { actor: Actor::Anonymous, action, tenant: None, subject, detail }).await
    }

    /// An email that nobody has may be a password typed into the wrong field: it is noted as a keyed hash.
    pub fn email_subject(&self, email: &Email) -> String {
        let digest = self.master.digest(format!("email {}", email.key()).as_bytes());
        format!("email:{}", URL_SAFE_NO_PAD.encode(&digest[..12]))
    }

    /// What a try about an email is refused with; noted, where the waiting begins.
    pub(super) async fn held_up(
        &self,
        held: Error,
        counters: &[Counter],
        (email, action): (&Email, &'static str),
        origin: &Origin,
    ) -> Error {
        if !self.throttle.begins_to_wait(&held, counters, self.clock.now()) {
            return held;
        }
        let noted = async {
            let mut tx = self.store.begin(Scope::Job("audit")).await?;
            let user = tx.user_by_email(email).await?.map(|user| user.id);
            self.note_try(&mut tx, action, (email, user), origin).await?;
            Ok::<_, Error>(tx.commit().await?)
        };
        noted.await.err().unwrap_or(held)
    }

    /// An error unless a person may guess at their second factor now.
    pub(super) async fn begin_factor(&self, user: UserId, counters: &[Counter]) -> Result<(), Error> {
        let now = self.clock.now();
        let Err(held) = self.throttle.begin(counters, now) else { return Ok(()) };
        if self.throttle.begins_to_wait(&held, counters, now) {
            let mut tx = self.store.begin(Scope::Job("audit")).await?;
            self.note_factor(&mut tx, own(user), "factor.throttled", "code or passkey").await?;
            tx.commit().await?;
        }
        Err(held)
    }

    /// Notes that a client, or somebody who says to be one, did not prove it. Ids that are nobody's are one.
    pub(super) async fn note_refused_client(&self, client: Option<&Client>) -> Result<(), Error> {
        let subject = client.map_or_else(|| "unknown".to_owned(), |client| client.id.to_string());
        if !self.throttle.is_news("client", &subject, self.clock.now()) {
            return Ok(());
        }
        let tenant = client.and_then(|client| client.tenant_id);
        self.note_alone(Act { actor: Actor::Anonymous, action: "client.refused", tenant, subject, detail: None }).await
    }

    /// Notes that a person's email is theirs, where that was not known, within the caller's transaction.
    pub async fn email_verified_in(&self, tx: &mut Tx, user: UserId) -> Result<(), Error> {
        if tx.user_email_verified(user, self.clock.now()).await? {
            let (actor, subject) = (Actor::User(user), user.to_string());
            self.note(tx, Act { actor, action: "email.verified", tenant: None, subject, detail: None }).await?;
        }
        Ok(())
    }
}
