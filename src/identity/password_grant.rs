//! The password grant (RFC 6749 section 4.3), which RFC 9700 section 2.4 forbids: for tests that cannot open a browser,
//! in a laboratory that says so.

use super::{
    access::ScopeSet,
    error::Error,
    model::{Client, GrantType, Session, TokenSet},
    rules,
    service::Identity,
    sessions::{Also, Entry},
    sign_in::{LoginRequest, signed_in},
    throttle::Origin,
};
use crate::{kernel::SessionId, store::Scope};

impl Identity {
    /// Whether the password grant is offered.
    pub fn allows_password_grant(&self) -> bool {
        self.config.allow_password_grant
    }

    /// Tokens for a password, with a client or as our own sign-in.
    pub async fn password_grant(
        &self,
        client: Option<&Client>,
        request: LoginRequest,
        asked: Option<&ScopeSet>,
        origin: &Origin,
    ) -> Result<TokenSet, Error> {
        let (user, proof) = self.prove(&request, origin).await?;
        let mut tx = self.store.begin(Scope::Job("password-grant")).await?;
        let tenant = client.and_then(|client| client.tenant_id).or(request.tenant);
        let (tenant_id, role, granted) = match self.entry(&mut tx, &user, tenant).await? {
            // A client is never the platform's.
            Entry::Platform if client.is_some() => return Err(Error::WrongCredentials),
            Entry::Platform => (None, None, rules::admin_scope()),
            Entry::Tenant(place) => {
                let own = client.map_or_else(|| rules::user_scope(place.role), |client| client.scope.clone());
                (Some(place.tenant_id), Some(place.role), rules::allowable(&own, place.role))
            }
        };
        let scope: ScopeSet = rules::narrowed(&granted, asked)?;
        let now = self.clock.now();
        let session = Session {
            id: SessionId::generate(now, &*self.rng),
            user_id: user.id,
            tenant_id,
            client_id: client.map(|client| client.id),
            browser_id: None,
            parent_id: None,
            scope: scope.clone(),
            authenticated_at: now,
            proof,
            renewed_at: None,
            created_at: now,
            ended_at: None,
        };
        tx.session_insert(&session, client.and_then(|client| client.logout_due_from(now))).await?;
        let may_refresh = client.is_none_or(|client| client.may_use(GrantType::RefreshToken).is_ok());
        let refresh_token = if may_refresh && scope.contains("offline_access") {
            Some(self.new_refresh_token(&mut tx, session.id).await?)
        } else {
            None
        };
        self.note(&mut tx, signed_in(&user, tenant_id, proof, origin)).await?;
        tx.commit().await?;
        let id_token = client.filter(|_| scope.contains("openid")).map(|client| (client, None));
        self.token_set(&session, role, scope, Also { refresh_token, id_token, until: None })
    }
}
