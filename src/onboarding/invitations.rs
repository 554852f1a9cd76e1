//! Invitations: a link to a tenant, for one email, once, for seven days.

use super::{error::Error, model::Invitation, service::Onboarding};
use crate::{
    identity::{self, Origin, PasswordHash},
    kernel::{Act, Actor, CustomerName, Email, InvitationId, Page, PageRequest, Secret, TenantId},
    mail::Letter,
    store::{Scope, Tx},
    tenants::{self, Status, Tenant},
    users::{self, KnownEmail, Member, Role},
};

/// An invitation works this long, in seconds: seven days.
const TTL_S: i64 = 7 * 86_400;
const SCOPE: Scope = Scope::Job("invitation");

/// Somebody to be invited.
#[derive(Debug, Clone)]
pub struct NewInvitation {
    /// To which tenant.
    pub tenant: TenantId,
    /// Whom.
    pub email: Email,
    /// As what.
    pub role: Role,
}

/// An invitation as who got it sees it.
#[derive(Debug)]
pub struct Offer {
    /// The invitation.
    pub invitation: Invitation,
    /// Who invites.
    pub customer_name: CustomerName,
    /// Whether they have an account, with a password to prove who they are.
    pub has_account: bool,
}

/// What somebody shows to accept.
#[derive(Debug, Clone)]
pub struct Acceptance {
    /// Their password: the one they have, or a new one.
    pub password: Secret,
    /// A code, where they have a second factor.
    pub otp: Option<Secret>,
}

impl Onboarding {
    /// Invites somebody; an invitation to the same email that was pending is taken back.
    pub async fn invite(&self, scope: Scope, actor: Actor, new: NewInvitation) -> Result<Invitation, Error> {
        let tenant = self.services.tenants.find(scope, new.tenant).await?;
        still_takes_people(&tenant)?;
        let identity = &self.services.identity;
        let (token, now) = (identity.new_secret(), self.clock.now());
        let invitation = Invitation {
            id: InvitationId::generate(now, &*self.rng),
            tenant_id: new.tenant,
            email: new.email,
            role: new.role,
            invited_by: actor.to_string(),
            created_at: now,
            expires_at: now.plus_secs(TTL_S),
            accepted_at: None,
            revoked_at: None,
        };
        let text = format!(
            "You are invited to {} as {}.\n\nAccept here, within seven days:\n{}/invitation?token={}\n\n\
             If you do not know them, there is nothing to do.\n",
            tenant.customer_name,
            invitation.role.name(),
            identity.issuer(),
            token.expose()
        );
        let subject = format!("Invitation to {}", tenant.customer_name);
        let letter = Letter { to: invitation.email.clone(), subject, text };
        let mut tx = self.store.begin(scope).await?;
        if let Some(user) = tx.user_by_email(&invitation.email).await?
            && tx.member(new.tenant, user.id).await?.is_some()
        {
            return Err(users::Error::AlreadyMember(user.id).into());
        }
        tx.invitation_insert(&invitation, &identity.keyed_digest(token.expose().as_bytes())).await?;
        self.services.mail.enqueue_in(&mut tx, &letter).await?;
        self.note_invitation(&mut tx, actor, "invitation.made", &invitation).await?;
        tx.commit().await?;
        self.services.mail.wake();
        Ok(invitation)
    }

    /// A page of a tenant's invitations that are pending.
    pub async fn invitations(
        &self,
        scope: Scope,
        tenant: TenantId,
        page: PageRequest,
    ) -> Result<Page<Invitation>, Error> {
        self.services.tenants.find(scope, tenant).await?;
        let rows = self.store.read(scope).await?.invitations(tenant, self.clock.now(), page).await?;
        Ok(page.page(rows, |invitation| invitation.id.as_uuid()))
    }

    /// Takes an invitation back.
    pub async fn revoke_invitation(
        &self,
        scope: Scope,
        actor: Actor,
        tenant: TenantId,
        id: InvitationId,
    ) -> Result<(), Error> {
        let mut tx = self.store.begin(scope).await?;
        tx.invitation_revoke(tenant, id, self.clock.now()).await?.ok_or(Error::UnknownInvitation(id))?;
        let act =
            Act { actor, action: "invitation.revoked", tenant: Some(tenant), subject: id.to_string(), detail: None };
        self.services.identity.note(&mut tx, act).await?;
        Ok(tx.commit().await?)
    }

