//! Looking at one tenant's infrastructure: what is not as it should be of it, and mending that.

use std::time::Duration;

use super::{
    drift::{DriftKind, Found},
    driver::Driver,
    error::Error,
    health::Health,
    model::{Finding, Infrastructure, KeptPlace, Leftover, Tally},
    service::Provisioning,
};
use crate::{
    kernel::{Isolation, TenantId, fault::chain},
    store::{Scope, Tx},
};

/// Whoever keeps a place has so long to say how it is.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the store has of a tenant's infrastructure.
pub(super) struct Noted {
    used: Option<Infrastructure>,
    places: Vec<KeptPlace>,
    leftovers: Vec<Leftover>,
}

impl Noted {
    pub(super) async fn read(tx: &mut Tx, tenant: TenantId) -> Result<Self, Error> {
        Ok(Self {
            used: tx.infrastructure(tenant).await?,
            places: tx.places(tenant).await?,
            leftovers: tx.leftovers_of(tenant).await?,
        })
    }

    /// The place in use.
    fn place(&self) -> Option<&KeptPlace> {
        let used = self.used.as_ref()?;
        self.places.iter().find(|kept| is_at(&Leftover::from(*kept), used))
    }

    /// What is there besides the place in use.
    fn besides(&self) -> Vec<Found> {
        let in_use = |left: &Leftover| self.used.as_ref().is_some_and(|used| is_at(left, used));
        let named =
            |left: &Leftover| format!("{} of the {} driver {}", left.isolation.name(), left.driver, left.location);
        let left: Vec<&Leftover> = self.leftovers.iter().filter(|left| !in_use(left)).collect();
        let is_left = |place: &Leftover| left.iter().any(|left| same(left, place));
        let unused = self.places.iter().map(Leftover::from).filter(|place| !in_use(place) && !is_left(place));
        let unused: Vec<String> = unused.map(|place| named(&place).trim_end().to_owned()).collect();
        let left: Vec<String> = left.into_iter().map(|left| named(left).trim_end().to_owned()).collect();
        [(DriftKind::Leftover, left), (DriftKind::Unused, unused)]
            .into_iter()
            .filter(|(_, places)| !places.is_empty())
            .map(|(kind, places)| Found::new(kind, places.join("; ")))
            .collect()
    }

    /// What is there of a tenant that is deleted.
    pub(super) fn outlived(&self) -> Vec<Found> {
        let places = self.places.iter().map(Leftover::from).chain(self.leftovers.iter().cloned());
        let mut places: Vec<Leftover> = places.chain(self.used.iter().map(Leftover::from)).collect();
        places.dedup_by(|one, other| same(one, other));
        let names: Vec<String> =
            places.iter().map(|place| format!("{} of the {} driver", place.isolation.name(), place.driver)).collect();
        if names.is_empty() { Vec::new() } else { vec![Found::new(DriftKind::Outlived, names.join("; "))] }
    }
}

fn same(one: &Leftover, other: &Leftover) -> bool {
    (one.isolation, &one.driver) == (other.isolation, &other.driver)
}

fn is_at(place: &Leftover, used: &Infrastructure) -> bool {
    (place.isolation, &place.driver) == (used.isolation, &used.driver)
}

impl Provisioning {
    /// What is not as it should be of a tenant that is in use and whose tier wants a kind of isolation.
    pub(super) async fn look_at(
        &self,
        scope: Scope,
        tenant: TenantId,
        wanted: Option<Isolation>,
        health: &Health,
    ) -> Result<Vec<Found>, Error> {
        let noted = Noted::read(&mut self.store.read(scope).await?, tenant).await?;
        let mut found = noted.besides();
        let Some(used) = &noted.used else {
            found.push(Found::new(DriftKind::Missing, "nothing is noted of it"));
            return Ok(found);
        };
        if let Some(wanted) = wanted.filter(|wanted| *wanted != used.isolation) {
            let detail = format!("it is a {}, and its tier's is a {}", used.isolation.name(), wanted.name());
            found.push(Found::new(DriftKind::WrongIsolation, detail));
        }
        let Some(kept) = noted.place() else {
            found.push(Found::new(DriftKind::Missing, "its place is not noted"));
            return Ok(found);
        };
        match self.drivers.named(&kept.driver, tenant) {
            Ok(driver) => found.extend(self.look_at_place(scope, kept, &**driver, health).await?),
            Err(error) => found.push(Found::new(DriftKind::ForeignDriver, error.to_string())),
        }
        Ok(found)
    }

    async fn look_at_place(
        &self,
        scope: Scope,
        kept: &KeptPlace,
        driver: &dyn Driver,
        health: &Health,
    ) -> Result<Option<Found>, Error> {
        let now = self.clock.now();
        if let Some(why) = health.is_down(driver.name(), now) {
            return Ok(Some(silent(driver, &why)));
        }
        let finding = match patiently(driver, driver.verify(&kept.place)).await {
            Ok(finding) => finding,
            Err(error) => {
                let why = chain(&error);
                // One tenant's trouble is not all tenants'.
                if patiently(driver, driver.reachable()).await.is_err() {
                    health.went_down(driver.name(), &why, now);
                } else {
                    health.is_up(driver.name());
                }
                return Ok(Some(silent(driver, &why)));
            }
        };
        health.is_up(driver.name());
        match finding {
            Finding::Present => {
                self.note_rows(scope, kept, driver).await?;
                let half = || Found::new(DriftKind::HalfMade, "its place is noted as not all made");
                Ok((!kept.made).then(half))
            }
            Finding::Unwell(why) => Ok(Some(Found::new(DriftKind::Unwell, why))),
            Finding::Absent => self.without_place(scope, kept, driver, (DriftKind::Absent, String::new())).await,
            Finding::Drifted(what) => self.without_place(scope, kept, driver, (DriftKind::Drifted, what)).await,
        }
    }

