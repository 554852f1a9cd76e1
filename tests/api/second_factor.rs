//! Second factors: codes of an authenticator, recovery codes, passkeys, and who takes them away.
//!
//! The passkey's authenticator is software here: a P-256 key without attestation, as `WebAuthn` Level 2 section 6 has it.

use aws_lc_rs::{
    digest::{SHA256, digest},
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use axum::http::header;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{
    pages::{Browser, between},
    reset::actions_about,
};
use crate::support::{
    actors::{PASSWORD, email_of},
    app::{Reply, TestApp},
    totp,
};

/// The code of an authenticator so many steps from the app's time.
pub fn code(app: &TestApp, secret: &str, steps_ahead: i64) -> String {
    let now = tollgate::kernel::Clock::now(&*app.clock).as_secs() + 30 * steps_ahead;
    totp::code(secret, now.try_into().unwrap())
}

/// Sets an authenticator up: its key, and the recovery codes.
pub async fn enrol(app: &TestApp, browser: &mut Browser<'_>) -> (String, Vec<String>) {
    let token = browser.form_token("/account/factors").await;
    let act = |act: &'static str| [("form_token", token.clone()), ("act", act.to_owned())];
    let pairs = |fields: &[(&'static str, String)]| fields.to_vec();
    let offer = fill(browser, &pairs(&act("offer_totp"))).await.expect(200);
    let html = offer.body.as_str().unwrap().to_owned();
    assert!(html.contains("src=\"data:image/svg+xml;base64,"));
    let uri = between(&html, "id=\"totp_uri\" href=\"", "\"");
    let secret = between(&html, "id=\"totp_secret\">", "<").to_owned();
    assert!(uri.starts_with("otpauth://totp/") && uri.contains(&format!("secret={secret}")), "{uri}");
    let mut fields = pairs(&act("confirm_totp"));
    fields.push(("code", "000000".to_owned()));
    fill(browser, &fields).await.expect(401);
    fields[2].1 = code(app, &secret, 0);
    let page = fill(browser, &fields).await.expect(200);
    let codes =
        page.body.as_str().unwrap().split("<code>").skip(1).map(|rest| rest.split('<').next().unwrap().to_owned());
    (secret, codes.collect())
}

async fn fill(browser: &mut Browser<'_>, fields: &[(&'static str, String)]) -> Reply {
    let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    browser.fill("/account/factors", &fields).await
}

async fn login(app: &TestApp, otp: &str) -> Reply {
    let mut body = json!({"email": email_of("Acme"), "password": PASSWORD});
    if !otp.is_empty() {
        body["otp"] = otp.into();
    }
    app.anon().post("/v1/login", body).await
}

async fn signed_in(app: &TestApp) -> Browser<'_> {
    let mut browser = Browser::new(app);
    browser.sign_in(&email_of("Acme"), PASSWORD, "/account/factors").await;
    browser
}

#[tokio::test]
async fn an_authenticator_is_asked_for_after_the_password_and_each_code_counts_once() {
    let app = TestApp::new().await;
    app.tenant("Acme", "standard").await;
    let mut browser = signed_in(&app).await;
    let (secret, recovery) = enrol(&app, &mut browser).await;
    assert_eq!(recovery.len(), 10);

    let needed = login(&app, "").await.refuses(401, &[]);
    assert_eq!(needed.text("/type"), "/docs/problems#second-factor");
    let wrong = json!({"email": email_of("Acme"), "password": "wrong"});
    let refused = app.anon().post("/v1/login", wrong).await.refuses(401, &[]);
    assert_eq!(refused.text("/type"), "/docs/problems#wrong-credentials", "nothing is told before the password");
    // The code by which it was confirmed is used up.
    assert_eq!(
        login(&app, &code(&app, &secret, 0)).await.refuses(401, &[]).text("/type"),
        "/docs/problems#wrong-second-factor"
    );
    login(&app, &code(&app, &secret, 1)).await.expect(200);
    login(&app, &code(&app, &secret, 1)).await.refuses(401, &[]);
    app.clock.advance_secs(90);
    let spaced = code(&app, &secret, 0);
    let reply = login(&app, &format!("{} {}", &spaced[..3], &spaced[3..])).await.expect(200);
    let owner = crate::support::actors::Actor { app: &app, token: reply.text("/access_token") };
    let sessions = owner.get("/v1/me/sessions").await.expect(200);
    assert_eq!(sessions.body["items"][1]["amr"], json!(["pwd", "otp", "mfa"]));
}

