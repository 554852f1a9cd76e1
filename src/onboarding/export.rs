//! What there is of a tenant, as one archive: made page by page and given away as it is made, so that no more than a page of it
//! is in memory, whatever its length. Never in it: passwords, secrets, hashes, tokens.

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{error::Error, leaving::Offboarding, offboard::JOB, service::Onboarding, signed, zip::Zip};
use crate::{
    billing::InvoiceView,
    kernel::{
        ExternalId, PageRequest, PersonName, TenantId, Timestamp,
        audit::{AuditEntry, AuditFilter},
    },
    store::{DayTotal, InvoiceFilter, Scope, Store},
    users::Member,
};

/// What the archive is, and of which version.
const FORMAT: &str = "tollgate-export/1";
/// Given away in pieces of at least so many bytes.
const PIECE: usize = 64 * 1024;
/// Rows of usage that are read at once.
const DAYS: i64 = 1_000;

/// Who the archive is given to.
pub(super) enum Out {
    /// Somebody who reads it now.
    Reader(mpsc::Sender<Result<Bytes, std::io::Error>>),
    /// The store, which keeps it.
    Kept(Box<Keeper>),
}

/// Keeps an archive.
pub(super) struct Keeper {
    pub(super) onboarding: Onboarding,
    pub(super) leaving: Offboarding,
    pub(super) number: i64,
}

impl Keeper {
    async fn put(&mut self, piece: &[u8]) -> Result<(), Error> {
        let place = (self.leaving.tenant_id, self.leaving.claims, self.number);
        let sealed = self.onboarding.services.identity.seal_secret(&sealed_as(place), piece)?;
        let mut tx = self.onboarding.store.begin(Scope::Job(JOB)).await?;
        // Whoever has lost the tenant leaves no piece behind the one who has it.
        self.onboarding.hold_leaving(&mut tx, &self.leaving).await?;
        tx.kept_export_put(place, &sealed).await?;
        self.number += 1;
        Ok(tx.commit().await?)
    }
}

/// No piece opens in the place of another.
pub(super) fn sealed_as((tenant, claim, number): (TenantId, i64, i64)) -> String {
    format!("export {tenant} {claim} {number}")
}

impl Out {
    async fn put(&mut self, piece: Vec<u8>) -> Result<(), Error> {
        match self {
            Self::Reader(reader) => reader.send(Ok(piece.into())).await.map_err(|_| Error::NobodyReads),
            Self::Kept(keeper) => keeper.put(&piece).await,
        }
    }
}

/// An archive that is being made.
struct Package {
    zip: Zip,
    out: Out,
    files: Vec<Value>,
    /// Items of the file that is open.
    items: u64,
    name: String,
}

impl Package {
    fn begin(&mut self, name: &str) {
        self.items = 0;
        name.clone_into(&mut self.name);
        self.zip.begin(name);
    }

    /// The next item of a list.
    async fn item(&mut self, item: &impl Serialize) -> Result<(), Error> {
        self.zip.write(if self.items == 0 { b"[\n" } else { b",\n" })?;
        self.zip.write(&serde_json::to_vec(item).unwrap_or_default())?;
        self.items += 1;
        self.relieve().await
    }

    /// Ends a list.
    async fn end_list(&mut self) -> Result<(), Error> {
        self.zip.write(if self.items == 0 { b"[]\n" } else { b"\n]\n" })?;
        self.end().await
    }

    /// A file that is one object.
    async fn object(&mut self, name: &str, object: &impl Serialize) -> Result<(), Error> {
        self.begin(name);
        self.items = 1;
        self.zip.write(&serde_json::to_vec_pretty(object).unwrap_or_default())?;
        self.zip.write(b"\n")?;
        self.end().await
    }

    async fn end(&mut self) -> Result<(), Error> {
        let sha256 = self.zip.end()?;
        self.files.push(json!({"name": self.name, "sha256": sha256, "entries": self.items}));
        self.relieve().await
    }

    /// Gives away what is written, once it is enough.
    async fn relieve(&mut self) -> Result<(), Error> {
        if self.zip.len() < PIECE {
            return Ok(());
        }
        let piece = self.zip.take();
        self.out.put(piece).await
    }
}

impl Onboarding {
    /// Makes the archive of a tenant, and gives it to somebody.
    pub(super) async fn pack(&self, scope: Scope, tenant: TenantId, out: Out) -> Result<Out, Error> {
        let now = self.clock.now();
        self.services.billing.catch_up().await?;
        let (zip, files) = (Zip::new(now), Vec::new());
        let mut package = Package { zip, out, files, items: 0, name: String::new() };
        let of = (scope, tenant);
        self.pack_tenant(of, &mut package).await?;
        self.pack_users(of, &mut package).await?;
        self.pack_usage(of, &mut package).await?;
        self.pack_invoices(of, &mut package).await?;
        self.pack_infrastructure(of, &mut package).await?;
        self.pack_webhooks(of, &mut package).await?;
        self.pack_audit(of, &mut package).await?;
        let files = std::mem::take(&mut package.files);
        let manifest = json!({"format": FORMAT, "version": 1, "tenant_id": tenant, "exported_at": now, "files": files});
        package.object("manifest.json", &manifest).await?;
        package.zip.finish()?;
        let Package { mut zip, mut out, .. } = package;
        out.put(zip.take()).await?;
        Ok(out)
    }

