//! `OpenID` Connect Discovery 1.0: what is advertised works, each member walked and exercised, and no member is unknown here.

use axum::http::Method;
use serde_json::{Value, json};

use crate::{
    browser::{Browser, form_of, location, param},
    relying_party::{CALLBACK, CHALLENGE, Client, DEVICE, EXCHANGE, VERIFIER, claims, owner, part, post},
    support::app::TestApp,
};

struct Walk<'a> {
    app: &'a TestApp,
    client: Client<'a>,
    browser: Browser<'a>,
    metadata: Value,
}

impl Walk<'_> {
    fn list(&self, name: &str) -> Vec<String> {
        self.metadata[name].as_array().unwrap().iter().map(|own| own.as_str().unwrap().to_owned()).collect()
    }

    /// The path of an endpoint.
    fn path(&self, name: &str) -> String {
        let issuer = self.metadata["issuer"].as_str().unwrap();
        self.metadata[name].as_str().unwrap().strip_prefix(issuer).unwrap().to_owned()
    }

    async fn endpoint(&self, name: &str) {
        let path = self.path(name);
        let tokens = self.client.tokens(&[]).await;
        let (access, id_token) = (tokens.text("/access_token"), tokens.text("/id_token"));
        let works = match name {
            "authorization_endpoint" => self.client.request(&[]).starts_with(&format!("{path}?")),
            "token_endpoint" => self.client.post(&path, &[("grant_type", "client_credentials")]).await.status == 400,
            "userinfo_endpoint" => {
                let reply = self.app.call(Method::GET, &path, &access, Value::Null).await.expect(200);
                reply.text("/sub") == claims(&tokens, "id_token")["sub"].as_str().unwrap()
            }
            "introspection_endpoint" => {
                self.client.post(&path, &[("token", &access)]).await.expect(200).body["active"] == true
            }
            "revocation_endpoint" => {
                self.client.post(&path, &[("token", &access)]).await.expect(200);
                self.client.introspect(&access).await["active"] == false
            }
            "device_authorization_endpoint" => {
                self.client.post(&path, &[]).await.expect(200).body["user_code"].is_string()
            }
            "pushed_authorization_request_endpoint" => {
                let request = [("response_type", "code"), ("redirect_uri", CALLBACK)];
                self.client.post(&path, &request).await.expect(201).body["request_uri"].is_string()
            }
            "registration_endpoint" => {
                let made = self.app.admin().await.post("/admin/v1/clients/initial-access-tokens", json!({})).await;
                let token = made.text("/initial_access_token");
                self.app.call(Method::POST, &path, &token, json!({"redirect_uris": [CALLBACK]})).await.status == 201
            }
            "end_session_endpoint" => {
                let browser = Browser::signed_in(self.app, &owner()).await;
                browser.get(&format!("{path}?id_token_hint={id_token}")).await.expect(200);
                !browser.has_cookie()
            }
            _ => false,
        };
        assert!(works, "{name}");
    }

    async fn grant(&self, grant: &str) {
        let client = &self.client;
        let refresh = client.tokens(&[]).await;
        let access = refresh.text("/access_token");
        let tenant = refresh.text("/tenant_id");
        let reply = match grant {
            "authorization_code" => {
                let code = client.code(&self.browser, &[]).await;
                client.redeem(&code).await
            }
            "refresh_token" => client.refresh(&refresh.text("/refresh_token"), &[]).await,
            "client_credentials" => {
                Client::machine(self.app).await.token(&[("grant_type", "client_credentials")]).await
            }
            DEVICE => {
                let started = client.post("/oauth2/device_authorization", &[]).await.expect(200);
                let page = self.browser.get(&format!("/device?user_code={}", started.text("/user_code"))).await;
                let page = self.browser.submit(&form_of(&page), None).await;
                self.browser.submit(&form_of(&page), Some(("decision", "allow"))).await.expect(200);
                client.token(&[("grant_type", DEVICE), ("device_code", &started.text("/device_code"))]).await
            }
            EXCHANGE => {
                let kind = "urn:ietf:params:oauth:token-type:access_token";
                let fields = [
                    ("grant_type", EXCHANGE),
                    ("subject_token", &*access),
                    ("subject_token_type", kind),
                    ("tenant", &*tenant),
                ];
                client.token(&fields).await
            }
            other => panic!("{other} is advertised and not known here"),
        };
        assert!(reply.expect(200).body["access_token"].is_string(), "{grant}");
    }

    /// Every method of authentication, at an endpoint that advertises it.
    async fn methods(&self, name: &str) {
        let endpoint = name.strip_suffix("_auth_methods_supported").unwrap();
        let path = self.path(endpoint);
        for method in self.list(name) {
            let client = Client::web_with(self.app, json!({"token_endpoint_auth_method": method})).await;
            let tokens = if method == "client_secret_post" { None } else { Some(client.tokens(&[]).await) };
            let token = tokens.map_or_else(|| "x".to_owned(), |tokens| tokens.text("/refresh_token"));
            let fields = [("token", &*token), ("grant_type", "refresh_token"), ("refresh_token", &*token)];
            let reply = match method.as_str() {
                "client_secret_post" => {
                    let mut fields = fields.to_vec();
                    fields.extend([("client_id", &*client.id), ("client_secret", client.secret.as_deref().unwrap())]);
                    post(self.app, &path, &fields, None).await
                }
                "client_secret_basic" | "none" => client.post(&path, &fields).await,
                other => panic!("{other} is advertised and not known here"),
            };
            assert_ne!(reply.status, 401, "{name} {method}: {}", reply.body);
        }
    }

    async fn prompts(&self) {
        for prompt in self.list("prompt_values_supported") {
            let reply = self.browser.get(&self.client.request(&[("prompt", &prompt)])).await;
            let fine = match prompt.as_str() {
                "consent" => reply.status == 200,
                "none" => param(&location(&reply), "code").is_some(),
                "login" | "select_account" => location(&reply).path() == "/login",
                other => panic!("{other} is advertised and not known here"),
            };
            assert!(fine, "{prompt}: {} {}", reply.status, reply.body);
        }
    }

    async fn response_modes(&self) {
        for mode in self.list("response_modes_supported") {
            let reply = self.browser.get(&self.client.request(&[("response_mode", &mode)])).await;
            let code = match mode.as_str() {
                "query" => param(&location(&reply), "code"),
                "form_post" => form_of(&reply).value("code").map(str::to_owned),
                other => panic!("{other} is advertised and not known here"),
            };
            self.client.redeem(&code.unwrap()).await.expect(200);
        }
    }

    async fn id_token_algs(&self) {
        let jwks = self.app.anon().get(&self.path("jwks_uri")).await.expect(200);
        for alg in self.list("id_token_signing_alg_values_supported") {
            let client = Client::web_with(self.app, json!({"id_token_signed_response_alg": alg})).await;
            let header = part(&client.tokens(&[]).await.text("/id_token"), 0);
            assert_eq!(header["alg"], alg.as_str());
            let keys = jwks.body["keys"].as_array().unwrap();
            assert!(keys.iter().any(|key| key["kid"] == header["kid"] && key["alg"] == alg.as_str()), "{alg}");
        }
    }

    async fn claims(&self) {
        self.app.owner_of("Acme").await.patch("/v1/me", json!({"name": "Ada"})).await.expect(200);
        let tokens = self.client.tokens(&[("scope", "openid profile email usage:read"), ("nonce", "n")]).await;
        let id_token = claims(&tokens, "id_token");
        let userinfo = self.app.call(Method::GET, "/oauth2/userinfo", &tokens.text("/access_token"), Value::Null).await;
        for claim in self.list("claims_supported") {
            assert!(id_token.get(&claim).is_some() || userinfo.body.get(&claim).is_some(), "{claim}");
        }
        let advertised = self.list("claims_supported");
        for claim in id_token.as_object().unwrap().keys().chain(userinfo.body.as_object().unwrap().keys()) {
            assert!(advertised.contains(claim), "{claim} is given and not advertised");
        }
    }

    async fn scopes(&self) {
        for scope in self.list("scopes_supported") {
            let tokens = self.client.tokens(&[("scope", &scope)]).await;
            assert_eq!(tokens.text("/scope"), scope);
        }
    }

    async fn member(&self, name: &str) {
        let value = &self.metadata[name];
        match name {
            "issuer" => assert_eq!(value, crate::browser::ISSUER),
            "jwks_uri" | "id_token_signing_alg_values_supported" => self.id_token_algs().await,
            "service_documentation" => drop(self.app.anon().get(&self.path(name)).await.expect(200)),
            "grant_types_supported" => {
                for grant in self.list(name) {
                    self.grant(&grant).await;
                }
            }
            "response_types_supported" => assert_eq!(value, &json!(["code"])),
            "response_modes_supported" => self.response_modes().await,
            "prompt_values_supported" => self.prompts().await,
            "claims_supported" => self.claims().await,
            "scopes_supported" => self.scopes().await,
            "claim_types_supported" => assert_eq!(value, &json!(["normal"])),
            "subject_types_supported" => assert_eq!(value, &json!(["public"])),
            "code_challenge_methods_supported" => {
                assert_eq!(value, &json!(["S256"]));
                let code = self.client.code(&self.browser, &[("code_challenge", CHALLENGE)]).await;
                self.client.redeem_with(&code, &[("code_verifier", VERIFIER)]).await.expect(200);
            }
            "request_parameter_supported"
            | "request_uri_parameter_supported"
            | "require_pushed_authorization_requests"
            | "claims_parameter_supported" => assert_eq!(value, false),
            // rfc9207.rs and oidc_backchannel.rs.
            "authorization_response_iss_parameter_supported"
            | "backchannel_logout_supported"
            | "backchannel_logout_session_supported" => assert_eq!(value, true),
            _ if name.ends_with("_auth_methods_supported") => self.methods(name).await,
            _ if name.ends_with("_endpoint") => self.endpoint(name).await,
            other => panic!("{other} is advertised and not known here"),
        }
    }
}