#[tokio::test]
async fn of_many_uses_of_one_code_one_counts() {
    let app = TestApp::new().await;
    app.tenant("Acme", "standard").await;
    let (secret, recovery) = enrol(&app, &mut signed_in(&app).await).await;
    app.clock.advance_secs(60);
    for otp in [code(&app, &secret, 0), recovery[0].clone()] {
        // Fewer than what is slowed down.
        let replies = futures_util::future::join_all((0..5).map(|_| login(&app, &otp))).await;
        let right = replies.iter().filter(|reply| reply.status == 200).count();
        assert_eq!(right, 1, "{otp}");
        app.clock.advance_secs(901);
    }
}

#[tokio::test]
async fn a_browser_with_the_password_alone_is_not_signed_in() {
    let app = TestApp::new().await;
    app.tenant("Acme", "standard").await;
    let (secret, recovery) = enrol(&app, &mut signed_in(&app).await).await;
    app.clock.advance_secs(60);
    let mut browser = Browser::new(&app);
    let next = browser.sign_in(&email_of("Acme"), PASSWORD, "/account").await;
    assert_eq!(next, "/login/factor?return_to=%2Faccount");
    browser.open("/account").await.expect(303);
    let page = browser.open(&next).await.expect(200);
    assert!(page.body.as_str().unwrap().contains("autocomplete=\"one-time-code\""));
    let wrong = browser.fill("/login/factor", &[("code", "000000"), ("return_to", "/account")]).await.expect(401);
    assert!(wrong.body.as_str().unwrap().contains("value=\"/account\""));
    browser.open("/account").await.expect(303);
    let right = code(&app, &secret, 0);
    let done = browser.fill("/login/factor", &[("code", &right), ("return_to", "/account")]).await.expect(303);
    assert_eq!(done.headers[header::LOCATION], "/account");
    assert!(!browser.has("tollgate_pending"));
    browser.open("/account").await.expect(200);
    // The second step leads nowhere without the first, and does so once.
    Browser::new(&app).fill("/login/factor", &[("code", &right)]).await.expect(303);
    Browser::new(&app).open("/login/factor").await.expect(303);

    let mut other = Browser::new(&app);
    other.sign_in(&email_of("Acme"), PASSWORD, "").await;
    other.fill("/login/factor", &[("code", &recovery[3].to_uppercase())]).await.expect(303);
    other.open("/account").await.expect(200);
    let mut late = Browser::new(&app);
    late.sign_in(&email_of("Acme"), PASSWORD, "").await;
    app.clock.advance_secs(600);
    late.fill("/login/factor", &[("code", &code(&app, &secret, 0))]).await.expect(303);
    late.open("/account").await.expect(303);
}

#[tokio::test]
async fn guesses_of_a_code_are_slowed_down() {
    let app = TestApp::new().await;
    app.tenant("Acme", "standard").await;
    let (secret, _) = enrol(&app, &mut signed_in(&app).await).await;
    app.clock.advance_secs(901);
    // Many at once are not free.
    let guesses: Vec<_> = (0..30).map(|n| format!("{n:06}")).collect();
    let replies = futures_util::future::join_all(guesses.iter().map(|guess| login(&app, guess))).await;
    assert_eq!(replies.iter().filter(|reply| reply.status == 401).count(), 5);
    assert_eq!(replies.iter().filter(|reply| reply.status == 429).count(), 25);
    login(&app, &code(&app, &secret, 0)).await.refuses(429, &[]);
    app.clock.advance_secs(1);
    login(&app, &code(&app, &secret, 0)).await.expect(200);
}