    async fn pack_tenant(&self, (scope, id): (Scope, TenantId), package: &mut Package) -> Result<(), Error> {
        let tenant = self.services.tenants.find(scope, id).await?;
        let mut tx = self.store.read(scope).await?;
        let tiers = tx.tenant_tiers(id).await?;
        let tiers: Vec<Value> =
            tiers.iter().map(|span| json!({"since": span.since, "tier": span.tier.to_string()})).collect();
        let account = tx.billing_account(id).await?.map(|account| {
            json!({
                "account_id": account.id,
                "billing_address": account.billing_address.body(),
                "currency": account.currency,
                "opened_at": account.opened_at,
                "closed_at": account.closed_at,
            })
        });
        drop(tx);
        let about = json!({
            "tenant_id": tenant.id,
            "customer_name": tenant.customer_name.to_string(),
            "external_id": tenant.external_id.as_ref().map(ExternalId::as_str),
            "tier": tenant.tier.to_string(),
            "tiers": tiers,
            "status": tenant.status.name(),
            "created_at": tenant.created_at,
            "billing_account": account,
        });
        package.object("tenant.json", &about).await
    }

    async fn pack_users(&self, (scope, id): (Scope, TenantId), package: &mut Package) -> Result<(), Error> {
        package.begin("users.json");
        let mut pages = Pages::new();
        while let Some(page) = pages.next() {
            let members = self.store.read(scope).await?.members(id, page).await?;
            for Member { user, membership } in pages.cut(page, members, |member| member.user.id.as_uuid()) {
                let about = json!({
                    "user_id": user.id,
                    "email": user.email.as_str(),
                    "email_verified_at": user.email_verified_at,
                    "name": user.name.as_ref().map(PersonName::as_str),
                    "role": membership.role.name(),
                    "status": membership.status.name(),
                    "joined_at": membership.created_at,
                });
                package.item(&about).await?;
            }
        }
        package.end_list().await
    }

    /// Days in UTC by meter and group; what several nodes counted of a day is one item.
    async fn pack_usage(&self, (scope, id): (Scope, TenantId), package: &mut Package) -> Result<(), Error> {
        package.begin("usage.json");
        let (mut after, mut last): (Option<DayTotal>, Option<DayTotal>) = (None, None);
        loop {
            let days = self.store.read(scope).await?.exported_days(id, after.as_ref(), DAYS).await?;
            let Some(end) = days.last().cloned() else { break };
            for day in days {
                last = match last.take() {
                    Some(before) if (&before.meter, before.day, &before.group) == (&day.meter, day.day, &day.group) => {
                        Some(both(before, &day)?)
                    }
                    before => {
                        if let Some(before) = before {
                            package.item(&day_view(&before)).await?;
                        }
                        Some(day)
                    }
                };
            }
            after = Some(end);
        }
        if let Some(last) = last {
            package.item(&day_view(&last)).await?;
        }
        package.end_list().await?;
        package.begin("events.json");
        for events in self.store.read(scope).await?.exported_events(id).await? {
            package.item(&json!({"type": events.name, "events": events.all, "voided": events.voided})).await?;
        }
        package.end_list().await
    }

    /// All invoices, and of each that is issued the file that `tollgate verify-invoice` takes.
    async fn pack_invoices(&self, (scope, id): (Scope, TenantId), package: &mut Package) -> Result<(), Error> {
        let filter = InvoiceFilter { tenant: Some(id), ..InvoiceFilter::default() };
        let mut issued = Vec::new();
        package.begin("invoices.json");
        let mut pages = Pages::new();
        while let Some(page) = pages.next() {
            let invoices = self.store.read(scope).await?.invoices(filter, page).await?;
            for invoice in pages.cut(page, invoices, |invoice| invoice.id.as_uuid()) {
                issued.extend(invoice.issue.as_ref().map(|issue| (invoice.id, issue.number.clone())));
                package.item(&InvoiceView::try_from(&invoice)?).await?;
            }
        }
        package.end_list().await?;
        for (id, number) in issued {
            let export = signed::export(&self.services.billing, &self.services.identity, scope, id).await?;
            package.object(&format!("invoices/{}.json", file_name(&number)), &export).await?;
        }
        Ok(())
    }