    /// What a link offers.
    pub async fn offer(&self, token: &Secret) -> Result<Offer, Error> {
        let hash = self.services.identity.keyed_digest(token.expose().as_bytes());
        let mut tx = self.store.read(SCOPE).await?;
        let invitation = tx.invitation_by_token(&hash, self.clock.now()).await?.ok_or(identity::Error::InvalidLink)?;
        let tenant = tx.tenant_by_id(invitation.tenant_id).await?.ok_or(identity::Error::InvalidLink)?;
        still_takes_people(&tenant)?;
        let has_account = match tx.user_by_email(&invitation.email).await? {
            Some(user) => tx.credential(user.id).await?.is_some(),
            None => false,
        };
        Ok(Offer { invitation, customer_name: tenant.customer_name, has_account })
    }

    /// Accepts an invitation: somebody new gets an account, somebody who is known proves who they are.
    pub async fn accept_invitation(
        &self,
        token: &Secret,
        acceptance: &Acceptance,
        origin: &Origin,
    ) -> Result<Member, Error> {
        let Offer { invitation, customer_name, .. } = self.offer(token).await?;
        let identity = &self.services.identity;
        let known = self.store.read(SCOPE).await?.user_by_email(&invitation.email).await?;
        let hash = match &known {
            None => {
                let hints = [invitation.email.as_str(), customer_name.as_str()];
                Some(identity.hash_new_password(&acceptance.password, &hints).await?)
            }
            Some(user) => {
                let Acceptance { password, otp } = acceptance;
                identity.prove_or_set_password(user, password, otp.as_ref(), origin).await?
            }
        };
        let mut tx = self.store.begin(SCOPE).await?;
        let member = self.join_by(&mut tx, &invitation, hash).await?;
        tx.commit().await?;
        Ok(member)
    }

    async fn join_by(&self, tx: &mut Tx, invitation: &Invitation, hash: Option<PasswordHash>) -> Result<Member, Error> {
        if !tx.invitation_accept(invitation.id, self.clock.now()).await? {
            return Err(identity::Error::InvalidLink.into());
        }
        let tenant = tx.tenant_by_id(invitation.tenant_id).await?.ok_or(identity::Error::InvalidLink)?;
        still_takes_people(&tenant)?;
        let Invitation { tenant_id, email, role, .. } = invitation;
        let joined = self.services.users.join_in(tx, *tenant_id, email, *role, KnownEmail::AnyTenant).await?;
        if !joined.new_membership {
            return Err(users::Error::AlreadyMember(joined.user.id).into());
        }
        self.services.identity.email_verified_in(tx, joined.user.id).await?;
        let has_password = tx.credential(joined.user.id).await?.is_some();
        match hash {
            Some(hash) if !has_password => self.services.identity.set_password_in(tx, joined.user.id, &hash).await?,
            None if has_password => {}
            // Somebody with the email appeared, or went, since: nobody has proved to be them.
            _ => return Err(identity::Error::InvalidLink.into()),
        }
        self.note_invitation(tx, Actor::User(joined.user.id), "invitation.accepted", invitation).await?;
        Ok(Member { user: joined.user, membership: joined.membership })
    }

    async fn note_invitation(
        &self,
        tx: &mut Tx,
        actor: Actor,
        action: &'static str,
        invitation: &Invitation,
    ) -> Result<(), Error> {
        let detail = Some(format!("as {}", invitation.role.name()));
        let (tenant, subject) = (Some(invitation.tenant_id), invitation.id.to_string());
        Ok(self.services.identity.note(tx, Act { actor, action, tenant, subject, detail }).await?)
    }
}

fn still_takes_people(tenant: &Tenant) -> Result<(), Error> {
    match tenant.status {
        Status::Offboarding | Status::Deleted { .. } => {
            let (id, status) = (tenant.id, tenant.status.name());
            Err(tenants::Error::WrongState { id, status, verb: "get new users" }.into())
        }
        _ => Ok(()),
    }
}