#[tokio::test]
async fn factors_are_taken_away_by_their_owner_or_an_administrator() {
    let app = TestApp::new().await;
    let tenant = app.tenant("Acme", "standard").await;
    let owner = app.owner_of("Acme").await;
    let mut browser = signed_in(&app).await;
    enrol(&app, &mut browser).await;
    let token = browser.form_token("/account/factors").await;
    let act = |act: &str| [("form_token", token.clone()), ("act", act.to_owned())];
    fill(&mut browser, &act("renew_recovery_codes")).await.expect(200);
    fill(&mut browser, &act("remove_totp")).await.expect(200);
    login(&app, "").await.expect(200);

    app.clock.advance_secs(31);
    enrol(&app, &mut browser).await;
    let user = owner.get("/v1/me").await.text("/user/user_id");
    // By an owner of the tenant; by the platform's administrator.
    owner.delete(&format!("/v1/users/{user}/factors")).await.expect(204);
    login(&app, "").await.expect(200);
    app.clock.advance_secs(31);
    enrol(&app, &mut browser).await;
    let path = format!("/admin/v1/tenants/{tenant}/users/{user}/factors");
    app.admin().await.delete(&path).await.expect(204);
    login(&app, "").await.expect(200);
    let actions = actions_about(&app, &user).await;
    for action in ["factor.added", "factor.removed", "factor.recovery_codes_renewed", "factor.reset"] {
        assert!(actions.iter().any(|own| own == action), "{action}: {actions:?}");
    }
}

#[tokio::test]
async fn a_tenants_owner_cannot_reset_who_belongs_elsewhere_too() {
    let app = TestApp::new().await;
    app.tenant("Acme", "standard").await;
    let second = app.tenant("Globex", "standard").await;
    let body = json!({"email": email_of("Acme"), "role": "member", "allow_membership": true});
    let path = format!("/admin/v1/tenants/{second}/users");
    let user = app.admin().await.post(&path, body).await.expect(201).text("/user_id");
    app.owner_of("Globex").await.delete(&format!("/v1/users/{user}/factors")).await.refuses(409, &[]);
    app.admin().await.delete(&format!("{path}/{user}/factors")).await.expect(204);
}

#[tokio::test]
async fn whoever_proved_themselves_long_ago_does_it_again_before_changing_factors() {
    let app = TestApp::new().await;
    app.tenant("Acme", "standard").await;
    let mut browser = signed_in(&app).await;
    let token = browser.form_token("/account/factors").await;
    app.clock.advance_secs(901);
    let reply = browser.open("/account/factors").await.expect(303);
    assert_eq!(reply.headers[header::LOCATION], "/login?return_to=%2Faccount%2Ffactors");
    fill(&mut browser, &[("form_token", token), ("act", "offer_totp".into())]).await.expect(303);
    browser.open("/account").await.expect(200);
}

/// An authenticator in software.
pub struct Authenticator {
    key: EcdsaKeyPair,
    id: Vec<u8>,
    counter: u32,
    origin: &'static str,
}

impl Authenticator {
    pub fn new() -> Self {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        Self { key, id: b"authenticator-1".to_vec(), counter: 0, origin: "http://localhost:8080" }
    }

    fn client_data(&self, kind: &str, options: &Value) -> Vec<u8> {
        let challenge = &options["publicKey"]["challenge"];
        json!({"type": kind, "challenge": challenge, "origin": self.origin, "crossOrigin": false})
            .to_string()
            .into_bytes()
    }

    /// Section 6.1: hash of the party's id, flags, counter.
    fn data(&mut self, flags: u8) -> Vec<u8> {
        self.counter += 1;
        let mut data = digest(&SHA256, b"localhost").as_ref().to_vec();
        data.push(flags);
        data.extend(self.counter.to_be_bytes());
        data
    }

