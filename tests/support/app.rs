//! An app in process: real services on a store of its own, a clock that stands still, randomness that repeats.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use axum::{
    Router,
    body::Body,
    http::{HeaderMap, Method, Request, StatusCode, header},
};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tollgate::{
    app::{App, BuildError, Deps},
    kernel::{Clock, ManualClock, SeededRng},
    settings::{Flags, Settings, Sources},
};
use tower::ServiceExt as _;

pub const ADMIN_EMAIL: &str = "admin@localhost";
pub const ADMIN_PASSWORD: &str = "copper-Lantern-17-tides";
/// When every test begins.
pub const NOW: &str = "2026-11-10T12:00:00Z";

/// Another seed for every start: two starts on one store must not make the same ids.
static SEED: AtomicU64 = AtomicU64::new(1);

/// A server without a socket.
pub struct TestApp {
    pub app: App,
    pub router: Router,
    pub clock: Arc<ManualClock>,
    pub folder: Arc<TempDir>,
    settings: String,
    database: Option<String>,
}

/// An answer, read whole.
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Reply {
    /// The answer, if it has this status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{}", self.body);
        self
    }

    /// A problem document of this status that names these fields.
    #[track_caller]
    pub fn refuses(self, status: u16, fields: &[&str]) -> Self {
        assert_eq!(self.status.as_u16(), status, "{}", self.body);
        assert_eq!(self.headers[header::CONTENT_TYPE], "application/problem+json");
        for member in ["type", "title", "detail", "instance"] {
            assert!(self.body[member].is_string(), "no {member}: {}", self.body);
        }
        assert_eq!(self.body["status"], status);
        let named: Vec<&str> =
            self.body["errors"].as_array().into_iter().flatten().filter_map(|e| e["field"].as_str()).collect();
        assert_eq!(named, fields, "{}", self.body);
        self
    }

    /// A text of the body.
    #[track_caller]
    pub fn text(&self, pointer: &str) -> String {
        let value = self.body.pointer(pointer).unwrap_or_else(|| panic!("no {pointer} in {}", self.body));
        value.as_str().map_or_else(|| value.to_string(), str::to_owned)
    }
}

async fn answer(router: Router, request: Request<Body>) -> Reply {
    let response = router.oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
    Reply { status: parts.status, headers: parts.headers, body }
}

impl TestApp {
    /// On the embedded store.
    pub async fn new() -> Self {
        Self::with("").await
    }

    /// With settings of its own, as TOML.
    pub async fn with(settings: &str) -> Self {
        let clock = Arc::new(ManualClock::new(NOW.parse().unwrap()));
        Self::start(settings, None, clock, Arc::new(tempfile::tempdir().unwrap())).await
    }

    /// On PostgreSQL, where it is installed.
    pub async fn on_postgres() -> Option<Self> {
        Self::on_postgres_with("").await
    }

    /// The same with settings of its own, as TOML.
    pub async fn on_postgres_with(settings: &str) -> Option<Self> {
        let database = super::postgres::shared()?.database().await;
        let clock = Arc::new(ManualClock::new(NOW.parse().unwrap()));
        Some(Self::start(settings, Some(database), clock, Arc::new(tempfile::tempdir().unwrap())).await)
    }

    /// The address of its database, where that is not a file.
    pub fn database(&self) -> Option<&str> {
        self.database.as_deref()
    }

    /// Another node on the same database, with a folder of its own.
    pub async fn beside(&self) -> Self {
        self.beside_with(&self.settings).await.unwrap()
    }

    /// The same with other settings, if it starts with them.
    pub async fn beside_with(&self, settings: &str) -> Result<Self, BuildError> {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        std::fs::copy(self.folder.path().join("identity.key"), folder.path().join("identity.key")).unwrap();
        Box::pin(Self::try_start(settings, self.database.clone(), Arc::clone(&self.clock), folder)).await
    }

    /// The same data folder and database in a new process with other settings, if it starts with them.
    pub async fn restarted_with(self, settings: &str) -> Result<Self, BuildError> {
        let Self { app, router, clock, folder, database, .. } = self;
        drop((app, router));
        Box::pin(Self::try_start(settings, database, clock, folder)).await
    }

    /// The same data folder and database in a new process, as it were.
    pub async fn restarted(self) -> Self {
        let Self { app, router, clock, folder, settings, database } = self;
        drop((app, router));
        Self::start(&settings, database, clock, folder).await
    }

    async fn start(settings: &str, database: Option<String>, clock: Arc<ManualClock>, folder: Arc<TempDir>) -> Self {
        // A program that another test begins just now has what this process has open, the lock of the data folder among it, until it
        // runs.
        for _ in 0..100_000 {
            let (database, clock, folder) = (database.clone(), Arc::clone(&clock), Arc::clone(&folder));
            match Box::pin(Self::try_start(settings, database, clock, folder)).await {
                Err(BuildError::DataInUse { .. }) => tokio::task::yield_now().await,
                started => return started.unwrap(),
            }
        }
        panic!("the data folder stays in use");
    }

    async fn try_start(
        settings: &str,
        database: Option<String>,
        clock: Arc<ManualClock>,
        folder: Arc<TempDir>,
    ) -> Result<Self, BuildError> {
        let mut env = vec![("TOLLGATE_ADMIN_PASSWORD".into(), ADMIN_PASSWORD.into())];
        if !settings.contains("published_algs") {
            // An RSA key takes longer to make than most tests take.
            env.push(("TOLLGATE_IDENTITY__PUBLISHED_ALGS".into(), r#"["ES256"]"#.into()));
        }
        let sources = Sources {
            file: Some(("test".into(), settings.to_owned())),
            env,
            flags: Flags {
                data: Some(folder.path().display().to_string()),
                database_url: database.clone(),
                ..Flags::default()
            },
        };
        let rng = SeededRng::new(SEED.fetch_add(1, Ordering::Relaxed));
        let deps = Deps { clock: Arc::clone(&clock) as Arc<dyn Clock>, rng: Arc::new(rng) };
        let app = Box::pin(App::build(Settings::load(&sources).unwrap(), deps)).await?;
        let router = app.router();
        Ok(Self { app, router, clock, folder, settings: settings.to_owned(), database })
    }

    /// Sends a request and reads the answer whole.
    pub async fn send(&self, request: Request<Body>) -> Reply {
        answer(self.router.clone(), request).await
    }

    /// Sends requests at once, each by a task of its own; the answers, as they came.
    pub async fn send_together(&self, requests: Vec<Request<Body>>) -> Vec<Reply> {
        let mut tasks = JoinSet::new();
        for request in requests {
            tasks.spawn(answer(self.router.clone(), request));
        }
        tasks.join_all().await
    }

    /// A call with a token (or none, when empty) and a JSON body (or none, when null).
    pub async fn call(&self, method: Method, path: &str, token: &str, body: Value) -> Reply {
        let mut request = Request::builder().method(method).uri(path);
        if !token.is_empty() {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = if body.is_null() {
            request.body(Body::empty())
        } else {
            request.header(header::CONTENT_TYPE, "application/json").body(Body::from(body.to_string()))
        };
        self.send(request.unwrap()).await
    }
}
