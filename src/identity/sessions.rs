//! Which tenant a sign-in is for, refreshing, and ending sign-ins.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{
    access::ScopeSet,
    error::Error,
    model::{Client, RefreshToken, Session, TokenSet},
    rules::{self, FIRST_PARTY, Reuse},
    service::{Grant, Identity, Withdrawal},
};
use crate::{
    kernel::{Act, Actor, ClientId, Page, PageRequest, Secret, SessionId, TenantId, Timestamp, rng::random_bytes},
    store::{Scope, Tx},
    users::{Membership, MembershipStatus, Role, User},
};

/// A secret that works once was used by two.
pub(super) struct Theft {
    pub(super) session: SessionId,
    pub(super) client: Option<ClientId>,
    pub(super) tenant: Option<TenantId>,
    /// What kind of secret.
    pub(super) secret: &'static str,
}

/// What comes with an access token.
#[derive(Default)]
pub(super) struct Also<'a> {
    /// A refresh token.
    pub(super) refresh_token: Option<Secret>,
    /// An ID token: for whom, and the nonce of the request.
    pub(super) id_token: Option<(&'a Client, Option<&'a str>)>,
    /// It expires no later than this.
    pub(super) until: Option<Timestamp>,
}

/// To what somebody signs in.
pub(super) enum Entry {
    Platform,
    Tenant(Membership),
}

impl Identity {
    /// Which tenant a user signs in to.
    pub(super) async fn entry(&self, tx: &mut Tx, user: &User, asked: Option<TenantId>) -> Result<Entry, Error> {
        if user.platform_admin {
            return if asked.is_none() { Ok(Entry::Platform) } else { Err(Error::WrongCredentials) };
        }
        let mut places = Vec::new();
        for membership in tx.memberships_of_user(user.id).await? {
            if let Some(tenant) = tx.tenant_by_id(membership.tenant_id).await?
                && !rules::is_gone(&tenant)
                && asked.is_none_or(|asked| asked == tenant.id)
            {
                places.push((membership, tenant));
            }
        }
        // A tenant that cannot be entered does not stand in the way of one that can.
        let open = |(place, tenant): &(Membership, _)| rules::may_enter(tenant, Some(place)).is_ok();
        if places.iter().any(open) {
            places.retain(open);
        }
        match &places[..] {
            [] => Err(Error::WrongCredentials),
            [(place, tenant)] => {
                rules::may_enter(tenant, Some(place))?;
                Ok(Entry::Tenant(place.clone()))
            }
            several if several.iter().any(open) => {
                let choices = several.iter().map(|(_, tenant)| (tenant.id, tenant.customer_name.clone()));
                Err(Error::ChooseTenant(choices.collect()))
            }
            [(place, tenant), ..] => {
                rules::may_enter(tenant, Some(place))?;
                Err(Error::WrongCredentials)
            }
        }
    }

    /// Gives a new token set for a refresh token, which works once, and only for the client it was given to: `None` is our
    /// own. `asked` may narrow the scope of the access token.
    pub async fn refresh(
        &self,
        client: Option<&Client>,
        token: &Secret,
        asked: Option<&ScopeSet>,
    ) -> Result<TokenSet, Error> {
        const UNKNOWN: Error = Error::InvalidGrant("the refresh token is not valid");
        let now = self.clock.now();
        let hash = self.master.hash(token);
        let mut tx = self.store.begin(Scope::Job("refresh")).await?;
        let used_now = tx.refresh_token_use(&hash, now).await?;
        let (token, session) = tx.refresh_token(&hash).await?.ok_or(UNKNOWN)?;
        let of_client = session.client_id == client.map(|client| client.id);
        if session.ended_at.is_some() || now >= token.expires_at || !of_client {
            return Err(UNKNOWN);
        }
        if !used_now {
            let used_at = token.used_at.unwrap_or(now);
            if rules::reuse(used_at, now, self.config.refresh_grace_s) == Reuse::Theft {
                let (client, tenant, secret) = (session.client_id, session.tenant_id, "refresh_token");
                self.end_stolen(tx, Theft { session: session.id, client, tenant, secret }).await?;
                return Err(UNKNOWN);
            }
        }
        let role = self.still_welcome(&mut tx, &session).await?;
        let granted = match role {
            Some(role) => rules::allowable(&session.scope, role),
            None => session.scope.intersect(&rules::admin_scope()),
        };
        let scope = rules::narrowed(&granted, asked)?;
        let refresh_token = self.new_refresh_token(&mut tx, session.id).await?;
        tx.session_renewed(session.id, now).await?;
        tx.commit().await?;
        let id_token = scope.contains("openid").then_some(client).flatten().map(|client| (client, None));
        self.token_set(&session, role, scope, Also { refresh_token: Some(refresh_token), id_token, until: None })
    }