/// "OpenID Providers have metadata describing their configuration": every member of it is true.
#[tokio::test]
async fn oidc_discovery_3_what_is_advertised_works_and_nothing_else_is_advertised() {
    let app = TestApp::with("[identity]\npublished_algs = [\"ES256\", \"RS256\", \"EdDSA\"]").await;
    app.tenant("Acme", "standard").await;
    let grants = json!({"grant_types": ["authorization_code", "refresh_token", DEVICE, EXCHANGE]});
    let client = Client::web_with(&app, grants).await;
    let browser = Browser::signed_in(&app, &owner()).await;
    client.code(&browser, &[("scope", "openid email profile usage:read usage:write offline_access")]).await;
    let metadata = app.anon().get("/.well-known/openid-configuration").await.expect(200).body;
    let names: Vec<String> = metadata.as_object().unwrap().keys().cloned().collect();
    let walk = Walk { app: &app, client, browser, metadata };
    for name in names {
        walk.member(&name).await;
    }
}

/// "issuer: REQUIRED. [...] authorization_endpoint, token_endpoint, jwks_uri, response_types_supported,
/// subject_types_supported, id_token_signing_alg_values_supported: REQUIRED."; "The algorithm RS256 MUST be included."
#[tokio::test]
async fn oidc_discovery_3_what_is_required_is_there() {
    let app = TestApp::with("[identity]\npublished_algs = [\"RS256\"]").await;
    let metadata = app.anon().get("/.well-known/openid-configuration").await.expect(200).body;
    for name in [
        "issuer",
        "authorization_endpoint",
        "token_endpoint",
        "userinfo_endpoint",
        "jwks_uri",
        "scopes_supported",
        "response_types_supported",
        "subject_types_supported",
        "id_token_signing_alg_values_supported",
        "claims_supported",
    ] {
        assert!(!metadata[name].is_null(), "{name}");
    }
    assert!(metadata["id_token_signing_alg_values_supported"].as_array().unwrap().contains(&"RS256".into()));
    let nobody = Browser::new(&app);
    assert_eq!(nobody.get("/oauth2/authorize").await.status, 400);
}
