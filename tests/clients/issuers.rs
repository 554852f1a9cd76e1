//! Issuers of other hands: npm oidc-provider and cognito-local, whose tokens a running server takes by the profile of each.

use std::net::TcpListener;

use super::{npm::Npm, scene::Scene};

/// A port that was free a moment ago: an issuer names it before it listens.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn tokens_of_other_hands_issuers_are_taken_by_their_profiles_and_confused_ones_are_not() {
    let Some(npm) = Npm::with(&["oidc-provider@9.13.3", "cognito-local@5.3.0", "jose@6.2.18"]) else { return };
    let (oidc, cognito) = (free_port(), free_port());
    // As config/issuers/cognito.toml has it, but for the names; a group stands for the customer. cognito-local's discovery
    // names another issuer than its tokens do, so it is not asked.
    let issuers = format!(
        "[{{ issuer = \"http://127.0.0.1:{oidc}\", algorithms = [\"ES256\", \"RS256\"], audience = [\"api\"], tenant_claim = \"org\", \
         tenants = [\"org_oidc\"], on_unknown_tenant = \"create\", introspection_endpoint = \"http://127.0.0.1:{oidc}/token/introspection\", \
         introspection_client_id = \"gate\", introspection_client_secret = \"gate-secret\" }}, \
         {{ issuer = \"http://127.0.0.1:{cognito}/local_Pool1\", \
         jwks_uri = \"http://127.0.0.1:{cognito}/local_Pool1/.well-known/jwks.json\", audience = [], client_id = \"localclient\", accept_typ = [\"\", \"JWT\"], \
         tenant_claim = \"cognito:groups\", tenants = [\"org_cognito\"], on_unknown_tenant = \"create\", required_claims = [\"token_use\"] }}]"
    );
    let scene = Scene::with(&[("TOLLGATE_IDENTITY__ISSUERS", &issuers)]);
    let mut variables = scene.variables();
    variables.extend([("OIDC_PORT", oidc.to_string()), ("COGNITO_PORT", cognito.to_string())]);
    npm.run("issuers.mjs", &variables);
    let listed = scene.server.get("/admin/v1/issuers", &scene.admin).json();
    assert!(listed["items"].as_array().unwrap().iter().all(|issuer| issuer["error"].is_null()), "{listed}");
}
