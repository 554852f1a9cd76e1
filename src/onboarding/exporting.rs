//! Who gets a tenant's export: whoever asks for it of a tenant that is there gets one that is made for them, and of one that is
//! gone the one that was kept, until its time is over.

use bytes::Bytes;
use futures_util::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use tokio::sync::mpsc;

use super::{
    error::Error,
    export::{Keeper, Out, kept_piece},
    leaving::{LeavingStep, Offboarding},
    offboard::JOB,
    service::Onboarding,
};
use crate::{
    kernel::{Act, Actor, TenantId, fault::chain},
    store::Scope,
    tenants::Status,
};

/// Pieces that are ready and not read yet.
const AHEAD: usize = 4;

/// An archive, piece by piece; it breaks off where it could not be made.
pub type Archive = BoxStream<'static, Result<Bytes, std::io::Error>>;

impl Onboarding {
    /// The archive of a tenant. That it was read is noted.
    pub async fn export(&self, scope: Scope, actor: Actor, id: TenantId) -> Result<Archive, Error> {
        let tenant = self.services.tenants.find(scope, id).await?;
        let leaving = self.store.read(scope).await?.offboarding(id).await?;
        let is_gone = matches!(tenant.status, Status::Deleted { .. });
        let kept = match leaving {
            Some(leaving) if is_gone || leaving.has_done(LeavingStep::Export) => {
                Some(leaving.export.map(|export| export.claim).ok_or_else(|| gone(id, Some(&leaving)))?)
            }
            None if is_gone => return Err(gone(id, None)),
            _ => None,
        };
        let (action, subject) = ("tenant.exported", id.to_string());
        let detail = Some(if kept.is_some() { "the kept one" } else { "a fresh one" }.to_owned());
        let mut tx = self.store.begin(scope).await?;
        self.services.identity.note(&mut tx, Act { actor, action, tenant: Some(id), subject, detail }).await?;
        tx.commit().await?;
        Ok(match kept {
            Some(claim) => self.kept_archive(scope, id, claim),
            None => self.fresh_archive(scope, id),
        })
    }

    fn fresh_archive(&self, scope: Scope, id: TenantId) -> Archive {
        let (sender, receiver) = mpsc::channel(AHEAD);
        let this = self.clone();
        self.tasks.spawn(async move {
            if let Err(error) = Box::pin(this.pack(scope, id, Out::Reader(sender.clone()))).await {
                tracing::warn!(tenant_id = %id, error = chain(&error), "an export was broken off");
                drop(sender.send(Err(std::io::Error::other("the export was broken off"))).await);
            }
        });
        stream::unfold(receiver, |mut receiver| async { receiver.recv().await.map(|piece| (piece, receiver)) }).boxed()
    }

    fn kept_archive(&self, scope: Scope, id: TenantId, claim: i64) -> Archive {
        let this = self.clone();
        stream::try_unfold(0, move |number| {
            let this = this.clone();
            async move {
                let piece = kept_piece((&this.store, &this), scope, (id, claim, number)).await;
                let piece = piece.map_err(|error| std::io::Error::other(error.to_string()))?;
                Ok(piece.map(|piece| (Bytes::from(piece), number + 1)))
            }
        })
        .boxed()
    }

    /// Keeps the archive of a tenant that leaves.
    pub(super) async fn keep_export(&self, scope: Scope, leaving: &Offboarding) -> Result<(), Error> {
        let keeper = Keeper { onboarding: self.clone(), leaving: leaving.clone(), number: 0 };
        self.pack(scope, leaving.tenant_id, Out::Kept(Box::new(keeper))).await.map(drop)
    }

    /// Forgets what was kept of tenants for a time that is over; how many exports that were.
    pub async fn forget_exports(&self) -> Result<u64, Error> {
        let (scope, now) = (Scope::Job(JOB), self.clock.now());
        let over = self.store.read(scope).await?.offboardings_over(now).await?;
        let mut forgotten = 0;
        for tenant in over {
            let mut tx = self.store.begin(scope).await?;
            forgotten += tx.offboarding_forget(tenant, now).await?;
            tx.commit().await?;
        }
        Ok(forgotten)
    }
}

fn gone(id: TenantId, leaving: Option<&Offboarding>) -> Error {
    Error::ExportGone(match leaving.and_then(|leaving| leaving.export_until) {
        Some(until) => format!("the export of tenant {id} was kept until {until}, or until its data was erased"),
        None => format!("no export of tenant {id} was kept"),
    })
}
