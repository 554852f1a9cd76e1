//! The outbox: letters go in with a transaction, and out one after the other.

use std::{sync::Arc, time::Duration};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{
    error::Error,
    model::{Letter, Mailer, OutboxLetter},
    rules,
    transport::Transport,
};
use crate::{
    kernel::{Clock, Page, PageRequest, Rng, fault::chain, ids::uuid_v7},
    store::{Scope, Store, StoreError, Tx},
};

/// The outbox is looked at this often even when nobody says that there is something in it.
const EVERY: Duration = Duration::from_secs(15);
/// Letters sent before looking again.
const BATCH: i64 = 50;
/// What was sent or given up is kept this long, in seconds: seven days.
const KEPT_S: i64 = 7 * 86_400;

/// The mail service; cheap to clone.
#[derive(Clone)]
pub struct Mail {
    shared: Arc<Shared>,
}

struct Shared {
    store: Store,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
    transport: Transport,
    wake: Notify,
}

impl Mail {
    /// Over a store; `from` is an address, with or without a name: `Acme <no-reply@acme.example>`.
    pub fn new(
        store: Store,
        clock: Arc<dyn Clock>,
        rng: Arc<dyn Rng>,
        mailer: &Mailer,
        from: &str,
    ) -> Result<Self, Error> {
        let (transport, wake) = (Transport::new(mailer, from)?, Notify::new());
        Ok(Self { shared: Arc::new(Shared { store, clock, rng, transport, wake }) })
    }

    /// Puts a letter into the outbox within the caller's transaction; after the commit, [`Self::wake`] sends it soon.
    pub async fn enqueue_in(&self, tx: &mut Tx, letter: &Letter) -> Result<(), StoreError> {
        let now = self.shared.clock.now();
        tx.mail_insert(uuid_v7(now, &*self.shared.rng), letter, now).await
    }

    /// Says that there is something to send.
    pub fn wake(&self) {
        self.shared.wake.notify_one();
    }

    /// Whether letters stay on this machine.
    pub fn is_folder(&self) -> bool {
        self.shared.transport.is_folder()
    }

    /// Letters in the outbox, the newest first.
    pub async fn newest(&self, scope: Scope, page: PageRequest) -> Result<Page<OutboxLetter>, Error> {
        let rows = self.shared.store.read(scope).await?.mails(page).await?;
        Ok(page.page(rows, |mail| mail.id))
    }

    /// Sends what is due; how many were sent.
    pub async fn deliver_due(&self) -> Result<usize, Error> {
        let Shared { store, clock, .. } = &*self.shared;
        let due = store.read(Scope::Job("mail")).await?.mails_due(clock.now(), BATCH).await?;
        let mut sent = 0;
        for mail in due {
            sent += usize::from(self.deliver(mail).await?);
        }
        Ok(sent)
    }

    /// Tries one letter. It is claimed before, so that of two nodes one sends it, and it is not tried in a circle.
    async fn deliver(&self, mail: OutboxLetter) -> Result<bool, Error> {
        let Shared { store, clock, transport, .. } = &*self.shared;
        let now = clock.now();
        let mut tx = store.begin(Scope::Job("mail")).await?;
        let claimed = tx.mail_claim(mail.id, mail.attempts, rules::next_try(mail.attempts, now)).await?;
        tx.commit().await?;
        if !claimed {
            return Ok(false);
        }
        let outcome = transport.send(&mail).await;
        let now = clock.now();
        let mut tx = store.begin(Scope::Job("mail")).await?;
        match &outcome {
            Ok(()) => tx.mail_sent(mail.id, now, transport.is_folder()).await?,
            Err(error) => {
                let hopeless = rules::is_hopeless(mail.created_at, now) || matches!(error, Error::Letter(_));
                tx.mail_failed(mail.id, &chain(error), hopeless.then_some(now)).await?;
                tracing::warn!(mail_id = %mail.id, hopeless, error = chain(error), "a mail could not be sent");
            }
        }
        tx.commit().await?;
        Ok(outcome.is_ok())
    }

    /// Sends until told to stop.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            let turn = async {
                if let Err(error) = self.tend().await {
                    tracing::warn!(error = chain(&error), "the outbox could not be read");
                }
                drop(tokio::time::timeout(EVERY, self.shared.wake.notified()).await);
            };
            // A letter that is broken off is tried again by the next start.
            if stop.run_until_cancelled(turn).await.is_none() {
                return;
            }
        }
    }

    async fn tend(&self) -> Result<(), Error> {
        self.deliver_due().await?;
        let Shared { store, clock, .. } = &*self.shared;
        let old = clock.now().plus_secs(-KEPT_S);
        if store.read(Scope::Job("mail")).await?.mail_is_older(old).await? {
            let mut tx = store.begin(Scope::Job("mail")).await?;
            tx.mails_forget(old).await?;
            tx.commit().await?;
        }
        Ok(())
    }
}