    async fn pack_infrastructure(&self, (scope, id): (Scope, TenantId), package: &mut Package) -> Result<(), Error> {
        package.begin("infrastructure.json");
        for place in self.services.provisioning.describe(scope, id).await? {
            let about = json!({
                "isolation": place.isolation,
                "driver": place.driver,
                "pool": place.pool,
                "location": place.location,
                "rows": place.rows,
            });
            package.item(&about).await?;
        }
        package.end_list().await
    }

    async fn pack_webhooks(&self, (scope, id): (Scope, TenantId), package: &mut Package) -> Result<(), Error> {
        package.begin("webhooks.json");
        let mut pages = Pages::new();
        while let Some(page) = pages.next() {
            let hooks = self.store.read(scope).await?.webhooks(Some(id), page).await?;
            for hook in pages.cut(page, hooks, |hook| hook.id.as_uuid()) {
                let about = json!({
                    "webhook_id": hook.id,
                    "url": without_secrets(&hook.url),
                    "events": hook.events.names(),
                    "created_at": hook.created_at,
                });
                package.item(&about).await?;
            }
        }
        package.end_list().await
    }

    async fn pack_audit(&self, (scope, id): (Scope, TenantId), package: &mut Package) -> Result<(), Error> {
        let filter = AuditFilter { tenant: Some(id), ..AuditFilter::default() };
        package.begin("audit.json");
        let mut pages = Pages::new();
        while let Some(page) = pages.next() {
            let entries = self.store.read(scope).await?.audit(&filter, page).await?;
            for entry in pages.cut(page, entries, |entry| entry.id) {
                package.item(&entry_view(&entry)).await?;
            }
        }
        package.end_list().await
    }
}

/// Reads what is kept of a tenant, piece by piece.
pub(super) async fn kept_piece(
    (store, onboarding): (&Store, &Onboarding),
    scope: Scope,
    place: (TenantId, i64, i64),
) -> Result<Option<Vec<u8>>, Error> {
    let Some(sealed) = store.read(scope).await?.kept_export_piece(place).await? else { return Ok(None) };
    Ok(Some(onboarding.services.identity.unseal_secret(&sealed_as(place), &sealed)?.to_vec()))
}

/// Walks through a list.
struct Pages {
    after: Option<uuid::Uuid>,
    over: bool,
}

impl Pages {
    const fn new() -> Self {
        Self { after: None, over: false }
    }

    fn next(&self) -> Option<PageRequest> {
        PageRequest::new(Some(PageRequest::MAX_LIMIT), self.after).filter(|_| !self.over)
    }

    fn cut<T>(&mut self, page: PageRequest, rows: Vec<T>, id: impl Fn(&T) -> uuid::Uuid) -> Vec<T> {
        let page = page.page(rows, id);
        (self.after, self.over) = (page.next_cursor, page.next_cursor.is_none());
        page.items
    }
}

fn both(one: DayTotal, other: &DayTotal) -> Result<DayTotal, Error> {
    let sum = one.sum.add(other.sum).map_err(|error| std::io::Error::other(error.to_string()))?;
    let (low, high) = (one.low.min(other.low), one.high.max(other.high));
    Ok(DayTotal { count: one.count + other.count, sum, low, high, ..one })
}

fn day_view(day: &DayTotal) -> Value {
    let group: Value = serde_json::from_str(&day.group).unwrap_or_default();
    json!({
        "meter": day.meter,
        "day": day_of(day.day),
        "group": group,
        "records": day.count,
        "total": day.sum.to_string(),
        "low": day.low.to_string(),
        "high": day.high.to_string(),
    })
}

/// `2026-11-10`
fn day_of(at: Timestamp) -> String {
    at.to_string().chars().take_while(|letter| *letter != 'T').collect()
}

fn entry_view(entry: &AuditEntry) -> Value {
    let change = entry.change.as_ref();
    json!({
        "audit_id": entry.id,
        "at": entry.at,
        "actor": entry.actor,
        "action": entry.action,
        "subject": entry.subject,
        "detail": entry.detail,
        "address": entry.address.map(|address| address.to_string()),
        "before": change.and_then(|change| change.before.as_ref()),
        "after": change.and_then(|change| change.after.as_ref()),
        "serial": entry.seal.map(|seal| seal.serial),
    })
}

/// An address without what lets somebody in: a user, a password, a query.
fn without_secrets(address: &str) -> String {
    let Ok(mut address) = url::Url::parse(address) else { return String::new() };
    address.set_query(None);
    address.set_fragment(None);
    match (address.set_password(None), address.set_username("")) {
        (Ok(()), Ok(())) => address.to_string(),
        _ => String::new(),
    }
}

/// A number as part of a file's name.
fn file_name(number: &str) -> String {
    let fine = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.');
    number.chars().map(|letter| if fine(letter) { letter } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_have_nothing_in_them_that_does_harm() {
        assert_eq!(file_name("2026/INV-000001"), "2026_INV-000001");
        assert_eq!(without_secrets("https://a:b@x.example/hook?token=c#d"), "https://x.example/hook");
    }
}
