//! What can go wrong with onboarding: its own refusals, and those of the services it orchestrates.

use crate::{
    billing, identity,
    kernel::{CustomerName, EmailDomain, InvitationId, RegistrationId, TenantId, TierChangeId, TierName},
    provisioning,
    store::StoreError,
    tenants, users,
};

/// An error of the onboarding service.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such registration.
    #[error("there is no registration {0}")]
    Unknown(RegistrationId),
    /// No plan has this tier.
    #[error("there is no tier {0}")]
    UnknownTier(TierName),
    /// Somebody else has the customer name, and signing up does not join tenants by their name.
    #[error("the customer name {0} is taken; if it is your organization's, ask its administrator for an invitation")]
    NameTaken(CustomerName),
    /// The email address is known already.
    #[error("this email address is registered already")]
    EmailTaken,
    /// Self-service sign-up is switched off.
    #[error("sign-up is switched off here: ask the administrator for a registration")]
    SignUpClosed,
    /// Nobody signs up to this tier by themselves.
    #[error("the tier {0} is not open to sign-up: ask the administrator for a registration")]
    TierClosed(TierName),
    /// The registration is done, or its tenant is gone.
    #[error("registration {id} is {status}: there is nothing to try again")]
    NothingToRetry {
        /// Which.
        id: RegistrationId,
        /// Its status.
        status: &'static str,
    },
    /// Another node has taken the registration up, or its tenant is being taken out.
    #[error("registration {0} is somebody else's by now")]
    Lost(RegistrationId),
    /// What a registration's steps work from is not there.
    #[error("what registration {0} works from is gone")]
    NoIntent(RegistrationId),
    /// Another change of tier is under way.
    #[error("tenant {id} is on its way to the tier {to}")]
    ChangeUnderWay {
        /// Which tenant.
        id: TenantId,
        /// Where it goes.
        to: TierName,
    },
    /// No such change of tier.
    #[error("there is no change of tier {0}")]
    UnknownChange(TierChangeId),
    /// Another node has taken the change up, or its tenant is being taken out.
    #[error("change of tier {0} is somebody else's by now")]
    LostChange(TierChangeId),
    /// Calls went on for too long, or there was too much to carry along.
    #[error("calls of tenant {tenant} were under way, or rows, for more than the {hold_ms} ms that others may wait")]
    NotQuiet {
        /// Which tenant.
        tenant: TenantId,
        /// The longest that calls are held.
        hold_ms: u128,
    },
    /// The change kept no place.
    #[error("change of tier {0} has kept no place")]
    NothingKept(TierChangeId),
    /// Somebody's rows are there.
    #[error("{place} has {rows} rows, others than were carried along; `discard` takes it down all the same")]
    StillThere {
        /// Where.
        place: String,
        /// How many.
        rows: u64,
    },
    /// The lab lets a step fail.
    #[error("the lab lets the step {step} fail")]
    Rigged {
        /// Which.
        step: &'static str,
        /// Whether it fails for good.
        lasting: bool,
    },
    /// Nobody takes the tenant out.
    #[error("tenant {0} is not being taken out")]
    NotLeaving(TenantId),
    /// Taking the tenant out is done.
    #[error("tenant {0} is gone: there is nothing to try again")]
    NothingLeft(TenantId),
    /// Another node takes the tenant out.
    #[error("tenant {0} is taken out by somebody else by now")]
    LeftToAnother(TenantId),
    /// Calls that were let through before have not ended.
    #[error("{0} calls of the tenant are still under way")]
    UnderWay(u32),
    /// No export is kept any more.
    #[error("{0}")]
    ExportGone(String),
    /// Whoever read an export does not any more.
    #[error("nobody reads the export any more")]
    NobodyReads,
    /// An export could not be packed.
    #[error("the export could not be packed")]
    Packing(#[from] std::io::Error),
    /// Something has no form that can be signed.
    #[error("it cannot be signed: {0}")]
    Unsigned(String),
    /// Only what is gone is erased.
    #[error("tenant {0} is not deleted: only what is left of a deleted tenant can be erased")]
    NotGone(TenantId),
    /// Nothing was erased.
    #[error("nothing of {0} was erased")]
    NotErased(TenantId),
    /// A domain that cannot let people in.
    #[error("the domain {domain} {why}")]
    Domain {
        /// Which.
        domain: EmailDomain,
        /// Why not.
        why: &'static str,
    },
    /// No such invitation that is pending.
    #[error("there is no invitation {0} that is pending")]
    UnknownInvitation(InvitationId),
    /// From the tenants service.
    #[error(transparent)]
    Tenants(#[from] tenants::Error),
    /// From the users service.
    #[error(transparent)]
    Users(#[from] users::Error),
    /// From the identity service.
    #[error(transparent)]
    Identity(#[from] identity::Error),
    /// From the billing service.
    #[error(transparent)]
    Billing(#[from] billing::Error),
    /// From the provisioning service.
    #[error(transparent)]
    Provisioning(#[from] provisioning::Error),
    /// The store failed.
    #[error("the store did not answer")]
    Store(#[from] StoreError),
}
