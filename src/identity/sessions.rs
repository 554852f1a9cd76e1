//! Signing in, refreshing, and ending sign-ins.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{
    access::{ScopeSet, Subject},
    error::Error,
    model::{Client, RefreshToken, Session, TokenSet},
    rules::{self, FIRST_PARTY, Reuse},
    service::{Grant, Identity},
};
use crate::{
    kernel::{
        Act, Actor, ClientId, Email, Page, PageRequest, Secret, SessionId, TenantId, Timestamp, rng::random_bytes,
    },
    store::{Scope, Tx},
    users::{Membership, MembershipStatus, Role, User},
};

/// Somebody signs in with a password.
#[derive(Debug, Clone)]
pub struct LoginRequest {
    /// Who.
    pub email: Email,
    /// Proof.
    pub password: Secret,
    /// To which tenant; may be left out by who belongs to one.
    pub tenant: Option<TenantId>,
}

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
    /// Signs in with a password. Wrong password, unknown email and a tenant that is not the user's are one error, with
    /// the same work done.
    pub async fn login(&self, request: LoginRequest) -> Result<TokenSet, Error> {
        let user = self.check_password(&request.email, &request.password).await?;
        let mut tx = self.store.begin(Scope::Job("login")).await?;
        let entry = self.entry(&mut tx, &user, request.tenant).await?;
        let now = self.clock.now();
        let (tenant_id, role, scope) = match &entry {
            Entry::Platform => (None, None, rules::admin_scope()),
            Entry::Tenant(place) => (Some(place.tenant_id), Some(place.role), rules::user_scope(place.role)),
        };
        let (id, user_id) = (SessionId::generate(now, &*self.rng), user.id);
        let session = Session {
            id,
            user_id,
            tenant_id,
            client_id: None,
            scope,
            authenticated_at: now,
            created_at: now,
            ended_at: None,
            browser_id: None,
            parent_id: None,
        };
        tx.session_insert(&session, None).await?;
        let refresh_token = self.new_refresh_token(&mut tx, id).await?;
        tx.commit().await?;
        let also = Also { refresh_token: Some(refresh_token), ..Also::default() };
        self.token_set(&session, role, session.scope.clone(), also)
    }

    /// The user whose password this is. Wrong password and unknown email are one error, with the same work done.
    pub(super) async fn check_password(&self, email: &Email, password: &Secret) -> Result<User, Error> {
        let mut tx = self.store.read(Scope::Job("login")).await?;
        let user = tx.user_by_email(email).await?;
        let hash = match &user {
            Some(user) => tx.credential(user.id).await?,
            None => None,
        };
        drop(tx);
        let matches = self.passwords.verify(password, hash).await?;
        user.filter(|_| matches).ok_or(Error::WrongCredentials)
    }

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
            subject: Subject::User(session.user_id),
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
    pub async fn end_session(&self, scope: Scope, id: SessionId) -> Result<(), Error> {
        let mut tx = self.store.begin(scope).await?;
        tx.session(id).await?.filter(|session| session.ended_at.is_none()).ok_or(Error::UnknownSession(id))?;
        let withdrawals = self.end_session_in(&mut tx, id, "ended by an administrator").await?;
        tx.commit().await?;
        self.revoke_all_now(withdrawals);
        Ok(())
    }
}
