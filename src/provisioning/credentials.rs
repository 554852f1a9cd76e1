//! What a tenant's own programs need to use its place: shown once, kept sealed until then, renewed when asked.

use serde_json::Value;
use zeroize::Zeroizing;

use super::{
    error::Error,
    model::KeptPlace,
    service::{Provisioning, sealed_as},
};
use crate::{
    kernel::{Act, Actor, TenantId},
    store::{Scope, Tx},
};

impl Provisioning {
    /// Shows a tenant's credentials, and forgets them.
    pub async fn read_credentials(&self, scope: Scope, actor: Actor, tenant: TenantId) -> Result<Value, Error> {
        let mut tx = self.store.begin(scope).await?;
        let kept = tx.place_in_use(tenant).await?.ok_or(Error::None(tenant))?;
        let shown = self.take(&mut tx, &kept).await?;
        self.note(&mut tx, actor, "infrastructure.credentials_read", &kept).await?;
        tx.commit().await?;
        Ok(shown)
    }

    /// Makes up a new password, has it set, and shows the credentials that are in force from then on. One at a time; when it is
    /// broken off, a repair sets what was made up, which can be read then.
    pub async fn rotate_credentials(&self, scope: Scope, actor: Actor, tenant: TenantId) -> Result<Value, Error> {
        let mut kept = self.place(scope, tenant).await?.ok_or(Error::None(tenant))?;
        if !self.drivers.named(&kept.driver, tenant)?.wants_password() {
            return Err(Error::NoCredentials(tenant));
        }
        kept.sealed = Some(self.new_password(tenant)?.1);
        let mut tx = self.store.begin(scope).await?;
        if !tx.place_credentials_renew(&kept).await? {
            return Err(Error::NotMade(tenant));
        }
        self.note(&mut tx, actor, "infrastructure.credentials_rotated", &kept).await?;
        tx.commit().await?;
        self.apply_again(scope, kept).await?;
        let mut tx = self.store.begin(scope).await?;
        let kept = tx.place_in_use(tenant).await?.ok_or(Error::None(tenant))?;
        let shown = self.take(&mut tx, &kept).await?;
        tx.commit().await?;
        Ok(shown)
    }

    async fn take(&self, tx: &mut Tx, kept: &KeptPlace) -> Result<Value, Error> {
        let tenant = kept.place.tenant_id;
        if !kept.made {
            return Err(Error::NotMade(tenant));
        }
        let Some(sealed) = &kept.sealed else {
            return Err(if kept.read_at.is_some() {
                Error::CredentialsRead(tenant)
            } else {
                Error::NoCredentials(tenant)
            });
        };
        let plain: Zeroizing<Vec<u8>> = self.identity.unseal_secret(&sealed_as(tenant), sealed)?;
        if !tx.place_credentials_take(kept, sealed, self.clock.now()).await? {
            return Err(Error::CredentialsRead(tenant));
        }
        // What was sealed here is JSON.
        Ok(serde_json::from_slice(&plain).unwrap_or_default())
    }

    async fn note(&self, tx: &mut Tx, actor: Actor, action: &'static str, kept: &KeptPlace) -> Result<(), Error> {
        let tenant = kept.place.tenant_id;
        let detail = Some(format!("{} of the {} driver", kept.place.isolation.name(), kept.driver));
        let act = Act { actor, action, tenant: Some(tenant), subject: tenant.to_string(), detail };
        Ok(self.identity.note(tx, act).await?)
    }
}
