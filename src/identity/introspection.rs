//! Whether a token is alive, for clients that may know, and withdrawing one.
//!
//! A client learns about its own tokens and those of its tenant; a client of the platform about all. Everything else is
//! not active for it.

use super::{
    access::{Access, ScopeSet, Subject},
    error::Error,
    model::{Client, Session},
    revocation::Revoked,
    rules::FIRST_PARTY,
    service::Identity,
};
use crate::{
    kernel::{Act, Actor, Secret, SessionId, TenantId, Timestamp},
    store::{Scope, Tx},
    users::{MembershipStatus, User},
};

/// What is known of a token that is alive.
#[derive(Debug)]
pub struct Introspection {
    /// What it may be used for.
    pub scope: ScopeSet,
    /// For whom it was issued.
    pub client_id: String,
    /// `Bearer`, or `refresh_token`.
    pub token_type: &'static str,
    /// Until when it lives.
    pub expires_at: Timestamp,
    /// Since when.
    pub issued_at: Timestamp,
    /// Who it speaks for.
    pub subject: String,
    /// For which tenant.
    pub tenant_id: Option<TenantId>,
    /// `jti` of an access token.
    pub token_id: Option<String>,
    /// The sign-in it belongs to.
    pub session: Option<SessionId>,
}

impl Identity {
    /// What a token says, if it is alive and the client may know.
    pub async fn introspect(&self, client: &Client, token: &Secret) -> Result<Option<Introspection>, Error> {
        let mut tx = self.store.read(Scope::Job("introspect")).await?;
        if let Ok(access) = self.verifier().verify(token.expose()) {
            let may_know = knows(client, access.tenant, &access.client_id);
            let alive = may_know && self.in_force(&mut tx, &access).await?;
            return Ok(alive.then(|| Introspection {
                scope: access.scope.clone(),
                client_id: access.client_id.clone(),
                token_type: "Bearer",
                expires_at: access.expires_at,
                issued_at: access.issued_at,
                subject: subject_text(&access.subject),
                tenant_id: access.tenant,
                token_id: Some(access.token_id.clone()),
                session: access.session,
            }));
        }
        let Some((refresh, session)) = tx.refresh_token(&self.master.hash(token)).await? else { return Ok(None) };
        let client_id = client_text(&session);
        let alive = session.ended_at.is_none()
            && refresh.used_at.is_none()
            && self.clock.now() < refresh.expires_at
            && knows(client, session.tenant_id, &client_id)
            && self.still_welcome(&mut tx, &session).await.is_ok();
        Ok(alive.then(|| Introspection {
            scope: session.scope,
            client_id,
            token_type: "refresh_token",
            expires_at: refresh.expires_at,
            issued_at: refresh.issued_at,
            subject: session.user_id.to_string(),
            tenant_id: session.tenant_id,
            token_id: None,
            session: Some(session.id),
        }))
    }

    /// Withdraws a token of a client, `None` being our own: the session it belongs to, or itself alone.
    pub async fn revoke_token(&self, client: Option<&Client>, token: &Secret) -> Result<(), Error> {
        let mut tx = self.store.begin(Scope::Job("revoke")).await?;
        let client_id = client.map(|client| client.id);
        let session = if let Ok(access) = self.verifier().verify(token.expose()) {
            if access.client_id != client_id.map_or_else(|| FIRST_PARTY.to_owned(), |client| client.to_string()) {
                return Ok(());
            }
            let Some(session) = access.session else { return self.revoke_lone_token(tx, &access).await };
            tx.session(session).await?
        } else {
            tx.refresh_token(&self.master.hash(token)).await?.map(|(_, session)| session)
        };
        // RFC 7009 section 2.2: a token that is not known is as good as withdrawn.
        let own = |session: &Session| session.client_id == client_id && session.ended_at.is_none();
        let Some(session) = session.filter(own) else { return Ok(()) };
        let actor = client_id.map_or(Actor::User(session.user_id), Actor::Client);
        let withdrawals = self.end_in(&mut tx, actor, &session).await?;
        tx.commit().await?;
        self.revoke_all_now(withdrawals);
        Ok(())
    }

    /// Withdraws a token that no session stands behind: the end of a transaction.
    async fn revoke_lone_token(&self, mut tx: Tx, access: &Access) -> Result<(), Error> {
        let (&Subject::Client(client), Ok(token)) = (&access.subject, access.token_id.parse()) else { return Ok(()) };
        let (actor, action, subject) = (Actor::Client(client), "token.revoked", access.token_id.clone());
        self.note(&mut tx, Act { actor, action, tenant: access.tenant, subject, detail: None }).await?;
        let withdrawal = self.revoke_in(&mut tx, Revoked::Token(token)).await?;
        tx.commit().await?;
        self.revoke_now(withdrawal);
        Ok(())
    }

    /// The user that a token speaks for, while they may.
    pub async fn user_of(&self, access: &Access) -> Result<Option<User>, Error> {
        let Subject::User(user) = access.subject else { return Ok(None) };
        let mut tx = self.store.read(Scope::Job("userinfo")).await?;
        if !self.in_force(&mut tx, access).await? {
            return Ok(None);
        }
        Ok(tx.user_by_id(user).await?)
    }

    /// Whether the session runs, the tenant is in use, and the user in force in it.
    async fn in_force(&self, tx: &mut Tx, access: &Access) -> Result<bool, Error> {
        if let Some(id) = access.session
            && tx.session(id).await?.is_none_or(|session| session.ended_at.is_some())
        {
            return Ok(false);
        }
        let Some(tenant_id) = access.tenant else { return Ok(true) };
        let usable = tx.tenant_by_id(tenant_id).await?.is_some_and(|tenant| tenant.status.is_usable());
        Ok(usable
            && match access.subject {
                Subject::Foreign(_) => false,
                Subject::User(user) => {
                    let member = tx.member(tenant_id, user).await?;
                    member.is_some_and(|member| member.membership.status == MembershipStatus::Active)
                }
                Subject::Client(client) => tx.client(client).await?.is_some(),
            })
    }

    /// A token that binds a form to the browser it was made for.
    pub fn form_token(&self, browser: &Secret) -> String {
        let digest = self.keyed_digest(format!("form of {}", browser.expose()).as_bytes());
        blake3::Hash::from(digest).to_hex().to_string()
    }
}

fn knows(client: &Client, tenant: Option<TenantId>, token_client: &str) -> bool {
    client.tenant_id.is_none_or(|own| Some(own) == tenant) || token_client == client.id.to_string()
}

fn client_text(session: &Session) -> String {
    session.client_id.map_or_else(|| FIRST_PARTY.to_owned(), |client| client.to_string())
}

fn subject_text(subject: &Subject) -> String {
    match subject {
        Subject::User(user) => user.to_string(),
        Subject::Client(client) => client.to_string(),
        Subject::Foreign(subject) => subject.sub.to_string(),
    }
}
