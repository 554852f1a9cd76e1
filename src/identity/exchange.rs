//! Token exchange (RFC 8693) to switch to another tenant.
//!
//! The new token can do no more than the old one could, for no longer: its scope is what both the old token and the role in
//! the other tenant have, for a client also what its person allowed it there, and it expires with the old one. So nobody
//! keeps alive by exchange what they could not refresh.

use super::{
    access::{ScopeSet, Subject},
    error::Error,
    model::{Client, GrantType, Session, TokenSet},
    rules::{self, FIRST_PARTY},
    service::Identity,
    sessions::Also,
};
use crate::{
    kernel::{Act, Actor, Secret, SessionId, TenantId},
    store::Scope,
};

impl Identity {
    /// A token for another tenant of the same user. `None` is our own client, whose users signed in with us directly.
    pub async fn exchange(
        &self,
        client: Option<&Client>,
        subject_token: &Secret,
        tenant: TenantId,
        asked: Option<&ScopeSet>,
    ) -> Result<TokenSet, Error> {
        // RFC 8693 section 2.2.2: a bad subject token is a bad request.
        const SUBJECT: Error = Error::InvalidRequest("subject_token is not valid");
        const TARGET: Error = Error::InvalidTarget("the user cannot enter this tenant");
        if let Some(client) = client {
            client.may_use(GrantType::TokenExchange)?;
        }
        let access = self.verifier().verify(subject_token.expose()).map_err(|_| SUBJECT)?;
        let own = client.map_or_else(|| FIRST_PARTY.to_owned(), |client| client.id.to_string());
        let (&Subject::User(user_id), Some(_), Some(from)) = (&access.subject, access.tenant, access.session) else {
            return Err(Error::InvalidRequest("subject_token must be a user's, and name a tenant"));
        };
        if access.client_id != own {
            return Err(Error::InvalidRequest("subject_token is another client's"));
        }
        let now = self.clock.now();
        let mut tx = self.store.begin(Scope::Job("exchange")).await?;
        let from = tx.session(from).await?.filter(|from| from.ended_at.is_none()).ok_or(SUBJECT)?;
        // A token that opens nothing where it is from leads nowhere else.
        self.still_welcome(&mut tx, &from).await.map_err(|error| match error {
            Error::InvalidGrant(_) => SUBJECT,
            other => other,
        })?;
        if client.and_then(|client| client.tenant_id).is_some_and(|only| only != tenant) {
            return Err(TARGET);
        }
        let member = tx.member(tenant, user_id).await?.ok_or(TARGET)?;
        let place = tx.tenant_by_id(tenant).await?.ok_or(TARGET)?;
        rules::may_enter(&place, Some(&member.membership)).map_err(|_| TARGET)?;
        let role = member.membership.role;
        let mut granted = rules::allowable(&access.scope, role);
        // What a person allowed a client in one tenant says nothing of another.
        if let Some(client) = client.filter(|client| !client.metadata.skip_consent && from.tenant_id != Some(tenant)) {
            let allowed = tx.consent(user_id, client.id, tenant).await?.ok_or(TARGET)?;
            granted = granted.intersect(&allowed);
        }
        let scope = rules::narrowed(&granted, asked)?;
        let session = Session {
            id: SessionId::generate(now, &*self.rng),
            user_id,
            tenant_id: Some(tenant),
            client_id: client.map(|client| client.id),
            scope: scope.clone(),
            authenticated_at: from.authenticated_at,
            proof: from.proof,
            renewed_at: None,
            created_at: now,
            ended_at: None,
            browser_id: from.browser_id,
            parent_id: Some(from.parent_id.unwrap_or(from.id)),
        };
        tx.session_insert(&session, client.and_then(|client| client.logout_due_from(now))).await?;
        let (actor, subject) = (Actor::User(user_id), session.id.to_string());
        let detail = Some(format!("from {}", from.id));
        self.note(&mut tx, Act { actor, action: "session.switched", tenant: Some(tenant), subject, detail }).await?;
        tx.commit().await?;
        self.token_set(&session, Some(role), scope, Also { until: Some(access.expires_at), ..Also::default() })
    }
}