    fn make(&mut self, options: &Value) -> Value {
        let client_data = self.client_data("webauthn.create", options);
        // User present and verified, with a new key.
        let mut data = self.data(0x45);
        data.extend([0; 16]);
        data.extend(u16::try_from(self.id.len()).unwrap().to_be_bytes());
        data.extend(&self.id);
        let point = self.key.public_key().as_ref();
        // COSE (RFC 9053 section 7.1.1): EC2, ES256, P-256, x, y.
        data.extend([0xa5, 0x01, 0x02, 0x03, 0x26, 0x20, 0x01, 0x21, 0x58, 0x20]);
        data.extend(&point[1..33]);
        data.extend([0x22, 0x58, 0x20]);
        data.extend(&point[33..]);
        let mut object = vec![0xa3];
        object.extend(b"\x63fmt\x64none\x67attStmt\xa0\x68authData\x58");
        object.push(u8::try_from(data.len()).unwrap());
        object.extend(data);
        json!({
            "id": URL_SAFE_NO_PAD.encode(&self.id), "rawId": URL_SAFE_NO_PAD.encode(&self.id), "type": "public-key",
            "extensions": {},
            "response": {
                "attestationObject": URL_SAFE_NO_PAD.encode(object),
                "clientDataJSON": URL_SAFE_NO_PAD.encode(client_data),
            },
        })
    }

    pub fn sign(&mut self, options: &Value) -> Value {
        let client_data = self.client_data("webauthn.get", options);
        let data = self.data(0x05);
        let message = [&data[..], digest(&SHA256, &client_data).as_ref()].concat();
        let signature = self.key.sign(&SystemRandom::new(), &message).unwrap();
        json!({
            "id": URL_SAFE_NO_PAD.encode(&self.id), "rawId": URL_SAFE_NO_PAD.encode(&self.id), "type": "public-key",
            "extensions": {},
            "response": {
                "authenticatorData": URL_SAFE_NO_PAD.encode(data),
                "clientDataJSON": URL_SAFE_NO_PAD.encode(client_data),
                "signature": URL_SAFE_NO_PAD.encode(signature),
                "userHandle": null,
            },
        })
    }
}

const LOCALHOST: &str = "[server]\nissuer = \"http://localhost:8080\"";
pub const OPTIONS: &str = "/login/factor/passkey/options";
pub const FINISH: &str = "/login/factor/passkey?return_to=/account";

pub async fn enrol_passkey(browser: &mut Browser<'_>, authenticator: &mut Authenticator) -> Reply {
    let token = browser.form_token("/account/factors").await;
    let query = format!("form_token={token}&name=Laptop");
    let options = format!("/account/factors/passkey/options?{query}");
    let options = browser.post_json(&options, &Value::Null).await.expect(200).body;
    assert_eq!(options["publicKey"]["rp"]["id"], "localhost");
    browser.post_json(&format!("/account/factors/passkey?{query}"), &authenticator.make(&options)).await
}

#[tokio::test]
async fn a_passkey_is_a_second_factor_and_signs_each_challenge_once() {
    let app = TestApp::with(LOCALHOST).await;
    app.tenant("Acme", "standard").await;
    let mut authenticator = Authenticator::new();
    let mut browser = signed_in(&app).await;
    let made = enrol_passkey(&mut browser, &mut authenticator).await.expect(200);
    assert_eq!(made.body["recovery_codes"].as_array().unwrap().len(), 10);

    let needed = login(&app, "").await.refuses(401, &[]);
    assert_eq!(needed.text("/type"), "/docs/problems#second-factor");
    let mut browser = Browser::new(&app);
    let next = browser.sign_in(&email_of("Acme"), PASSWORD, "/account").await;
    let page = browser.open(&next).await.expect(200);
    assert!(page.body.as_str().unwrap().contains("src=\"/console/passkeys.js\""));
    assert!(page.headers["content-security-policy"].to_str().unwrap().contains("script-src 'self'"));
    let options = browser.post_json(OPTIONS, &Value::Null).await.expect(200).body;
    let answer = authenticator.sign(&options);
    let done = browser.post_json(FINISH, &answer).await.expect(200);
    assert_eq!(done.text("/location"), "/account");
    browser.open("/account").await.expect(200);

    // The same answer again, in another sign-in; one of another page; one of another key.
    let mut replay = Browser::new(&app);
    replay.sign_in(&email_of("Acme"), PASSWORD, "").await;
    replay.post_json(FINISH, &answer).await.refuses(401, &[]);
    replay.post_json(OPTIONS, &Value::Null).await.expect(200);
    replay.post_json(FINISH, &answer).await.refuses(401, &[]);
    let options = replay.post_json(OPTIONS, &Value::Null).await.expect(200).body;
    let mut phisher = Authenticator { origin: "http://localhost.evil.example", ..Authenticator::new() };
    phisher.counter = 100;
    replay.post_json(FINISH, &phisher.sign(&options)).await.refuses(401, &[]);
    let options = replay.post_json(OPTIONS, &Value::Null).await.expect(200).body;
    let mut stranger = Authenticator::new();
    stranger.counter = 100;
    replay.post_json(FINISH, &stranger.sign(&options)).await.refuses(401, &[]);
    replay.open("/account").await.expect(303);
    let options = replay.post_json(OPTIONS, &Value::Null).await.expect(200).body;
    replay.post_json(FINISH, &authenticator.sign(&options)).await.expect(200);
    replay.open("/account").await.expect(200);
}

