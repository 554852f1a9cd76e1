//! A server with two customers, for clients to talk to.

use std::net::TcpListener;

use tempfile::TempDir;

use super::server::{Server, tollgate};
use crate::support::{
    actors::{PASSWORD, email_of, registration},
    app::{ADMIN_EMAIL, ADMIN_PASSWORD},
};

/// A running server and who calls it.
pub struct Scene {
    pub server: Server,
    /// The administrator's token.
    pub admin: String,
    /// The id of a tenant on the tier `standard`.
    pub tenant: String,
    /// The token of its owner.
    pub owner: String,
    /// The id of another tenant.
    pub other: String,
    _data: TempDir,
}

impl Scene {
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// Under settings of its own, as variables.
    pub fn with(settings: &[(&str, &str)]) -> Self {
        let data = tempfile::tempdir().unwrap();
        // An issuer names its port, so it must be known beforehand.
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let mut command = tollgate();
        command.args(["serve", "--listen", &free, "--data"]).arg(data.path()).envs(settings.iter().copied());
        let server = Server::run(&mut command);
        let admin = server.token(ADMIN_EMAIL, ADMIN_PASSWORD);
        let register = |name: &str| {
            let made = server.call("POST", "/admin/v1/registrations", &admin, &registration(name, "standard"));
            assert_eq!(made.status, 201, "{}", made.body);
            made.json()["tenant_id"].as_str().unwrap().to_owned()
        };
        let (tenant, other) = (register("Acme"), register("Bolt"));
        let owner = server.token(&email_of("Acme"), PASSWORD);
        Self { server, admin, tenant, owner, other, _data: data }
    }

    /// What a script learns of it.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        vec![
            ("TOLLGATE_URL", format!("http://{}", self.server.address)),
            ("TOLLGATE_TOKEN", self.admin.clone()),
            ("TOLLGATE_OWN_TOKEN", self.owner.clone()),
            ("TOLLGATE_TENANT", self.tenant.clone()),
            ("TOLLGATE_OTHER", self.other.clone()),
        ]
    }
}
