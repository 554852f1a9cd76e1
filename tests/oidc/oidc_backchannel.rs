//! `OpenID` Connect Back-Channel Logout 1.0.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering},
    },
};

use axum::{
    Router,
    extract::{FromRef as _, Request, State},
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinSet};
use tollgate::{
    identity::Identity,
    outbound::{Outbound, Reach},
    store::{Scope, Store},
    upkeep::tell_logouts_once,
};

use crate::{
    browser::Browser,
    relying_party::{CALLBACK, Client, acme, claims, opens, owner, part, refused},
    support::app::{Reply, TestApp},
};

/// A client's back channel: what came, and what it answers.
#[derive(Clone, Default)]
struct Heard {
    bodies: Arc<Mutex<Vec<(String, String)>>>,
    status: Arc<AtomicU16>,
}

struct BackChannel {
    heard: Heard,
    port: u16,
    _server: JoinSet<()>,
}

async fn hear(State(heard): State<Heard>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let kind = request.headers().get(header::CONTENT_TYPE).cloned();
    let body = axum::body::to_bytes(request.into_body(), 65_536).await.unwrap();
    let kind = kind.map(|kind| kind.to_str().unwrap().to_owned()).unwrap_or_default();
    heard.bodies.lock().unwrap().push((format!("{path} {kind}"), String::from_utf8(body.to_vec()).unwrap()));
    let status = StatusCode::from_u16(heard.status.load(Ordering::SeqCst)).unwrap();
    let target: [(HeaderName, HeaderValue); 1] = [(header::LOCATION, HeaderValue::from_static("/elsewhere"))];
    if path == "/never" {
        return std::future::pending().await;
    }
    (status, target).into_response()
}

impl BackChannel {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard = Heard::default();
        heard.status.store(200, Ordering::SeqCst);
        let router = Router::new().fallback(hear).with_state(heard.clone());
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { heard, port, _server: server }
    }

    fn answers(&self, status: u16) {
        self.heard.status.store(status, Ordering::SeqCst);
    }

    /// The logout tokens that came since this was last asked.
    fn tokens(&self) -> Vec<String> {
        let bodies = std::mem::take(&mut *self.heard.bodies.lock().unwrap());
        let token = |(what, body): (String, String)| {
            assert_eq!(what, "/logout application/x-www-form-urlencoded");
            body.strip_prefix("logout_token=").unwrap().to_owned()
        };
        bodies.into_iter().map(token).collect()
    }

    async fn client<'a>(&self, app: &'a TestApp) -> Client<'a> {
        let uri = format!("http://127.0.0.1:{}/logout", self.port);
        Client::web_with(app, json!({"backchannel_logout_uri": uri, "backchannel_logout_session_required": true})).await
    }
}

/// Tells clients, once.
async fn tell(app: &TestApp) -> usize {
    let identity = Identity::from_ref(app.app.state());
    tell_logouts_once(&identity, &Outbound::new(Reach::Private)).await.unwrap()
}

async fn signed_in<'a>(client: &Client<'a>) -> (Browser<'a>, Reply) {
    let browser = Browser::signed_in(client.app, &owner()).await;
    let code = client.code(&browser, &[]).await;
    let tokens = client.redeem(&code).await.expect(200);
    (browser, tokens)
}

async fn sign_out(browser: &Browser<'_>, tokens: &Reply) {
    browser.get(&format!("/oauth2/logout?id_token_hint={}", tokens.text("/id_token"))).await.expect(200);
}

/// "iss, aud, iat, exp, jti, events: REQUIRED"; "A Logout Token MUST contain either a sub or a sid Claim, and MAY contain both";
/// "nonce: PROHIBITED"; "it is RECOMMENDED that [...] typ [...] logout+jwt".
#[tokio::test]
async fn oidc_backchannel_2_4_a_logout_token_has_its_claims() {
    let app = acme().await;
    let channel = BackChannel::start().await;
    let client = channel.client(&app).await;
    let (browser, tokens) = signed_in(&client).await;
    sign_out(&browser, &tokens).await;
    assert_eq!(tell(&app).await, 1);
    let heard = channel.tokens();
    assert_eq!(heard.len(), 1);
    let (header, told, id_token) = (part(&heard[0], 0), part(&heard[0], 1), claims(&tokens, "id_token"));
    assert_eq!((&header["typ"], &header["alg"]), (&"logout+jwt".into(), &"ES256".into()));
    assert_eq!(header["kid"], part(&tokens.text("/id_token"), 0)["kid"]);
    let names: BTreeSet<&str> = told.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, BTreeSet::from(["aud", "events", "exp", "iat", "iss", "jti", "sid", "sub"]));
    for name in ["iss", "aud", "sub", "sid"] {
        assert_eq!(told[name], id_token[name], "{name}");
    }
    assert_eq!(told["events"], json!({"http://schemas.openid.net/event/backchannel-logout": {}}));
    assert_eq!(told["exp"].as_i64().unwrap() - told["iat"].as_i64().unwrap(), 120);
    // Told once, and not again.
    app.clock.advance_secs(100_000);
    assert_eq!((tell(&app).await, channel.tokens().len()), (0, 0));
}

