//! The composition root: the only place that names the concrete store, clock, rng and signer.

use std::{fs::File, future::Future, io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use axum::{Router, extract::FromRef};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use tokio::net::TcpListener;

use crate::{
    billing::{self, Billing, UsageSource},
    data_folder::lock_data,
    deliveries, drivers, foreign,
    gateway::{self, Directory, Gateway},
    identity::{self, Identity, KnownClients, NamedTenants, Verifier},
    kernel::{Act, Actor, Clock, Observers, Rng, Secret, TenantObserver, rng::random_bytes},
    lab::{self, LabClock},
    mail::{self, Mail},
    metering::{self, Metering},
    onboarding::{self, Onboarding},
    outbound::Outbound,
    provisioning::{self, Provisioning},
    pushes,
    reload::Reload,
    server::{self, Front, OwnPaths},
    settings::Settings,
    setup,
    shutdown::Shutdown,
    store::{Scope, Store, StoreError},
    stripe::{self, Stripe},
    surface::{Routers, routers},
    tenants::Tenants,
    tls::{Acceptor, TlsError},
    upkeep,
    users::Users,
    web::idempotency::Idempotency,
    webhooks::Webhooks,
};

/// Connections that were cut get this long to go.
const CUT: Duration = Duration::from_millis(500);

/// What a process brings along; tests bring others.
#[derive(Clone)]
pub struct Deps {
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Random bytes.
    pub rng: Arc<dyn Rng>,
}

/// Why the server did not come up. Each is said in one line, and the program exits with 2.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Another process has the data folder.
    #[error("the data folder {path} is in use by process {holder}")]
    DataInUse {
        /// The folder.
        path: PathBuf,
        /// The other process's id, if it left one.
        holder: String,
    },
    /// The data folder cannot be used.
    #[error("the data folder {path} cannot be used")]
    Data {
        /// The folder.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// TLS on the listeners.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The threads that serve.
    #[error("connections cannot be served")]
    Workers(#[source] io::Error),
    /// The identity service.
    #[error(transparent)]
    Identity(#[from] identity::Error),
    /// The mail service.
    #[error(transparent)]
    Mail(#[from] mail::Error),
    /// The metering service.
    #[error(transparent)]
    Metering(#[from] metering::Error),
    /// The billing service.
    #[error(transparent)]
    Billing(#[from] billing::Error),
    /// A driver of provisioning.
    #[error("{0}")]
    Driver(String),
    /// The provisioning service.
    #[error(transparent)]
    Provisioning(#[from] provisioning::Error),
    /// The onboarding service.
    #[error(transparent)]
    Onboarding(#[from] onboarding::Error),
    /// What goes to Stripe.
    #[error(transparent)]
    Stripe(#[from] stripe::Error),
    /// The lab.
    #[error(transparent)]
    Lab(#[from] lab::Error),
    /// The first administrator's email belongs to a customer.
    #[error("the platform administrator cannot be made: {0}")]
    Admin(String),
}

/// The services, as handlers get them. The router clones it for every request, so that is one pointer.
#[derive(Clone)]
pub struct AppState(Arc<Services>);

struct Services {
    tenants: Tenants,
    users: Users,
    identity: Identity,
    verifier: Verifier,
    billing: Billing,
    metering: Metering,
    provisioning: Provisioning,
    onboarding: Onboarding,
    stripe: Stripe,
    mail: Mail,
    webhooks: Webhooks,
    directory: Directory,
    gateway: Gateway,
    reload: Reload,
    store: Store,
    clock: Arc<dyn Clock>,
}

macro_rules! parts_of_state {
    ($($type:ty = $field:ident),*) => {$(
        impl FromRef<AppState> for $type {
            fn from_ref(state: &AppState) -> Self {
                state.0.$field.clone()
            }
        }
    )*};
}
parts_of_state!(
    Tenants = tenants,
    Users = users,
    Identity = identity,
    Verifier = verifier,
    Billing = billing,
    Metering = metering,
    Provisioning = provisioning,
    Onboarding = onboarding,
    Stripe = stripe,
    Mail = mail,
    Webhooks = webhooks,
    Directory = directory,
    Gateway = gateway,
    Reload = reload,
    Store = store,
    Arc<dyn Clock> = clock
);

/// A server, built and not yet listening.
pub struct App {
    settings: Settings,
    store: Store,
    state: AppState,
    shutdown: Shutdown,
    tls: Option<Acceptor>,
    public: Router,
    admin: Option<Router>,
    /// What answers before the router does, and the paths that it leaves to the router. Not where an embedding program has
    /// routes that nobody here knows.
    direct: Option<(Gateway, OwnPaths)>,
    /// A password that was made up for the first administrator: to be shown once.
    made_up_password: Option<Secret>,
    /// Held for as long as the data folder is ours.
    _lock: File,
}

impl App {
    /// Puts everything together: opens the store and the journal, finishes what a crash interrupted, makes the first
    /// administrator.
    pub async fn build(settings: Settings, deps: Deps) -> Result<Self, BuildError> {
        let lock = lock_data(&settings.store.data)?;
        let store = match &settings.store.url {
            Some(url) => Store::open_postgres(url, settings.store.max_connections).await?,
            None => Store::open_sqlite(&settings.store.data.join("tollgate.db")).await?,
        };
        let shutdown = Shutdown::default();
        let Deps { clock, rng } = deps;
        let lab_clock = settings.lab.enabled.then(|| LabClock::open(&settings.store.data, Arc::clone(&clock)));
        let lab_clock = lab_clock.transpose()?.map(Arc::new);
        let clock = lab_clock.clone().map_or(clock, |clock| clock as Arc<dyn Clock>);
        let directory = Directory::new(Arc::clone(&clock));
        let tls = settings.server.tls.as_ref().map(Acceptor::open).transpose()?;
        // In a box: what it takes would be carried along by everybody who builds.
        let built = build_state(&settings, &store, &shutdown, &clock, &rng, &directory, tls.as_ref());
        let state = Box::pin(built).await?;
        let made_up_password = first_admin(&settings, &store, &state, &*rng).await?;
        let resumed = state.0.onboarding.resume().await?;
        if resumed > 0 {
            tracing::info!(resumed, "interrupted work was finished");
        }
        state.0.provisioning.begin().await?;
        let lab = match lab_clock {
            Some(clock) => Some(lab::open(&settings, &state, clock, &rng).await?),
            None => None,
        };
        let source = gateway::Services {
            tenants: state.0.tenants.clone(),
            billing: state.0.billing.clone(),
            metering: state.0.metering.clone(),
            provisioning: state.0.provisioning.clone(),
            runtime: tokio::runtime::Handle::current(),
        };
        directory.connect(Arc::new(source));
        directory.set_max_in_flight(settings.gateway.max_in_flight);
        state.0.verifier.connect(Arc::new(directory));
        let rest = foreign::Rest::new(state.0.onboarding.clone(), shutdown.tasks.clone());
        state.0.verifier.connect_outside(rest);
        let gateway = state.0.gateway.clone();
        let idempotency = Arc::new(Idempotency { store: store.clone(), clock, identity: state.0.identity.clone() });
        let split = settings.server.admin_listen.is_some();
        let Routers { public, admin, own_paths } = routers(&state, &gateway, &idempotency, lab, split);
        let direct = Some((gateway, own_paths));
        Ok(Self { settings, store, state, shutdown, tls, public, admin, direct, made_up_password, _lock: lock })
    }

    /// The whole surface as one service, for tests in process.
    pub fn router(&self) -> Router {
        self.public.clone()
    }

    /// What the gateway's layers need, to put them round routes of an embedding program.
    pub fn gateway_parts(&self) -> &gateway::Parts {
        self.state.0.gateway.parts()
    }

    /// Serves an embedding program's own routes beside ours, and before them where both have a path. Their fallback is
    /// this server.
    pub fn mount(&mut self, own: Router) {
        self.public = own.fallback_service(std::mem::take(&mut self.public));
        self.direct = None;
    }

    fn front(&self) -> Front {
        match self.direct.clone() {
            Some((gateway, own)) => Front::with_gateway(self.public.clone(), gateway, own),
            None => Front::new(self.public.clone()),
        }
    }

    /// Reads the settings again when it is told to.
    pub fn reload(&self) -> Reload {
        self.state.0.reload.clone()
    }

    /// The services, for tests and the demo.
    pub fn state(&self) -> &AppState {
        &self.state
    }

    /// The first administrator's made-up password, if one was made up by this start. Taken once.
    pub fn take_made_up_password(&mut self) -> Option<Secret> {
        self.made_up_password.take()
    }

    /// Listens where the settings say.
    pub async fn listen(&self) -> Result<Listeners, BuildError> {
        let bind = |address: SocketAddr| async move {
            TcpListener::bind(address).await.map_err(|source| BuildError::Listen { address, source })
        };
        let public = bind(self.settings.server.listen).await?;
        let admin = match self.settings.server.admin_listen {
            Some(address) => Some(bind(address).await?),
            None => None,
        };
        Ok(Listeners { public, admin })
    }

    /// Serves until `stop` resolves, then drains: stops accepting, lets requests finish, counts what was used, closes
    /// the store.
    pub async fn run(self, listeners: Listeners, stop: impl Future<Output = ()>) -> Result<(), BuildError> {
        let Shutdown { stop: token, cut, tasks, .. } = self.shutdown.clone();
        let config = server::Config::new(&self.settings.server, self.tls.clone());
        tasks.spawn(self.state.0.metering.clone().run(self.settings.metering.roll, token.clone()));
        tasks.spawn(self.state.0.mail.clone().run(token.clone()));
        tasks.spawn(foreign::keep_keys_fresh(self.state.0.verifier.clone(), token.clone()));
        let teller = gateway::crossings::Teller {
            directory: self.state.0.directory.clone(),
            store: self.store.clone(),
            identity: self.state.0.identity.clone(),
            webhooks: self.state.0.webhooks.clone(),
        };
        tasks.spawn(gateway::crossings::tell(teller, token.clone()));
        let outbound = Outbound::new(self.settings.webhooks.reach());
        let of = (self.store.clone(), self.state.0.onboarding.clone(), self.state.0.identity.clone());
        upkeep::begin(of, outbound.clone(), self.settings.billing.close_every, (&tasks, &token));
        pushes::begin(&self.state.0.stripe, &tasks, &token);
        tasks.spawn(deliveries::tell(self.state.0.webhooks.clone(), outbound, token.clone()));
        if let Some(tls) = self.tls.clone() {
            let token = token.clone();
            tasks.spawn(async move { token.run_until_cancelled(tls.watch()).await });
        }
        let mut served = vec![(listeners.public, self.front())];
        if let (Some(router), Some(listener)) = (self.admin.clone(), listeners.admin) {
            served.push((listener, Front::new(router)));
        }
        server::start(served, &config, &self.shutdown).map_err(BuildError::Workers)?;
        stop.await;
        tracing::info!("draining");
        token.cancel();
        tasks.close();
        if tokio::time::timeout(self.settings.server.drain, tasks.wait()).await.is_err() {
            tracing::warn!("requests were still running at the drain's deadline");
            cut.cancel();
            // A response that is broken off settles as it is dropped, which takes no time; work that does not notice has
            // nothing to settle.
            drop(tokio::time::timeout(CUT, tasks.wait()).await);
        }
        // What runs for tenants ends after the last request to it.
        self.state.0.provisioning.end().await?;
        self.state.0.metering.close().await?;
        self.store.close().await;
        Ok(())
    }
}

/// What the server accepts connections on.
pub struct Listeners {
    /// For everybody.
    pub public: TcpListener,
    /// For administration alone, when it has a listener of its own.
    pub admin: Option<TcpListener>,
}

async fn build_state(
    settings: &Settings,
    store: &Store,
    shutdown: &Shutdown,
    clock: &Arc<dyn Clock>,
    rng: &Arc<dyn Rng>,
    directory: &Directory,
    tls: Option<&Acceptor>,
) -> Result<AppState, BuildError> {
    let (clock, rng, journal) = (|| Arc::clone(clock), || Arc::clone(rng), setup::metering(settings));
    let metering = Metering::open(store.clone(), journal, clock(), rng(), shutdown.tasks.clone()).await?;
    metering.define_meters(&settings.metering.meters).await?;
    metering.check_routed_meters()?;
    let known_clients = KnownClients::default();
    let named = NamedTenants::default();
    let observers: [Arc<dyn TenantObserver>; 3] =
        [Arc::new(directory.clone()), Arc::new(known_clients.clone()), Arc::new(named.clone())];
    let observer: Arc<dyn TenantObserver> = Arc::new(Observers(observers.into()));
    let billing = Billing::open(
        store.clone(),
        UsageSource::Live(metering.clone()),
        clock(),
        rng(),
        Arc::clone(&observer),
        settings.billing.invoices.clone(),
        &settings.billing.plans,
    )
    .await?;
    let tenants = Tenants::new(store.clone(), clock(), rng(), Arc::clone(&observer));
    let users = Users::new(store.clone(), clock(), rng());
    let mail = Mail::new(store.clone(), clock(), rng(), &setup::mailer(settings), &settings.mail.from)?;
    let config = setup::identity(settings);
    let identity = Identity::open(store.clone(), clock(), rng(), mail.clone(), config, (known_clients, named)).await?;
    let provisioning = drivers::provisioning(settings, store, &identity, (clock(), rng()), &observer)?;
    let webhooks = Webhooks::new(store.clone(), clock(), rng(), identity.clone(), settings.webhooks.config());
    let services = onboarding::Services {
        tenants: tenants.clone(),
        users: users.clone(),
        identity: identity.clone(),
        billing: billing.clone(),
        provisioning: provisioning.clone(),
        mail: mail.clone(),
    };
    let (tasks, how) = (shutdown.tasks.clone(), setup::onboarding(settings, directory));
    let onboarding = Onboarding::new(store.clone(), services, clock(), rng(), tasks, how);
    let stripe = setup::stripe(settings, store, (clock(), rng()), (&onboarding, &metering)).await?;
    let verifier = identity.verifier().clone();
    let parts = gateway::Parts {
        verifier: verifier.clone(),
        directory: directory.clone(),
        metering: metering.clone(),
        clock: clock(),
        rng: rng(),
    };
    let routes = settings.gateway.route_names();
    let gateway = Gateway::new(&settings.gateway.routes, routes, parts, shutdown.background(clock(), rng()));
    let (hooks, tasks) = (setup::reloaded(&verifier, directory), shutdown.tasks.clone());
    let reload = Reload::new(settings.clone(), gateway.clone(), billing.clone(), tls.cloned(), hooks, tasks);
    let (directory, clock, store) = (directory.clone(), clock(), store.clone());
    Ok(AppState(Arc::new(Services {
        tenants,
        users,
        identity,
        verifier,
        billing,
        metering,
        provisioning,
        onboarding,
        stripe,
        mail,
        webhooks,
        directory,
        gateway,
        reload,
        store,
        clock,
    })))
}

/// Makes the platform administrator when there is none. A password that nobody gave is made up.
async fn first_admin(
    settings: &Settings,
    store: &Store,
    state: &AppState,
    rng: &dyn Rng,
) -> Result<Option<Secret>, BuildError> {
    let scope = Scope::Job("first-admin");
    if store.read(scope).await?.platform_admin_exists().await? {
        return Ok(None);
    }
    let made_up =
        settings.admin.password.is_none().then(|| Secret::new(URL_SAFE_NO_PAD.encode(random_bytes::<18>(rng))));
    let Some(password) = settings.admin.password.as_ref().or(made_up.as_ref()) else { return Ok(None) };
    let hash = state.0.identity.hash_new_password(password, &[settings.admin.email.as_str()]).await;
    let hash = hash.map_err(|error| BuildError::Admin(format!("TOLLGATE_ADMIN_PASSWORD {error}")))?;
    let mut tx = store.begin(scope).await?;
    let admin = state.0.users.platform_admin_in(&mut tx, &settings.admin.email).await;
    let admin = admin.map_err(|error| BuildError::Admin(error.to_string()))?;
    state.0.identity.set_password_in(&mut tx, admin.id, &hash).await?;
    let (actor, subject) = (Actor::Job("first-admin"), admin.id.to_string());
    state.0.identity.note(&mut tx, Act { actor, action: "admin.made", tenant: None, subject, detail: None }).await?;
    tx.commit().await?;
    Ok(made_up)
}
