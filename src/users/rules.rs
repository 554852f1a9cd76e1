//! Who may join, and who may leave.

use super::{
    error::Error,
    model::{Member, Membership, MembershipStatus, Role, User},
};
use crate::kernel::{TenantId, UserId};

/// Whether an email address that is already known may come into a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KnownEmail {
    /// Only when its person belongs to this very tenant.
    OnlyOwnTenant,
    /// Also when its person belongs to other tenants; an administrator asked for it.
    AnyTenant,
}

/// What joining means for a person who is known: their membership here, or `None` when one is to be made.
pub fn joining(
    user: &User,
    memberships: &[Membership],
    tenant: TenantId,
    policy: KnownEmail,
) -> Result<Option<Membership>, Error> {
    if user.platform_admin {
        return Err(Error::EmailOfAdministrator);
    }
    let here = memberships.iter().find(|membership| membership.tenant_id == tenant);
    let elsewhere = memberships.iter().any(|membership| membership.tenant_id != tenant);
    match (here, policy) {
        (Some(membership), _) => Ok(Some(membership.clone())),
        (None, KnownEmail::OnlyOwnTenant) if elsewhere => Err(Error::EmailElsewhere),
        (None, _) => Ok(None),
    }
}

/// An error when `leaving` is the last owner in force among `members`.
pub fn keeps_an_owner(members: &[Member], leaving: UserId) -> Result<(), Error> {
    let in_force = |member: &&Member| {
        member.membership.role == Role::Owner && member.membership.status == MembershipStatus::Active
    };
    let mut owners = members.iter().filter(in_force).map(|member| member.user.id);
    match (owners.next(), owners.next()) {
        (Some(only), None) if only == leaving => Err(Error::LastOwner(leaving)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{SeededRng, Timestamp};

    fn ids() -> (TenantId, TenantId, UserId) {
        let rng = SeededRng::new(7);
        let now = Timestamp::from_secs(1).unwrap();
        (TenantId::generate(now, &rng), TenantId::generate(now, &rng), UserId::generate(now, &rng))
    }

    fn user(id: UserId, platform_admin: bool) -> User {
        let created_at = Timestamp::from_secs(1).unwrap();
        User {
            id,
            email: "ada@example.com".parse().unwrap(),
            email_verified_at: None,
            name: None,
            platform_admin,
            created_at,
            updated_at: created_at,
        }
    }

    fn membership(tenant_id: TenantId, user_id: UserId) -> Membership {
        let created_at = Timestamp::from_secs(1).unwrap();
        Membership { tenant_id, user_id, role: Role::Owner, status: MembershipStatus::Active, created_at }
    }

    #[test]
    fn an_email_of_another_tenant_joins_only_when_an_administrator_says_so() {
        let (here, elsewhere, id) = ids();
        let (user, memberships) = (user(id, false), [membership(elsewhere, id)]);
        let refused = joining(&user, &memberships, here, KnownEmail::OnlyOwnTenant);
        assert!(matches!(refused, Err(Error::EmailElsewhere)));
        assert!(matches!(joining(&user, &memberships, here, KnownEmail::AnyTenant), Ok(None)));
    }

    #[test]
    fn joining_twice_is_the_same_membership() {
        let (here, _, id) = ids();
        let joined = joining(&user(id, false), &[membership(here, id)], here, KnownEmail::OnlyOwnTenant).unwrap();
        assert_eq!(joined, Some(membership(here, id)));
    }

    #[test]
    fn a_platform_administrator_is_nobodys_user() {
        let (here, _, id) = ids();
        let refused = joining(&user(id, true), &[], here, KnownEmail::AnyTenant);
        assert!(matches!(refused, Err(Error::EmailOfAdministrator)));
    }

    #[test]
    fn the_last_owner_stays() {
        let (here, _, id) = ids();
        let member = Member { user: user(id, false), membership: membership(here, id) };
        assert!(matches!(keeps_an_owner(&[member], id), Err(Error::LastOwner(_))));
    }
}
