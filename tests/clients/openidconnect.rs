//! The crate openidconnect: code with PKCE, refresh, client credentials, introspection, revocation, logout.

use std::{cell::RefCell, collections::BTreeMap};

use openidconnect::{
    AccessTokenHash, AuthType, AuthorizationCode, ClientId, ClientSecret, CsrfToken, EmptyAdditionalClaims,
    HttpRequest, HttpResponse, IntrospectionUrl, IssuerUrl, LogoutRequest, Nonce, OAuth2TokenResponse as _,
    PkceCodeChallenge, PostLogoutRedirectUrl, ProviderMetadataWithLogout, RedirectUrl, RevocationUrl, Scope,
    StandardErrorResponse, TokenIntrospectionResponse as _, TokenResponse as _, UserInfoClaims,
    core::{
        CoreAuthenticationFlow, CoreClient, CoreErrorResponseType, CoreGenderClaim, CoreRevocableToken,
        CoreUserInfoClaims,
    },
};

use super::{
    oidc::{CALLBACK, Registered, SIGNED_OUT},
    server::Server,
};
use crate::support::actors::{PASSWORD, email_of};

/// The least of an HTTP client and of a browser: it keeps cookies, follows redirections, and fills forms in.
struct Web<'a> {
    server: &'a Server,
    cookies: RefCell<BTreeMap<String, String>>,
}

impl Web<'_> {
    /// What the crate sends. It wants https of some endpoints whatever the host; loopback has none.
    #[expect(clippy::unnecessary_wraps, reason = "the crate takes clients that may fail")]
    fn send(&self, request: HttpRequest) -> Result<HttpResponse, std::io::Error> {
        let (parts, body) = request.into_parts();
        let line =
            |(name, value): (&http::HeaderName, &http::HeaderValue)| format!("{name}: {}\r\n", value.to_str().unwrap());
        let headers = parts.headers.iter().map(line).collect::<Vec<_>>().concat();
        let path = parts.uri.path_and_query().unwrap().as_str();
        Ok(self.exchange(parts.method.as_str(), path, &headers, &body))
    }

    fn exchange(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> HttpResponse {
        let address = &self.server.address;
        let head = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n{headers}");
        let head = format!("{head}content-length: {}\r\n\r\n", body.len());
        let answer = self.server.raw(&[head.as_bytes(), body].concat());
        let split = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(answer[..split].to_vec()).unwrap();
        let mut response = http::Response::builder().status(head.split(' ').nth(1).unwrap());
        for (name, value) in head.lines().skip(1).filter_map(|line| line.split_once(": ")) {
            response = response.header(name, value);
        }
        response.body(answer[split + 4..].to_vec()).unwrap()
    }

    /// A page, or where an application would be called.
    fn open(&self, method: &str, path: &str, form: &str) -> Result<String, url::Url> {
        let base = url::Url::parse(&format!("http://{}", self.server.address)).unwrap();
        let (mut method, mut path, mut form) = (method.to_owned(), path.to_owned(), form.to_owned());
        loop {
            let cookies: Vec<_> = self.cookies.borrow().iter().map(|(name, value)| format!("{name}={value}")).collect();
            let headers =
                format!("cookie: {}\r\ncontent-type: application/x-www-form-urlencoded\r\n", cookies.join("; "));
            let answer = self.exchange(&method, &path, &headers, form.as_bytes());
            for line in answer.headers().get_all("set-cookie") {
                let (name, value) = line.to_str().unwrap().split(';').next().unwrap().split_once('=').unwrap();
                self.cookies.borrow_mut().insert(name.to_owned(), value.to_owned());
            }
            let Some(location) = answer.headers().get("location") else {
                return Ok(String::from_utf8(answer.into_body()).unwrap());
            };
            let target = base.join(location.to_str().unwrap()).unwrap();
            if target.port() != base.port() {
                return Err(target);
            }
            let query = target.query().map(|query| format!("?{query}")).unwrap_or_default();
            (method, path, form) = ("GET".into(), format!("{}{query}", target.path()), String::new());
        }
    }

    /// Signs in and allows what is asked; where the application is called.
    fn allow(&self, start: &url::Url) -> url::Url {
        let mut page = self.open("GET", &format!("{}?{}", start.path(), start.query().unwrap()), "");
        loop {
            let html = match page {
                Ok(html) => html,
                Err(back) => return back,
            };
            let mut form = url::form_urlencoded::Serializer::new(String::new());
            for input in html.split("<input type=\"hidden\" ").skip(1) {
                let attribute = |name: &str| input.split(&format!("{name}=\"")).nth(1)?.split('"').next();
                let value = attribute("value").unwrap().replace("&quot;", "\"").replace("&lt;", "<");
                form.append_pair(attribute("name").unwrap(), &value.replace("&gt;", ">").replace("&amp;", "&"));
            }
            if html.contains("name=\"password\"") {
                form.append_pair("email", &email_of("Acme")).append_pair("password", PASSWORD);
            } else {
                form.append_pair("decision", "allow");
            }
            let action = html.split(" action=\"").nth(1).unwrap_or_else(|| panic!("no form in {html}"));
            page = self.open("POST", action.split('"').next().unwrap(), &form.finish());
        }
    }
}

#[test]
fn the_crate_openidconnect_works_with_each_algorithm() {
    for algorithm in ["ES256", "RS256", "EdDSA"] {
        let registered = Registered::with(algorithm);
        confidential(&registered);
        public(&registered);
        machine(&registered);
    }
}

