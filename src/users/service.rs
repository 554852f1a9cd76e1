//! Use cases of users.

use std::sync::Arc;

use serde_json::json;

use super::{
    error::Error,
    model::{Member, Membership, MembershipStatus, Role, User},
    rules::{self, KnownEmail},
};
use crate::{
    kernel::{Clock, Email, Event, EventName, Page, PageRequest, Rng, TenantId, UserId},
    store::{Scope, Store, Tx},
};

/// The users service; cheap to clone.
#[derive(Clone)]
pub struct Users {
    store: Store,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
}

/// The outcome of joining a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// The person.
    pub user: User,
    /// Their place, new or found.
    pub membership: Membership,
    /// Whether the person was not known before.
    pub new_user: bool,
    /// Whether the place was not there before.
    pub new_membership: bool,
}

impl Users {
    /// Over a store.
    pub fn new(store: Store, clock: Arc<dyn Clock>, rng: Arc<dyn Rng>) -> Self {
        Self { store, clock, rng }
    }

    /// The id of a person who is to be made.
    pub fn new_id(&self) -> UserId {
        UserId::generate(self.clock.now(), &*self.rng)
    }

    /// The person with an email, if there is one: an error when they may not join a tenant.
    pub async fn may_join_in(
        &self,
        tx: &mut Tx,
        tenant: TenantId,
        email: &Email,
        policy: KnownEmail,
    ) -> Result<Option<User>, Error> {
        let Some(user) = tx.user_by_email(email).await? else { return Ok(None) };
        let memberships = tx.memberships_of_user(user.id).await?;
        rules::joining(&user, &memberships, tenant, policy)?;
        Ok(Some(user))
    }

    /// Brings a person into a tenant within the caller's transaction. Doing it twice changes nothing.
    pub async fn join_in(
        &self,
        tx: &mut Tx,
        tenant: TenantId,
        email: &Email,
        role: Role,
        policy: KnownEmail,
    ) -> Result<Joined, Error> {
        self.join_as_in(tx, (tenant, self.new_id()), email, role, policy).await
    }

    /// The same, where a person who is new gets an id that is fixed already.
    pub async fn join_as_in(
        &self,
        tx: &mut Tx,
        (tenant, id): (TenantId, UserId),
        email: &Email,
        role: Role,
        policy: KnownEmail,
    ) -> Result<Joined, Error> {
        let (user, new_user) = self.find_or_create(tx, id, email, false).await?;
        let memberships = tx.memberships_of_user(user.id).await?;
        if let Some(membership) = rules::joining(&user, &memberships, tenant, policy)? {
            return Ok(Joined { user, membership, new_user, new_membership: false });
        }
        let membership = Membership {
            tenant_id: tenant,
            user_id: user.id,
            role,
            status: MembershipStatus::Active,
            created_at: self.clock.now(),
        };
        tx.membership_insert(&membership).await?;
        // Without the email: what is told cannot be taken back when the person is forgotten.
        let data = json!({"tenant_id": tenant, "user_id": user.id, "role": role.name()});
        let event = Event::new(EventName::UserCreated, Some(tenant), data, self.clock.now(), &*self.rng);
        tx.event_insert(&event).await?;
        Ok(Joined { user, membership, new_user, new_membership: true })
    }

    /// Takes a join back: ends the membership, and forgets a person who belongs nowhere else. Who owns the tenant then, if
    /// that was its last owner and others are in it.
    pub async fn unjoin_in(&self, tx: &mut Tx, tenant: TenantId, id: UserId) -> Result<Option<UserId>, Error> {
        tx.membership_delete(tenant, id).await?;
        tx.user_forget_if_homeless(id).await?;
        if tx.owners_locked(tenant).await?.is_empty() { Ok(tx.membership_heir(tenant).await?) } else { Ok(None) }
    }