#[tokio::test]
async fn a_passkey_is_added_by_its_owner_from_our_page_alone_and_removed() {
    let app = TestApp::with(LOCALHOST).await;
    app.tenant("Acme", "standard").await;
    let mut browser = signed_in(&app).await;
    let options = "/account/factors/passkey/options";
    Browser::new(&app).post_json(options, &Value::Null).await.refuses(404, &[]);
    browser.post_json(options, &Value::Null).await.refuses(404, &[]);
    browser.post_json("/account/factors/passkey", &json!({})).await.refuses(422, &["id"]);
    enrol_passkey(&mut browser, &mut Authenticator::new()).await.expect(200);
    // The authenticator that has it already is not asked to make another.
    let token = browser.form_token("/account/factors").await;
    let again = browser.post_json(&format!("{options}?form_token={token}"), &Value::Null).await.expect(200).body;
    assert_eq!(again["publicKey"]["excludeCredentials"].as_array().unwrap().len(), 1);
    let page = browser.open("/account/factors").await.expect(200);
    let html = page.body.as_str().unwrap();
    assert!(html.contains("Laptop, since"));
    let id = between(html.split_once("Laptop").unwrap().1, "name=\"passkey_id\" value=\"", "\"").to_owned();
    fill(&mut browser, &[("form_token", token), ("act", "remove_passkey".into()), ("passkey_id", id)])
        .await
        .expect(200);
    login(&app, "").await.expect(200);
}

#[tokio::test]
async fn an_id_token_says_by_what_somebody_signed_in() {
    let app = TestApp::new().await;
    app.tenant("Acme", "standard").await;
    let owner = app.owner_of("Acme").await;
    let client = json!({"client_name": "app", "redirect_uris": ["https://app.example/cb"],
        "id_token_signed_response_alg": "ES256", "scope": "openid"});
    let client = owner.post("/v1/clients", client).await.expect(201);
    let (id, secret) = (client.text("/client_id"), client.text("/client_secret"));
    let (key, _) = enrol(&app, &mut signed_in(&app).await).await;
    app.clock.advance_secs(60);
    let mut browser = Browser::new(&app);
    browser.sign_in(&email_of("Acme"), PASSWORD, "").await;
    browser.fill("/login/factor", &[("code", &code(&app, &key, 0))]).await.expect(303);
    let request = format!("/oauth2/authorize?response_type=code&client_id={id}&scope=openid");
    let request = format!("{request}&redirect_uri=https%3A%2F%2Fapp.example%2Fcb");
    let page = browser.open(&request).await.expect(200);
    let token = super::pages::value_of(&page, "form_token");
    let fields = [
        ("response_type", "code"),
        ("client_id", &*id),
        ("redirect_uri", "https://app.example/cb"),
        ("scope", "openid"),
        ("form_token", &*token),
        ("decision", "allow"),
    ];
    let answer = browser.fill("/oauth2/authorize", &fields).await.expect(303);
    let location = answer.headers[header::LOCATION].to_str().unwrap();
    let authorization = between(location, "code=", "&");
    let grant = [
        ("grant_type", "authorization_code"),
        ("code", authorization),
        ("redirect_uri", "https://app.example/cb"),
        ("client_id", &id),
        ("client_secret", &secret),
    ];
    let reply = super::oauth::token(&app, &grant).await.expect(200);
    let claims = reply.text("/id_token").split('.').nth(1).unwrap().to_owned();
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
    assert_eq!(claims["amr"], json!(["pwd", "otp", "mfa"]));
}
