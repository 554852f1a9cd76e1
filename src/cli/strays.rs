//! Infrastructure, accounts and people that belong to nobody, and tenants that nobody bills: what the doctor says of each, and
//! what it does about it when it is told to.
//!
//! Never deleted: usage, invoices, rows of a tenant that is there, and what belongs to a tenant that nobody here has heard of, which
//! may be somebody else's on the same server.

use std::{path::PathBuf, sync::Arc};

use crate::{
    billing::{self, AddressBody, Billing},
    kernel::{Act, Actor, Clock as _, Faults, SystemClock, SystemRng, TenantId, UserId, fault::chain, ids::uuid_v7},
    provisioning::{self, Driver, ExecDriver, Finding, Leftover, Place, PostgresDriver, ProcessDriver, SqliteDriver},
    settings::Settings,
    store::{Known, Scope, Store, StoreError, Tx, Unbilled},
    users::Users,
};

const SCOPE: Scope = Scope::Job("doctor");
/// What an account has for an address that nobody knows.
const NO_ADDRESS: &str = "not known yet";

/// Why strays could not be looked for, or one not be mended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("provisioning.postgres.url: {0}")]
    Driver(String),
    #[error("what runs for tenants cannot be seen")]
    Processes(#[from] std::io::Error),
    #[error(transparent)]
    Provisioning(#[from] provisioning::Error),
    #[error(transparent)]
    Metering(#[from] crate::metering::Error),
    #[error(transparent)]
    Billing(#[from] billing::Error),
    #[error(transparent)]
    Users(#[from] crate::users::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Something that belongs to nobody.
pub(super) struct Stray {
    /// What, in a sentence's beginning.
    what: String,
    cure: Cure,
}

/// What is done about it.
enum Cure {
    /// A place is taken down, by the driver that made it.
    TakeDown(Leftover, Place),
    /// The same by the server: this program cannot ask the driver.
    LeaveToServer(Leftover),
    CloseAccount(TenantId),
    OpenAccount(TenantId),
    MakeDue(TenantId),
    ForgetUser(UserId),
    ForgetTenant(TenantId),
    /// Nothing, for a reason.
    ByHand(&'static str),
}

impl Stray {
    /// What is wrong, and what can be done.
    pub(super) fn sentence(&self) -> String {
        let Self { what, cure } = self;
        match cure {
            Cure::ByHand(why) => format!("{what}; {why}"),
            _ => format!("{what}; --repair {}", cure.verb()),
        }
    }

    /// The same once it was done.
    pub(super) fn done(&self) -> String {
        format!("mended: {} (--repair {})", self.what, self.cure.verb())
    }

    /// The same when it was tried and not done.
    pub(super) fn failed(&self, why: &Error) -> String {
        format!("{}; it could not be mended: {}", self.what, chain(why))
    }

    pub(super) const fn is_for_somebody(&self) -> bool {
        matches!(self.cure, Cure::ByHand(_))
    }
}

impl Cure {
    const fn verb(&self) -> &'static str {
        match self {
            Self::TakeDown(..) => "takes it down",
            Self::LeaveToServer(_) => "has the server take it down",
            Self::CloseAccount(_) => "closes the account, and keeps its invoices",
            Self::OpenAccount(_) => "opens one from now on, without an address; what was used before is billed by hand",
            Self::MakeDue(_) => "has its periods invoiced from the first that has no invoice",
            Self::ForgetUser(_) => "forgets the person and their password",
            Self::ForgetTenant(_) => "removes them",
            Self::ByHand(_) => "does nothing",
        }
    }
}

/// What this program can reach without being the server.
pub(super) struct Doctor<'a> {
    store: &'a Store,
    drivers: Vec<Arc<dyn Driver>>,
    processes: PathBuf,
}

impl<'a> Doctor<'a> {
    /// Asks the drivers that settings know and that can be asked from outside.
    pub(super) fn new(store: &'a Store, settings: &Settings) -> Result<Self, Error> {
        let folder = settings.store.data.join("infrastructure");
        let mut drivers: Vec<Arc<dyn Driver>> = vec![Arc::new(SqliteDriver::new(folder.clone()))];
        if let Some(config) = &settings.provisioning.postgres {
            drivers.push(Arc::new(PostgresDriver::new(config).map_err(Error::Driver)?));
        }
        if let Some(config) = settings.provisioning.exec.clone() {
            drivers.push(Arc::new(ExecDriver::new(config)));
        }
        Ok(Self { store, drivers, processes: folder.join("process") })
    }

    fn driver(&self, name: &str) -> Option<&dyn Driver> {
        self.drivers.iter().find(|driver| driver.name() == name).map(|driver| &**driver)
    }

    /// Whatever belongs to nobody. Changes nothing.
    pub(super) async fn find(&self) -> Result<Vec<Stray>, Error> {
        let mut found = self.places().await?;
        let mut tx = self.store.read(SCOPE).await?;
        let stray = |what, cure| Stray { what, cure };
        for tenant in tx.accounts_without_tenant().await? {
            let who = match tx.tenant_known(tenant).await? {
                Known::Deleted => "which is deleted",
                Known::Alive | Known::Unknown => "which nobody has heard of",
            };
            let what = format!("billing: the account of tenant {tenant}, {who}, is open");
            found.push(stray(what, Cure::CloseAccount(tenant)));
        }
        for (tenant, why) in tx.tenants_unbilled().await? {
            let (what, cure) = match why {
                Unbilled::NoAccount => ("has no billing account", Cure::OpenAccount(tenant)),
                Unbilled::Closed => {
                    ("has a billing account that is closed", Cure::ByHand("open another, or take it out"))
                }
                Unbilled::NeverDue => ("has a billing account that is never due", Cure::MakeDue(tenant)),
            };
            found.push(stray(format!("billing: tenant {tenant} is in use and {what}"), cure));
        }
        for (tenant, meter, minutes) in tx.usage_after_deletion().await? {
            let what = format!("usage: meter {meter} of tenant {tenant} counts {minutes} minutes after it was deleted");
            found.push(stray(what, Cure::ByHand("usage is never taken out; void its events, or let it be")));
        }
        for user in tx.users_without_membership().await? {
            found.push(stray(format!("people: user {user} belongs to no tenant"), Cure::ForgetUser(user)));
        }
        for (tenant, kind, count) in tx.kept_of_deleted().await? {
            let what = format!("people: {count} {kind} of tenant {tenant}, which is deleted");
            found.push(stray(what, Cure::ForgetTenant(tenant)));
        }
        Ok(found)
    }

    /// Places of those who are gone, and places that nobody has noted.
    async fn places(&self) -> Result<Vec<Stray>, Error> {
        // What is there first, and what is noted after: a place is noted before it is made.
        let mut there = Vec::new();
        for driver in &self.drivers {
            there.extend(driver.list().await?.into_iter().map(|place| noted_as(place, driver.name())));
        }
        for tenant in ProcessDriver::noted_in(self.processes.clone())? {
            let place = Place::new(tenant, crate::kernel::Isolation::Silo, String::new());
            there.push(noted_as(place, ProcessDriver::NAME));
        }
        let mut tx = self.store.read(SCOPE).await?;
        let mut noted = tx.places_noted().await?;
        noted.dedup_by(|one, other| same(one, other));
        let mut found = Vec::new();
        for left in &noted {
            let who = match tx.tenant_known(left.tenant_id).await? {
                Known::Alive => continue,
                Known::Deleted => "which is deleted",
                Known::Unknown => "which nobody has heard of",
            };
            let what = format!("infrastructure: {} is noted for tenant {}, {who}", named(left), left.tenant_id);
            let place = there.iter().find(|(own, _)| same(own, left)).map(|(_, place)| place.clone());
            let place = match place {
                Some(place) => Some(place),
                None => tx.place(left.tenant_id, left.isolation, &left.driver).await?.map(|kept| kept.place),
            };
            let reached = self.driver(&left.driver).is_some() || left.driver == ProcessDriver::NAME;
            let cure = match place {
                Some(place) if reached => Cure::TakeDown(left.clone(), place),
                _ => Cure::LeaveToServer(left.clone()),
            };
            found.push(Stray { what, cure });
        }
        for (left, place) in there.into_iter().filter(|(own, _)| noted.iter().all(|left| !same(own, left))) {
            let known = tx.tenant_known(left.tenant_id).await?;
            found.extend(self.unnoted(known, left, place).await?);
        }
        Ok(found)
    }

    async fn unnoted(&self, known: Known, left: Leftover, place: Place) -> Result<Option<Stray>, Error> {
        let rows = match self.driver(&left.driver) {
            // It went between the two looks.
            Some(driver) if driver.verify(&place).await? == Finding::Absent => return Ok(None),
            Some(driver) => driver.tally(&place).await?.rows,
            None => 0,
        };
        let (who, cure) = match known {
            Known::Deleted => ("of tenant, which is deleted", None),
            Known::Alive if rows == 0 => ("of tenant, which is somewhere else", None),
            Known::Alive => ("of tenant, which is somewhere else", Some("it has rows: move them, or drop it, by hand")),
            Known::Unknown => {
                ("of tenant, which nobody has heard of", Some("it may be another installation's: drop it by hand"))
            }
        };
        let who = who.replacen("tenant", &format!("tenant {}", left.tenant_id), 1);
        let what = format!("infrastructure: {} is there {who}, and nothing is noted of it", named(&left));
        let cure = cure.map_or_else(|| Cure::TakeDown(left, place), Cure::ByHand);
        Ok(Some(Stray { what, cure }))
    }

    /// Does what is to be done about one, and notes it in the audit.
    pub(super) async fn mend(&self, stray: &Stray, billing: &Billing, users: &Users) -> Result<(), Error> {
        let now = SystemClock.now();
        let mut tenant = None;
        let mut tx = match &stray.cure {
            Cure::ByHand(_) => return Ok(()),
            Cure::TakeDown(left, place) => {
                self.take_down(left, place).await?;
                self.store.begin(SCOPE).await?
            }
            _ => self.store.begin(SCOPE).await?,
        };
        match &stray.cure {
            Cure::ByHand(_) => {}
            Cure::TakeDown(left, _) => {
                tenant = Some(left.tenant_id);
                forget_place(&mut tx, left).await?;
            }
            Cure::LeaveToServer(left) => {
                tenant = Some(left.tenant_id);
                tx.leftover_insert(left).await?;
            }
            Cure::CloseAccount(id) => {
                tenant = Some(*id);
                billing.close_account_in(&mut tx, *id).await?;
            }
            Cure::OpenAccount(id) => {
                tenant = Some(*id);
                if let Some(address) = AddressBody::Text(NO_ADDRESS.to_owned()).parse("", &mut Faults::new()) {
                    billing.ensure_account_in(&mut tx, *id, &address).await?;
                }
            }
            Cure::MakeDue(id) => {
                tenant = Some(*id);
                tx.account_due_again(*id).await?;
            }
            // Who came into a tenant meanwhile stays.
            Cure::ForgetUser(id) => drop(tx.user_forget_if_homeless(*id).await?),
            Cure::ForgetTenant(id) => {
                tenant = Some(*id);
                forget_tenant(&mut tx, *id, users).await?;
            }
        }
        let subject = match &stray.cure {
            Cure::ForgetUser(id) => id.to_string(),
            _ => tenant.map_or_else(String::new, |id| id.to_string()),
        };
        let (actor, action, detail) = (Actor::Job("doctor"), "doctor.mended", Some(stray.what.clone()));
        let act = Act { actor, action, tenant, subject, detail };
        tx.audit_insert(uuid_v7(now, &SystemRng), now, &act).await?;
        Ok(tx.commit().await?)
    }

    async fn take_down(&self, left: &Leftover, place: &Place) -> Result<(), Error> {
        match self.driver(&left.driver) {
            Some(driver) => Ok(driver.destroy(place).await?),
            None => Ok(ProcessDriver::end_noted(self.processes.clone(), left.tenant_id)?),
        }
    }
}

async fn forget_place(tx: &mut Tx, left: &Leftover) -> Result<(), StoreError> {
    tx.place_delete(left.tenant_id, left.isolation, &left.driver).await?;
    tx.leftover_delete(left).await?;
    // Of a tenant that is there, what it uses is not what nobody has noted.
    if tx.tenant_known(left.tenant_id).await? == Known::Alive {
        return Ok(());
    }
    tx.infrastructure_delete(left.tenant_id).await
}

/// As [`crate::onboarding::Onboarding::offboard`] does with what is a tenant's.
async fn forget_tenant(tx: &mut Tx, tenant: TenantId, users: &Users) -> Result<(), Error> {
    if tx.tenant_known(tenant).await? != Known::Deleted {
        return Ok(());
    }
    let now = SystemClock.now();
    users.remove_all_in(tx, tenant).await?;
    tx.sessions_end_of_tenant(tenant, now).await?;
    tx.clients_delete_of_tenant(tenant, now).await?;
    tx.invitations_forget(tenant).await?;
    tx.webhooks_forget(tenant).await?;
    Ok(tx.domains_forget(tenant).await?)
}

fn noted_as(place: Place, driver: &str) -> (Leftover, Place) {
    let left = Leftover {
        tenant_id: place.tenant_id,
        isolation: place.isolation,
        driver: driver.to_owned(),
        location: place.location.clone(),
    };
    (left, place)
}

fn same(one: &Leftover, other: &Leftover) -> bool {
    (one.tenant_id, one.isolation, &one.driver) == (other.tenant_id, other.isolation, &other.driver)
}

fn named(left: &Leftover) -> String {
    let named = format!("a {} of the {} driver {}", left.isolation.name(), left.driver, left.location);
    named.trim_end().to_owned()
}