    /// What a place comes to that is not there as a whole: rows that a look has seen, and that are gone, are said before all.
    async fn without_place(
        &self,
        scope: Scope,
        kept: &KeptPlace,
        driver: &dyn Driver,
        (kind, what): (DriftKind, String),
    ) -> Result<Option<Found>, Error> {
        let detail = match kind {
            DriftKind::Absent => {
                format!("nothing is there of the {} that the {} driver made", named(kept), driver.name())
            }
            _ => what,
        };
        if !self.store.read(scope).await?.place_kept_rows(kept).await? {
            return Ok(Some(Found::new(kind, detail)));
        }
        match patiently(driver, driver.tally(&kept.place)).await {
            Ok(Tally { rows: 0, .. }) => {
                Ok(Some(Found::new(DriftKind::DataLost, format!("it had rows, and has none: {detail}"))))
            }
            Ok(_) => Ok(Some(Found::new(kind, detail))),
            Err(error) => Ok(Some(silent(driver, &chain(&error)))),
        }
    }

    /// Remembers that a place has rows, once it has, and that it has none, after they were lost.
    async fn note_rows(&self, scope: Scope, kept: &KeptPlace, driver: &dyn Driver) -> Result<(), Error> {
        if !driver.keeps_rows() {
            return Ok(());
        }
        let mut tx = self.store.read(scope).await?;
        let known = tx.place_kept_rows(kept).await?;
        let lost = tx.drift_of(kept.place.tenant_id).await?.iter().any(|drift| drift.kind == DriftKind::DataLost);
        drop(tx);
        if known && !lost {
            return Ok(());
        }
        // It is there, so it answers; if not, the next look asks again.
        let Ok(Tally { rows, .. }) = patiently(driver, driver.tally(&kept.place)).await else { return Ok(()) };
        if known != (rows > 0) {
            let mut tx = self.store.begin(scope).await?;
            tx.place_kept_rows_set(kept, rows > 0).await?;
            tx.commit().await?;
        }
        Ok(())
    }

    /// Mends what was found of a tenant; an error where that failed.
    pub(super) async fn mend(
        &self,
        scope: Scope,
        tenant: TenantId,
        kind: DriftKind,
        wanted: Option<Isolation>,
    ) -> Result<(), Error> {
        match (kind, wanted) {
            (DriftKind::Missing, Some(wanted)) => self.ensure(scope, tenant, wanted).await.map(drop),
            (DriftKind::HalfMade, _) => self.repair(scope, tenant).await,
            (DriftKind::Absent | DriftKind::Drifted, _) => self.mend_place(scope, tenant).await,
            (DriftKind::Leftover, _) => self.clear_leftovers(scope, tenant).await,
            (DriftKind::Outlived, _) => self.remove(scope, tenant).await,
            _ => Ok(()),
        }
    }

    /// Makes a place again that was all made. Nobody sets other credentials meanwhile.
    async fn mend_place(&self, scope: Scope, tenant: TenantId) -> Result<(), Error> {
        let kept = self.place(scope, tenant).await?.ok_or(Error::None(tenant))?;
        if kept.made {
            self.say_mending(scope, &kept, true).await?;
        }
        let mended = self.repair(scope, tenant).await;
        if mended.is_err() && kept.made {
            self.say_mending(scope, &kept, false).await?;
        }
        mended
    }

    async fn say_mending(&self, scope: Scope, kept: &KeptPlace, mends: bool) -> Result<(), Error> {
        let mut tx = self.store.begin(scope).await?;
        let said = tx.place_mending(kept, mends).await?;
        tx.commit().await?;
        if said || !mends { Ok(()) } else { Err(Error::NotMade(kept.place.tenant_id)) }
    }

    /// Takes down the places that a tenant left, and not the one that it uses.
    async fn clear_leftovers(&self, scope: Scope, tenant: TenantId) -> Result<(), Error> {
        let noted = Noted::read(&mut self.store.read(scope).await?, tenant).await?;
        for left in &noted.leftovers {
            if noted.used.as_ref().is_none_or(|used| !is_at(left, used)) {
                self.take_down(scope, left).await?;
            }
        }
        Ok(())
    }
}

fn named(kept: &KeptPlace) -> String {
    let place = &kept.place;
    let location = if place.location.is_empty() { String::new() } else { format!(" {}", place.location) };
    format!("{}{location}", place.isolation.name())
}

/// Where whoever makes places is not who serves from them, its silence says nothing of the place.
fn silent(driver: &dyn Driver, why: &str) -> Found {
    let kind = if driver.serves() { DriftKind::NoAnswer } else { DriftKind::Unanswered };
    Found::new(kind, format!("the {} driver does not answer: {why}", driver.name()))
}

/// Waits for a driver that serves for so long; others have deadlines of their own.
async fn patiently<T>(driver: &dyn Driver, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    if !driver.serves() {
        return work.await;
    }
    let late = || Error::of(driver.name(), "answer", format!("it took more than {} seconds", PATIENCE.as_secs()));
    tokio::time::timeout(PATIENCE, work).await.map_err(|_| late())?
}
