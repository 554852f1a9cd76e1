//! A registration and its steps.

use crate::{
    billing::BillingAddress,
    identity::PasswordHash,
    kernel::{
        Actor, CustomerName, Email, ExternalId, InvitationId, RegistrationId, Secret, TenantId, TierName, Timestamp,
        UserId,
    },
    users::{KnownEmail, Role},
};

/// What somebody asks for when they register, already checked field by field.
#[derive(Debug, Clone)]
pub struct Request {
    /// How the first user signs in.
    pub email: Email,
    /// The customer.
    pub customer_name: CustomerName,
    /// Where bills go.
    pub billing_address: BillingAddress,
    /// The tier asked for.
    pub tier: TierName,
    /// The first user's password; without one they cannot sign in until one is set.
    pub password: Option<Secret>,
    /// What a foreign issuer calls the tenant.
    pub external_id: Option<ExternalId>,
    /// Through which door they come.
    pub entrance: Entrance,
    /// What their `Idempotency-Key` comes to: a registration with the same is this one.
    pub key: Option<[u8; 32]>,
}

/// The two ways in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entrance {
    /// An administrator registers: an existing customer name is joined.
    Administrator {
        /// Who.
        actor: Actor,
        /// Whether an email that lives in another tenant may become a member of this one too.
        allow_membership: bool,
    },
    /// Anybody signs up: an existing email is refused, and an existing customer name unless its tenant lets people of the
    /// email's domain in.
    SignUp,
}

/// What the steps of a registration work from, kept until it has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    /// Who asked for it; `None` for somebody who signs up, who is the user that is made.
    pub actor: Option<Actor>,
    /// Whether an email that lives in another tenant may come into this one.
    pub known_email: KnownEmail,
    /// Whether the email was verified.
    pub verified: bool,
    /// The user's role; who is first owns the tenant when absent.
    pub role: Option<Role>,
    /// The user's password, when they are new.
    pub password: Option<PasswordHash>,
    /// What a foreign issuer calls the tenant.
    pub external_id: Option<ExternalId>,
    /// Where bills go.
    pub billing_address: BillingAddress,
}

/// One run of the onboarding saga.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// Which run.
    pub id: RegistrationId,
    /// The tenant it made or joined.
    pub tenant_id: TenantId,
    /// The user it made or found.
    pub user_id: UserId,
    /// The email it was made with; forgotten when the tenant is.
    pub email: Option<Email>,
    /// The customer.
    pub customer_name: CustomerName,
    /// The tier that was asked for (the tenant's own decides).
    pub tier: TierName,
    /// How it stands.
    pub status: RegistrationStatus,
    /// Whether its steps are taken back.
    pub undoing: bool,
    /// Whether the tenant is of its making, and nobody else's yet.
    pub founds: bool,
    /// Whether the user's place in the tenant is of its making.
    pub joined: bool,
    /// What its steps work from; nothing once it has ended.
    pub intent: Option<Intent>,
    /// How often somebody took it up. Who took it up before that has lost it.
    pub claims: i64,
    /// Its steps, in order.
    pub steps: Vec<Step>,
    /// What the caller should know: a tier or an address that was not taken over.
    pub notes: Vec<String>,
    /// When it began.
    pub created_at: Timestamp,
    /// When it last moved.
    pub updated_at: Timestamp,
}

/// How a registration stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegistrationStatus {
    /// Steps are under way.
    Running,
    /// Every step is done.
    Active,
    /// A step failed; it is tried again, by itself or when somebody says so.
    Failed,
    /// What it made was taken out again.
    Compensated,
}

/// One step of a registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Which.
    pub name: StepName,
    /// How it stands.
    pub status: StepStatus,
    /// How often it was tried.
    pub attempts: i64,
    /// Why it failed last.
    pub error: Option<String>,
    /// When it is tried again, while it waits for that.
    pub next_try_at: Option<Timestamp>,
    /// When it was last begun.
    pub started_at: Option<Timestamp>,
    /// When that came to an end.
    pub ended_at: Option<Timestamp>,
}

/// The steps, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepName {
    /// The tenant exists and has its id.
    Tenant,
    /// The user exists and belongs to it.
    User,
    /// The billing account exists.
    BillingAccount,
    /// The infrastructure exists.
    Provisioning,
    /// The tenant can be used.
    Activation,
}

/// How a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepStatus {
    /// Not begun.
    Pending,
    /// Under way.
    Running,
    /// Done.
    Done,
    /// Failed.
    Failed,
    /// Taken back.
    Undone,
}

/// A stored name that is none of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a known name")]
pub struct UnknownName;

macro_rules! names {
    ($type:ident { $($variant:ident = $name:literal),* }) => {
        impl $type {
            /// All of them, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The name in the API and in the store.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name),*
                }
            }
        }
        impl std::str::FromStr for $type {
            type Err = UnknownName;
            fn from_str(text: &str) -> Result<Self, UnknownName> {
                match text {
                    $($name => Ok(Self::$variant),)*
                    _ => Err(UnknownName),
                }
            }
        }
    };
}
pub(super) use names;

names!(RegistrationStatus { Running = "running", Active = "active", Failed = "failed", Compensated = "compensated" });
names!(StepName {
    Tenant = "tenant",
    User = "user",
    BillingAccount = "billing_account",
    Provisioning = "provisioning",
    Activation = "activation"
});
names!(StepStatus { Pending = "pending", Running = "running", Done = "done", Failed = "failed", Undone = "undone" });

/// An invitation to a tenant, as kept; its link is known to who got it alone.
#[derive(Debug, Clone)]
pub struct Invitation {
    /// Which.
    pub id: InvitationId,
    /// To which tenant.
    pub tenant_id: TenantId,
    /// Whom.
    pub email: Email,
    /// As what.
    pub role: Role,
    /// Who invited them, as the audit names them.
    pub invited_by: String,
    /// When.
    pub created_at: Timestamp,
    /// Until when it works.
    pub expires_at: Timestamp,
    /// When it was accepted.
    pub accepted_at: Option<Timestamp>,
    /// When it was taken back.
    pub revoked_at: Option<Timestamp>,
}
