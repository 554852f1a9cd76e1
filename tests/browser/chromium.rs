//! Chromium with a profile of its own, driven over `WebDriver` on loopback; ended on drop.

use std::{
    io::{BufRead as _, BufReader},
    os::unix::fs::MetadataExt as _,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use axum::body::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use thirtyfour::{
    WebDriver,
    common::command::{Command as DriverCommand, ExtensionCommand},
    error::{WebDriverError, WebDriverResult},
    session::http::{Body, HttpClient},
};
use tokio::runtime::Runtime;

/// What is looked for is waited for this long; what was clicked has this long to load.
const PATIENCE: Duration = Duration::from_secs(8);

/// A browser.
pub struct Chromium {
    runtime: Runtime,
    /// Taken when it ends.
    driver: Option<WebDriver>,
    service: Child,
    _profile: TempDir,
}

impl Chromium {
    /// Whether the programs are there.
    pub fn is_installed() -> bool {
        let runs = |program: &str| {
            let mut command = Command::new(program);
            command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        };
        runs("chromedriver") && runs("chromium")
    }

    pub fn start() -> Self {
        let profile = tempfile::tempdir().unwrap();
        let mut command = Command::new("chromedriver");
        command.arg("--port=0").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut service = command.spawn().unwrap();
        let lines = BufReader::new(service.stdout.take().unwrap()).lines().map_while(Result::ok);
        let port = lines.into_iter().find_map(|line| {
            let port = line.split("started successfully on port ").nth(1)?;
            port.trim_end_matches('.').parse::<u16>().ok()
        });
        let port = port.expect("the driver's port");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let capabilities = capabilities(&profile);
        let connecting = async {
            let client = Loopback(Client::builder(TokioExecutor::new()).build_http());
            let driver = WebDriver::builder(format!("http://127.0.0.1:{port}"), capabilities).client(client).await?;
            driver.set_implicit_wait_timeout(PATIENCE).await?;
            driver.set_page_load_timeout(PATIENCE).await?;
            Ok::<_, WebDriverError>(driver)
        };
        let driver = runtime.block_on(connecting).unwrap();
        Self { runtime, driver: Some(driver), service, _profile: profile }
    }

    /// Does something with it, which must work.
    #[track_caller]
    pub fn run<T>(&self, act: impl AsyncFnOnce(&WebDriver) -> WebDriverResult<T>) -> T {
        let driver = self.driver.as_ref().unwrap();
        let said = |error: WebDriverError| error.to_string().split("Stacktrace").next().unwrap_or_default().to_owned();
        self.runtime.block_on(act(driver)).map_err(said).unwrap_or_else(|error| panic!("{error}"))
    }

    /// A command that is not part of `WebDriver` itself; its value.
    #[track_caller]
    pub fn post(&self, path: &str, body: Value) -> Value {
        let command = || DriverCommand::ExtensionCommand(Box::new(Post { path: path.into(), body }));
        self.run(async |driver| driver.handle().cmd(command()).await?.value_json())
    }

    /// Takes something away by a command that is not part of `WebDriver` itself, if it is there.
    pub fn delete(&self, path: &str) {
        let command = DriverCommand::ExtensionCommand(Box::new(Delete(path.into())));
        let handle = self.driver.as_ref().map(WebDriver::handle);
        drop(handle.map(|handle| self.runtime.block_on(handle.cmd(command))));
    }

    /// A method of the developer tools' protocol; its result.
    #[track_caller]
    pub fn tools(&self, method: &str, params: &Value) -> Value {
        self.post("/goog/cdp/execute", json!({"cmd": method, "params": params}))
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        if let Some(driver) = self.driver.take() {
            drop(self.runtime.block_on(driver.quit()));
        }
        drop(self.service.kill());
        drop(self.service.wait());
    }
}

fn capabilities(profile: &TempDir) -> thirtyfour::Capabilities {
    let mut arguments = vec![
        "--headless=new".to_owned(),
        format!("--user-data-dir={}", profile.path().display()),
        "--no-first-run".to_owned(),
        "--disable-gpu".to_owned(),
        "--disable-dev-shm-usage".to_owned(),
        "--disable-extensions".to_owned(),
        // Nothing but what a test asks for.
        "--disable-background-networking".to_owned(),
        "--disable-component-update".to_owned(),
        "--disable-sync".to_owned(),
    ];
    if std::fs::metadata(profile.path()).unwrap().uid() == 0 {
        // Its sandbox does not start as root.
        arguments.push("--no-sandbox".to_owned());
    }
    let capabilities = json!({
        "browserName": "chrome",
        "goog:loggingPrefs": {"browser": "ALL"},
        "goog:chromeOptions": {"args": arguments},
        "unhandledPromptBehavior": "accept",
    });
    serde_json::from_value(capabilities).unwrap()
}

/// The driver's client: plain HTTP.
struct Loopback(Client<HttpConnector, Full<Bytes>>);

#[async_trait::async_trait]
impl HttpClient for Loopback {
    async fn send(&self, request: axum::http::Request<Body<'_>>) -> WebDriverResult<axum::http::Response<Bytes>> {
        let failed = |error: &dyn std::error::Error| WebDriverError::HttpError(error.to_string());
        let (parts, body) = request.into_parts();
        let body = match body {
            Body::Empty => Bytes::new(),
            Body::Json(value) => Bytes::from(value.to_string()),
        };
        let request = axum::http::Request::from_parts(parts, Full::new(body));
        let (parts, body) = self.0.request(request).await.map_err(|error| failed(&error))?.into_parts();
        let body = body.collect().await.map_err(|error| failed(&error))?.to_bytes();
        Ok(axum::http::Response::from_parts(parts, body))
    }

    async fn new(&self) -> Arc<dyn HttpClient> {
        Arc::new(Self(Client::builder(TokioExecutor::new()).build_http()))
    }
}

#[derive(Debug)]
struct Post {
    path: Arc<str>,
    body: Value,
}

impl ExtensionCommand for Post {
    fn parameters_json(&self) -> Option<Value> {
        Some(self.body.clone())
    }

    fn method(&self) -> axum::http::Method {
        axum::http::Method::POST
    }

    fn endpoint(&self) -> Arc<str> {
        Arc::clone(&self.path)
    }
}

#[derive(Debug)]
struct Delete(Arc<str>);

impl ExtensionCommand for Delete {
    fn parameters_json(&self) -> Option<Value> {
        None
    }

    fn method(&self) -> axum::http::Method {
        axum::http::Method::DELETE
    }

    fn endpoint(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}