/// A client that keeps a secret: everything.
fn confidential(registered: &Registered) {
    let web = Web { server: &registered.scene.server, cookies: RefCell::default() };
    let send = |request| web.send(request);
    let issuer = IssuerUrl::new(registered.issuer()).unwrap();
    let metadata = ProviderMetadataWithLogout::discover(&issuer, &send).unwrap();
    let endpoint = |path: &str| format!("https://{}{path}", web.server.address);
    let end_session = metadata.additional_metadata().end_session_endpoint.clone().unwrap();
    let secret = Some(ClientSecret::new(registered.confidential.1.clone()));
    let client = CoreClient::from_provider_metadata(metadata, ClientId::new(registered.confidential.0.clone()), secret)
        .set_redirect_uri(RedirectUrl::new(CALLBACK.to_owned()).unwrap())
        .set_introspection_url(IntrospectionUrl::new(endpoint("/oauth2/introspect")).unwrap())
        .set_revocation_url(RevocationUrl::new(endpoint("/oauth2/revoke")).unwrap());
    let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
    let (url, state, nonce) = client
        .authorize_url(CoreAuthenticationFlow::AuthorizationCode, CsrfToken::new_random, Nonce::new_random)
        .add_scopes(["email", "offline_access", "usage:read"].map(|value| Scope::new(value.to_owned())))
        .set_pkce_challenge(challenge)
        .url();
    let back: BTreeMap<_, _> = web.allow(&url).query_pairs().into_owned().collect();
    assert_eq!(&back["state"], state.secret());
    let code = AuthorizationCode::new(back["code"].clone());
    let first = client.exchange_code(code).unwrap().set_pkce_verifier(verifier).request(&send).unwrap();
    let id_token = first.id_token().unwrap();
    let id_verifier = client.id_token_verifier();
    let claims = id_token.claims(&id_verifier, &nonce).unwrap();
    let hash = AccessTokenHash::from_token(
        first.access_token(),
        id_token.signing_alg().unwrap(),
        id_token.signing_key(&id_verifier).unwrap(),
    );
    assert_eq!(claims.access_token_hash(), Some(&hash.unwrap()));
    let user: CoreUserInfoClaims =
        client.user_info(first.access_token().clone(), Some(claims.subject().clone())).unwrap().request(&send).unwrap();
    assert_eq!(user.email().unwrap().as_str(), email_of("Acme"));
    let _: &UserInfoClaims<EmptyAdditionalClaims, CoreGenderClaim> = &user;

    let refresh_token = first.refresh_token().unwrap();
    let second = client.exchange_refresh_token(refresh_token).unwrap().request(&send).unwrap();
    assert!(client.introspect(second.access_token()).request(&send).unwrap().active());
    let revoked = CoreRevocableToken::from(second.refresh_token().unwrap().clone());
    client.revoke_token(revoked).unwrap().request(&send).unwrap();
    assert!(!client.introspect(second.access_token()).request(&send).unwrap().active());
    let again = client.exchange_refresh_token(second.refresh_token().unwrap()).unwrap().request(&send);
    assert!(again.is_err());

    let out = LogoutRequest::from(end_session)
        .set_id_token_hint(id_token)
        .set_post_logout_redirect_uri(PostLogoutRedirectUrl::new(SIGNED_OUT.to_owned()).unwrap())
        .set_state(CsrfToken::new("bye".to_owned()))
        .http_get_url();
    let left = web.open("GET", &format!("{}?{}", out.path(), out.query().unwrap()), "").unwrap_err();
    assert_eq!(left.as_str(), format!("{SIGNED_OUT}?state=bye"));
}

/// A client without a secret: a code, and no other way.
fn public(registered: &Registered) {
    let web = Web { server: &registered.scene.server, cookies: RefCell::default() };
    let send = |request| web.send(request);
    let metadata = ProviderMetadataWithLogout::discover(&IssuerUrl::new(registered.issuer()).unwrap(), &send).unwrap();
    let client = CoreClient::from_provider_metadata(metadata, ClientId::new(registered.public.clone()), None)
        .set_redirect_uri(RedirectUrl::new(CALLBACK.to_owned()).unwrap());
    let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
    let (url, _, nonce) = client
        .authorize_url(CoreAuthenticationFlow::AuthorizationCode, CsrfToken::new_random, Nonce::new_random)
        .set_pkce_challenge(challenge)
        .url();
    let back: BTreeMap<_, _> = web.allow(&url).query_pairs().into_owned().collect();
    let code = AuthorizationCode::new(back["code"].clone());
    let tokens = client.exchange_code(code).unwrap().set_pkce_verifier(verifier).request(&send).unwrap();
    tokens.id_token().unwrap().claims(&client.id_token_verifier(), &nonce).unwrap();
    assert!(tokens.refresh_token().is_none(), "it did not ask for offline_access");
}

/// A machine.
fn machine(registered: &Registered) {
    let web = Web { server: &registered.scene.server, cookies: RefCell::default() };
    let send = |request| web.send(request);
    let token = |secret: &str| {
        let metadata =
            ProviderMetadataWithLogout::discover(&IssuerUrl::new(registered.issuer()).unwrap(), &send).unwrap();
        let id = ClientId::new(registered.robot.0.clone());
        let client = CoreClient::from_provider_metadata(metadata, id, Some(ClientSecret::new(secret.to_owned())))
            .set_auth_type(AuthType::RequestBody);
        client.exchange_client_credentials().unwrap().request(&send)
    };
    token(&registered.robot.1).unwrap();
    let Err(openidconnect::RequestTokenError::ServerResponse(error)) = token("wrong") else { panic!("it was let in") };
    let _: &StandardErrorResponse<CoreErrorResponseType> = &error;
    assert_eq!(*error.error(), CoreErrorResponseType::InvalidClient);
}
