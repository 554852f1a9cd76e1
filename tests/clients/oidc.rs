//! `OpenID` Connect and OAuth clients of other hands, with each algorithm.

use serde_json::{Value, json};

use super::{npm::Npm, scene::Scene, venv::Venv};
use crate::support::actors::{PASSWORD, email_of};

/// Where an application would be; nobody listens there, and nobody needs to.
pub const CALLBACK: &str = "http://127.0.0.1/callback";
/// Where it would be when somebody has signed out.
pub const SIGNED_OUT: &str = "http://127.0.0.1/signed-out";

/// A server that signs with one algorithm, and clients registered with it.
pub struct Registered {
    pub scene: Scene,
    algorithm: &'static str,
    /// Id and secret of a client of people.
    pub confidential: (String, String),
    /// The id of one without a secret.
    pub public: String,
    /// Id and secret of a machine of the tenant.
    pub robot: (String, String),
}

impl Registered {
    pub fn with(algorithm: &'static str) -> Self {
        let scene = Scene::with(&[("TOLLGATE_IDENTITY__SIGNING_ALG", algorithm)]);
        let make = |body: &Value| {
            let made = scene.server.call("POST", "/admin/v1/clients", &scene.admin, body);
            assert_eq!(made.status, 201, "{}", made.body);
            let made = made.json();
            let text = |name: &str| made[name].as_str().unwrap_or_default().to_owned();
            (text("client_id"), text("client_secret"))
        };
        let of_people = |method: &str| {
            json!({
                "client_name": "application",
                "redirect_uris": [CALLBACK],
                "post_logout_redirect_uris": [SIGNED_OUT],
                "token_endpoint_auth_method": method,
                "id_token_signed_response_alg": algorithm,
            })
        };
        let confidential = make(&of_people("client_secret_basic"));
        let public = make(&of_people("none")).0;
        // It said no way of authenticating, so either works.
        let robot = make(&json!({"client_name": "robot", "tenant_id": scene.tenant}));
        Self { scene, algorithm, confidential, public, robot }
    }

    /// `iss` of its tokens.
    pub fn issuer(&self) -> String {
        let metadata = self.scene.server.get("/.well-known/openid-configuration", "").json();
        metadata["issuer"].as_str().unwrap().to_owned()
    }

    fn variables(&self) -> Vec<(&'static str, String)> {
        let (scene, both) = (&self.scene, |pair: &(String, String)| pair.clone());
        let ((client, client_secret), (robot, robot_secret)) = (both(&self.confidential), both(&self.robot));
        let initial = scene.server.call("POST", "/admin/v1/clients/initial-access-tokens", &scene.admin, &json!({}));
        assert_eq!(initial.status, 201, "{}", initial.body);
        let own = [
            ("TOLLGATE_ALG", self.algorithm.to_owned()),
            ("TOLLGATE_EMAIL", email_of("Acme")),
            ("TOLLGATE_PASSWORD", PASSWORD.to_owned()),
            ("TOLLGATE_CLIENT_ID", client),
            ("TOLLGATE_CLIENT_SECRET", client_secret),
            ("TOLLGATE_PUBLIC_ID", self.public.clone()),
            ("TOLLGATE_ROBOT_ID", robot),
            ("TOLLGATE_ROBOT_SECRET", robot_secret),
            ("TOLLGATE_INITIAL_TOKEN", initial.json()["initial_access_token"].as_str().unwrap().to_owned()),
        ];
        [scene.variables(), own.into()].concat()
    }
}

#[test]
fn openid_client_and_jose_work_with_each_algorithm() {
    let Some(npm) = Npm::with(&["openid-client@6.9.0", "jose@6.2.18"]) else { return };
    for algorithm in ["ES256", "RS256", "EdDSA"] {
        let registered = Registered::with(algorithm);
        npm.run("openid_client.mjs", &registered.variables());
    }
}

#[test]
fn authlib_works_with_each_algorithm() {
    let Some(venv) = Venv::with(&["Authlib==1.9.10", "requests==2.34.2", "joserfc==1.8.0"]) else { return };
    for algorithm in ["ES256", "RS256", "EdDSA"] {
        let registered = Registered::with(algorithm);
        let mut variables = registered.variables();
        // Its own switch for http.
        variables.push(("AUTHLIB_INSECURE_TRANSPORT", "1".to_owned()));
        venv.run("authlib_client.py", &variables);
    }
}