    /// Ends the session that a stolen secret led to.
    pub(super) async fn end_stolen(&self, mut tx: Tx, theft: Theft) -> Result<(), Error> {
        let Theft { session, client, tenant, secret } = theft;
        let reason = format!("{secret} used twice");
        let withdrawals = self.end_session_in(&mut tx, session, &reason).await?;
        let actor = client.map_or(Actor::Anonymous, Actor::Client);
        let (subject, detail) = (session.to_string(), Some(reason));
        self.note(&mut tx, Act { actor, action: "session.stolen", tenant, subject, detail }).await?;
        tx.commit().await?;
        self.revoke_all_now(withdrawals);
        tracing::warn!(session_id = %session, secret, "a secret was used twice: its session was ended");
        Ok(())
    }

    /// The role that a session's user has now; an error when they may not enter any more.
    pub(super) async fn still_welcome(&self, tx: &mut Tx, session: &Session) -> Result<Option<Role>, Error> {
        const GONE: Error = Error::InvalidGrant("the user may not sign in any more");
        let Some(tenant_id) = session.tenant_id else {
            let user = tx.user_by_id(session.user_id).await?;
            return user.filter(|user| user.platform_admin).map(|_| None).ok_or(GONE);
        };
        let member = tx.member(tenant_id, session.user_id).await?.ok_or(GONE)?;
        let tenant = tx.tenant_by_id(tenant_id).await?.ok_or(GONE)?;
        let in_force = member.membership.status == MembershipStatus::Active && tenant.status.is_usable();
        if in_force { Ok(Some(member.membership.role)) } else { Err(GONE) }
    }

    pub(super) async fn new_refresh_token(&self, tx: &mut Tx, session_id: SessionId) -> Result<Secret, Error> {
        let token = Secret::new(URL_SAFE_NO_PAD.encode(random_bytes::<32>(&*self.rng)));
        let now = self.clock.now();
        let expires_at = now.plus_secs(self.config.refresh_token_ttl_s);
        let hash = self.master.hash(&token);
        tx.refresh_token_insert(&RefreshToken { hash, session_id, issued_at: now, expires_at, used_at: None }).await?;
        Ok(token)
    }

    /// Tokens of a session.
    pub(super) fn token_set(
        &self,
        session: &Session,
        role: Option<Role>,
        scope: ScopeSet,
        also: Also<'_>,
    ) -> Result<TokenSet, Error> {
        let now = self.clock.now();
        let expires_at = now.plus_secs(self.config.access_token_ttl_s);
        let expires_at = also.until.map_or(expires_at, |until| until.min(expires_at));
        let grant = Grant {
            sub: session.user_id.as_uuid(),
            tenant: session.tenant_id,
            role,
            scope: scope.clone(),
            client_id: session.client_id.map_or_else(|| FIRST_PARTY.to_owned(), |client| client.to_string()),
            session: Some(session.id),
            expires_at,
        };
        let access_token = self.issue(&grant)?;
        let id_token = also.id_token.map(|(client, nonce)| self.id_token(session, client, nonce, &access_token));
        Ok(TokenSet {
            id_token: id_token.transpose()?,
            access_token,
            expires_in_s: expires_at.as_secs() - now.as_secs(),
            refresh_token: also.refresh_token,
            scope,
            tenant_id: session.tenant_id,
        })
    }

    /// A page of sessions that are not over, of one tenant or of all.
    pub async fn sessions(
        &self,
        scope: Scope,
        tenant: Option<TenantId>,
        page: PageRequest,
    ) -> Result<Page<Session>, Error> {
        let rows = self.store.read(scope).await?.sessions(tenant, page).await?;
        Ok(page.page(rows, |session| session.id.as_uuid()))
    }

    /// Ends a session; its tokens die at once.
    pub async fn end_session(&self, scope: Scope, actor: Actor, id: SessionId) -> Result<(), Error> {
        let mut tx = self.store.begin(scope).await?;
        let session = tx.session(id).await?.ok_or(Error::UnknownSession(id))?;
        let withdrawals = self.end_in(&mut tx, actor, &session).await?;
        tx.commit().await?;
        self.revoke_all_now(withdrawals);
        Ok(())
    }

    /// Ends a session that runs, and those it was switched to, within the caller's transaction.
    pub(super) async fn end_in(&self, tx: &mut Tx, actor: Actor, session: &Session) -> Result<Vec<Withdrawal>, Error> {
        if session.ended_at.is_some() {
            return Err(Error::UnknownSession(session.id));
        }
        let (tenant, subject) = (session.tenant_id, session.id.to_string());
        self.note(tx, Act { actor, action: "session.revoked", tenant, subject, detail: None }).await?;
        self.end_session_in(tx, session.id, &format!("ended by {actor}")).await
    }
}