/// "OPs supporting back-channel logout need to keep track of the set of logged-in RPs so that they know what RPs to contact":
/// each client that has a session there, and no other.
#[tokio::test]
async fn oidc_backchannel_2_3_every_client_with_a_session_in_the_browser_is_told() {
    let app = acme().await;
    let (one, two) = (BackChannel::start().await, BackChannel::start().await);
    let (first, second, silent) = (one.client(&app).await, two.client(&app).await, Client::web(&app).await);
    let (browser, tokens) = signed_in(&first).await;
    for client in [&second, &silent] {
        let code = client.code(&browser, &[]).await;
        client.redeem(&code).await.expect(200);
    }
    let (elsewhere, of_elsewhere) = signed_in(&first).await;
    assert_eq!(tell(&app).await, 0, "nothing is over");
    sign_out(&browser, &tokens).await;
    assert_eq!(tell(&app).await, 2);
    assert_eq!((one.tokens().len(), two.tokens().len()), (1, 1));
    assert!(elsewhere.has_cookie() && opens(&app, &of_elsewhere.text("/access_token")).await);
}

/// A session that ends otherwise is over, too: by an administrator, by its client, by a theft, with its user or tenant.
#[tokio::test]
async fn oidc_backchannel_2_3_whoever_ends_a_session_its_client_is_told() {
    let app = TestApp::new().await;
    let tenant = app.tenant("Acme", "standard").await;
    let channel = BackChannel::start().await;
    let client = channel.client(&app).await;
    let admin = app.admin().await;
    let sid = |tokens: &Reply| claims(tokens, "id_token")["sid"].as_str().unwrap().to_owned();

    let by_admin = client.tokens(&[]).await;
    admin.delete(&format!("/admin/v1/sessions/{}", sid(&by_admin))).await.expect(204);
    let by_client = client.tokens(&[]).await;
    client.post("/oauth2/revoke", &[("token", &by_client.text("/refresh_token"))]).await.expect(200);
    let by_theft = client.tokens(&[]).await;
    client.refresh(&by_theft.text("/refresh_token"), &[]).await.expect(200);
    app.clock.advance_secs(11);
    refused(&client.refresh(&by_theft.text("/refresh_token"), &[]).await, 400, "invalid_grant");
    let by_user = client.tokens(&[]).await;
    let user = claims(&by_user, "id_token")["sub"].as_str().unwrap().to_owned();
    let second = json!({"email": "second@acme.example", "role": "owner", "password": crate::support::actors::PASSWORD});
    admin.post(&format!("/admin/v1/tenants/{tenant}/users"), second).await.expect(201);
    admin.post(&format!("/admin/v1/tenants/{tenant}/users/{user}/disable"), Value::Null).await.expect(200);

    assert_eq!(tell(&app).await, 4);
    let told: BTreeSet<String> =
        channel.tokens().iter().map(|token| part(token, 1)["sid"].as_str().unwrap().to_owned()).collect();
    assert_eq!(told, [&by_admin, &by_client, &by_theft, &by_user].map(sid).into());
}

/// "If the identity of the RP [...] the OP SHOULD NOT retransmit [...]": here a client that does not answer 200 is asked again,
/// later each time, and not for ever.
#[tokio::test]
async fn oidc_backchannel_2_5_a_client_that_fails_is_asked_again_and_not_for_ever() {
    let app = acme().await;
    let channel = BackChannel::start().await;
    let client = channel.client(&app).await;
    let (browser, tokens) = signed_in(&client).await;
    sign_out(&browser, &tokens).await;
    channel.answers(500);
    assert_eq!((tell(&app).await, channel.tokens().len()), (0, 1));
    assert_eq!((tell(&app).await, channel.tokens().len()), (0, 0), "not at once");
    for wait_s in [10, 60, 300, 1_800] {
        app.clock.advance_secs(wait_s - 1);
        assert_eq!((tell(&app).await, channel.tokens().len()), (0, 0), "{wait_s}");
        app.clock.advance_secs(1);
        assert_eq!((tell(&app).await, channel.tokens().len()), (0, 1), "{wait_s}");
    }
    app.clock.advance_secs(7_200);
    channel.answers(400);
    assert_eq!((tell(&app).await, channel.tokens().len()), (0, 1));
    app.clock.advance_secs(1_000_000);
    assert_eq!((tell(&app).await, channel.tokens().len()), (0, 0), "six times, and no more");
}

