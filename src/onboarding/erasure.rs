//! Erasing what is about people of a tenant that is gone, with a certificate of it that the issuer signs. What tax law asks for
//! stays, and the certificate says so. All of it is one transaction: there is a certificate if and only if it was done.

use serde_json::{Value, json};

use super::{error::Error, service::Onboarding};
use crate::{
    kernel::{Act, Actor, TenantId, UserId},
    store::{Erased, Scope, StoreError, Tx, add_erased},
    tenants::Status,
};

/// What the certificate is, and of which version.
const FORMAT: &str = "tollgate-erasure/1";
/// The `typ` of its signature.
const ERASURE_TYP: &str = "tollgate-erasure+jws";

/// What is kept, and why.
const KEPT: &[(&str, &str)] = &[
    (
        "invoices",
        "invoices, credit notes, credits and payments are kept as they were issued, with names, addresses and reasons on them: tax law asks for it",
    ),
    ("usage", "what invoices were worked out from: totals by ids and groups, and events as the application sent them"),
    ("audit", "who did what and when stays, by ids; details, addresses, and what was before and after are erased"),
    ("tombstone", "the id of the tenant, its tiers and when it was there; its name is erased"),
    ("idempotency_keys", "answers to requests are sealed, and forgotten a day after the request"),
    ("elsewhere", "what payment providers, receivers of webhooks and backups have is not within reach"),
];

impl Onboarding {
    /// Erases what is about people and left of a deleted tenant; the certificate. Asked twice, it is the same one.
    pub async fn erase_tenant(&self, scope: Scope, actor: Actor, id: TenantId) -> Result<Value, Error> {
        let tenant = self.services.tenants.find(scope, id).await?;
        if !matches!(tenant.status, Status::Deleted { .. }) {
            return Err(Error::NotGone(id));
        }
        let mut tx = self.store.begin(scope).await?;
        // Of two who ask at once, one does it.
        tx.tenant_lock(id).await?;
        if let Some(known) = tx.erasure(id.as_uuid()).await? {
            return read(&known);
        }
        let erased = self.erase_in(&mut tx, id).await?;
        let now = self.clock.now();
        let certificate = json!({
            "format": FORMAT,
            "tenant_id": id,
            "deleted_at": match tenant.status {
                Status::Deleted { at } => Some(at),
                _ => None,
            },
            "erased_at": now,
            "asked_by": actor.to_string(),
            "erased": erased.into_iter().collect::<std::collections::BTreeMap<_, _>>(),
            "kept": KEPT.iter().map(|(what, why)| json!({"what": what, "why": why})).collect::<Vec<_>>(),
        });
        let signed = self.certify(&certificate)?;
        tx.erasure_insert(id.as_uuid(), now, &signed.to_string()).await?;
        let (action, subject) = ("tenant.erased", id.to_string());
        self.services.identity.note(&mut tx, Act { actor, action, tenant: Some(id), subject, detail: None }).await?;
        tx.commit().await?;
        self.services.tenants.announce(id);
        Ok(signed)
    }

    /// The certificate of an erasure.
    pub async fn erasure(&self, scope: Scope, id: TenantId) -> Result<Value, Error> {
        self.services.tenants.find(scope, id).await?;
        let kept = self.store.read(scope).await?.erasure(id.as_uuid()).await?;
        read(&kept.ok_or(Error::NotErased(id))?)
    }

    async fn erase_in(&self, tx: &mut Tx, id: TenantId) -> Result<Erased, Error> {
        let remembered = tx.offboarding_people(id).await?;
        let mut users: Vec<UserId> = remembered.iter().filter_map(|(user, _)| *user).collect();
        users.extend(tx.registrations_of_tenant(id).await?.iter().map(|registration| registration.user_id));
        users.sort_unstable();
        users.dedup();
        let mut erased = tx.tenant_erase(id).await?;
        let mut people = 0;
        for user in users {
            // Who is in another tenant, too, stays there.
            if !tx.person_is_there(user).await? {
                people += 1;
                add_all(&mut erased, tx.person_erase(user).await?);
            }
        }
        for (_, email) in &remembered {
            if !tx.email_is_had(email).await? {
                add_all(&mut erased, tx.email_erase(email).await?);
            }
        }
        tx.offboarding_people_drop(id).await?;
        add_erased(&mut erased, "people", people);
        Ok(erased)
    }

    fn certify(&self, certificate: &Value) -> Result<Value, Error> {
        let identity = &self.services.identity;
        let key = identity.document_key()?;
        let jws = identity.sign_document(&key, ERASURE_TYP, &certificate.to_string())?;
        let signature = json!({"jwk": key.jwk, "thumbprint": key.thumbprint, "jws": jws});
        Ok(json!({"certificate": certificate, "signature": signature}))
    }
}

fn add_all(erased: &mut Erased, more: Erased) {
    for (kind, rows) in more {
        add_erased(erased, kind, rows);
    }
}

fn read(kept: &str) -> Result<Value, Error> {
    serde_json::from_str(kept).map_err(|error| StoreError::Corrupt(format!("erasures: {error}")).into())
}