    /// The platform administrator with this address, within the caller's transaction; made when there is none.
    pub async fn platform_admin_in(&self, tx: &mut Tx, email: &Email) -> Result<User, Error> {
        let (user, _) = self.find_or_create(tx, self.new_id(), email, true).await?;
        if user.platform_admin { Ok(user) } else { Err(Error::EmailElsewhere) }
    }

    async fn find_or_create(
        &self,
        tx: &mut Tx,
        id: UserId,
        email: &Email,
        platform_admin: bool,
    ) -> Result<(User, bool), Error> {
        if let Some(user) = tx.user_by_email(email).await? {
            return Ok((user, false));
        }
        let now = self.clock.now();
        let user = User {
            id,
            email: email.clone(),
            email_verified_at: None,
            name: None,
            platform_admin,
            created_at: now,
            updated_at: now,
        };
        if tx.user_insert(&user).await? {
            return Ok((user, true));
        }
        // Somebody else made it between the two statements; it is visible now.
        let user = tx.user_by_email(email).await?.ok_or(Error::Unknown(user.id))?;
        Ok((user, false))
    }

    /// A page of a tenant's members.
    pub async fn list(&self, scope: Scope, tenant: TenantId, page: PageRequest) -> Result<Page<Member>, Error> {
        let mut tx = self.store.read(scope).await?;
        tx.tenant_by_id(tenant).await?.ok_or(Error::UnknownTenant(tenant))?;
        let rows = tx.members(tenant, page).await?;
        Ok(page.page(rows, |member| member.user.id.as_uuid()))
    }

    /// One member.
    pub async fn find(&self, scope: Scope, tenant: TenantId, id: UserId) -> Result<Member, Error> {
        let mut tx = self.store.read(scope).await?;
        tx.member(tenant, id).await?.ok_or(Error::Unknown(id))
    }

    /// Puts a membership out of force; the last owner's cannot be.
    pub async fn disable_in(&self, tx: &mut Tx, tenant: TenantId, id: UserId) -> Result<Member, Error> {
        rules::keeps_an_owner(&tx.owners_locked(tenant).await?, id)?;
        self.set_status(tx, tenant, id, MembershipStatus::Disabled).await
    }

    /// Puts a membership back in force.
    pub async fn enable_in(&self, tx: &mut Tx, tenant: TenantId, id: UserId) -> Result<Member, Error> {
        self.set_status(tx, tenant, id, MembershipStatus::Active).await
    }

    async fn set_status(
        &self,
        tx: &mut Tx,
        tenant: TenantId,
        id: UserId,
        status: MembershipStatus,
    ) -> Result<Member, Error> {
        if !tx.membership_set_status(tenant, id, status).await? {
            return Err(Error::Unknown(id));
        }
        tx.member(tenant, id).await?.ok_or(Error::Unknown(id))
    }

    /// Ends a membership and forgets a person who belongs nowhere else; the last owner stays.
    pub async fn remove_in(&self, tx: &mut Tx, tenant: TenantId, id: UserId) -> Result<(), Error> {
        rules::keeps_an_owner(&tx.owners_locked(tenant).await?, id)?;
        if !tx.membership_delete(tenant, id).await? {
            return Err(Error::Unknown(id));
        }
        tx.user_forget_if_homeless(id).await?;
        let data = json!({"tenant_id": tenant, "user_id": id});
        let event = Event::new(EventName::UserRemoved, Some(tenant), data, self.clock.now(), &*self.rng);
        Ok(tx.event_insert(&event).await?)
    }

    /// Ends every membership of a tenant that is being taken apart; the people who were forgotten with it.
    pub async fn remove_all_in(&self, tx: &mut Tx, tenant: TenantId) -> Result<Vec<UserId>, Error> {
        let mut forgotten = Vec::new();
        loop {
            let members = tx.members(tenant, PageRequest::default()).await?;
            if members.is_empty() {
                return Ok(forgotten);
            }
            for member in members {
                tx.membership_delete(tenant, member.user.id).await?;
                if tx.user_forget_if_homeless(member.user.id).await? {
                    forgotten.push(member.user.id);
                }
            }
        }
    }
}