/// A client that is deleted, by itself or with its tenant, hears of the ends that that brings; then nothing of it is left.
#[tokio::test]
async fn oidc_backchannel_2_5_a_deleted_client_hears_that_its_sessions_are_over() {
    let app = acme().await;
    let channel = BackChannel::start().await;
    let admin = app.admin().await;
    let sid = |tokens: &Reply| claims(tokens, "id_token")["sid"].clone();
    let told = || -> Vec<Value> { channel.tokens().iter().map(|token| part(token, 1)["sid"].clone()).collect() };
    let client = channel.client(&app).await;
    let tokens = client.tokens(&[]).await;
    let path = format!("/admin/v1/clients/{}", client.id);
    admin.delete(&path).await.expect(204);
    assert_eq!((tell(&app).await, told()), (1, vec![sid(&tokens)]));
    // To everybody else it is gone, from the beginning.
    admin.delete(&path).await.expect(404);
    refused(&client.refresh(&tokens.text("/refresh_token"), &[]).await, 401, "invalid_client");
    app.anon().get(&client.request(&[])).await.expect(400);

    let uri = format!("http://127.0.0.1:{}/logout", channel.port);
    let of_tenant = json!({"redirect_uris": [CALLBACK], "backchannel_logout_uri": uri, "scope": "openid"});
    let made = app.owner_of("Acme").await.post("/v1/clients", of_tenant).await.expect(201);
    let secret = made.body["client_secret"].as_str().map(str::to_owned);
    let client = Client { app: &app, id: made.text("/client_id"), secret };
    let tokens = client.tokens(&[("scope", "openid")]).await;
    let tenant = tokens.text("/tenant_id");
    admin.delete(&format!("/admin/v1/tenants/{tenant}")).await.expect(200);
    assert_eq!((tell(&app).await, told()), (1, vec![sid(&tokens)]));

    let identity = Identity::from_ref(app.app.state());
    identity.tidy().await.unwrap();
    let mut tx = Store::from_ref(app.app.state()).begin(Scope::Job("test")).await.unwrap();
    assert_eq!(tx.clients_forget().await.unwrap(), 0, "tidying forgot both");
}

/// A node that dies between the end of a session and telling: the next start tells.
#[tokio::test]
async fn oidc_backchannel_2_5_what_was_not_told_is_told_after_a_restart() {
    let app = acme().await;
    let channel = BackChannel::start().await;
    let tokens = {
        let client = channel.client(&app).await;
        let (browser, tokens) = signed_in(&client).await;
        sign_out(&browser, &tokens).await;
        tokens
    };
    let app = app.restarted().await;
    assert_eq!(tell(&app).await, 1);
    assert_eq!(part(&channel.tokens()[0], 1)["sid"], claims(&tokens, "id_token")["sid"]);
}

/// "the RP responds with HTTP 200 OK [...] 204 No Content": a redirection is neither, and is not followed.
#[tokio::test]
async fn oidc_backchannel_2_8_a_redirection_is_not_followed() {
    let app = acme().await;
    let channel = BackChannel::start().await;
    let client = channel.client(&app).await;
    let (browser, tokens) = signed_in(&client).await;
    sign_out(&browser, &tokens).await;
    for status in [302, 307, 308] {
        channel.answers(status);
        assert_eq!((tell(&app).await, channel.tokens().len()), (0, 1), "{status}");
        app.clock.advance_secs(400);
    }
    app.clock.advance_secs(2_000);
    channel.answers(204);
    assert_eq!((tell(&app).await, channel.tokens().len()), (1, 1));
}

/// Addresses in loopback and private ranges are not called unless settings say so.
#[tokio::test]
async fn oidc_backchannel_2_5_private_addresses_are_not_called() {
    let app = acme().await;
    let channel = BackChannel::start().await;
    let client = channel.client(&app).await;
    let (browser, tokens) = signed_in(&client).await;
    sign_out(&browser, &tokens).await;
    let identity = Identity::from_ref(app.app.state());
    assert_eq!(tell_logouts_once(&identity, &Outbound::new(Reach::Public)).await.unwrap(), 0);
    assert_eq!(channel.tokens().len(), 0);
}

/// One that never answers is given up after five seconds, and holds nobody up.
#[tokio::test]
async fn oidc_backchannel_2_5_a_client_that_never_answers_holds_nobody_up() {
    let app = acme().await;
    let channel = BackChannel::start().await;
    let uri = format!("http://127.0.0.1:{}/never", channel.port);
    let stuck = Client::web_with(&app, json!({"backchannel_logout_uri": uri})).await;
    let good = BackChannel::start().await;
    let client = good.client(&app).await;
    let (browser, tokens) = signed_in(&stuck).await;
    let code = client.code(&browser, &[]).await;
    client.redeem(&code).await.expect(200);
    sign_out(&browser, &tokens).await;
    assert_eq!((tell(&app).await, good.tokens().len()), (1, 1));
}

/// "Logout Tokens MUST NOT be usable as" anything else: sections 2.4 and 4, cross-JWT confusion.
#[tokio::test]
async fn oidc_backchannel_4_a_logout_token_is_nothing_else() {
    let app = acme().await;
    let channel = BackChannel::start().await;
    let client = channel.client(&app).await;
    let (browser, tokens) = signed_in(&client).await;
    sign_out(&browser, &tokens).await;
    tell(&app).await;
    let token = channel.tokens().remove(0);
    assert!(!opens(&app, &token).await);
    assert_eq!(client.introspect(&token).await, json!({"active": false}));
    let other = Browser::signed_in(&app, &owner()).await;
    other.get(&format!("/oauth2/logout?id_token_hint={token}")).await.expect(400);
    assert!(other.has_cookie());
}
