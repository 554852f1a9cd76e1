//! The token endpoint (RFC 6749 section 3.2), a function for each grant.

use axum::{
    extract::{Request, State},
    http::HeaderMap,
    response::Response,
};

use super::{Params, TokenView, exchange_response, token_response};
use crate::{
    identity::{Client, Error, GrantType, Identity, LoginRequest, Origin},
    kernel::{Secret, TenantId},
    web::oauth::OAuthError,
};

/// What RFC 8693 section 3 calls an access token.
pub(super) const ACCESS_TOKEN_TYPE: &str = "urn:ietf:params:oauth:token-type:access_token";

/// A call that has a form.
struct Call<'a> {
    identity: &'a Identity,
    headers: &'a HeaderMap,
    params: &'a Params,
    origin: Origin,
}

impl Call<'_> {
    async fn client(&self) -> Result<Client, OAuthError> {
        Ok(self.identity.authenticate_client(&self.params.client(self.headers)?).await?)
    }

    fn required_secret(&self, name: &str) -> Result<Secret, OAuthError> {
        Ok(Secret::new(self.params.require(name)?.to_owned()))
    }

    async fn by_code(&self) -> Result<Response, OAuthError> {
        let client = self.client().await?;
        let code = self.required_secret("code")?;
        let (redirect_uri, verifier) = (self.params.text("redirect_uri"), self.params.text("code_verifier"));
        Ok(token_response(self.identity.redeem(&client, &code, redirect_uri, verifier).await?))
    }

    async fn by_credentials(&self) -> Result<Response, OAuthError> {
        let client = self.client().await?;
        let scope = self.params.scope()?;
        Ok(token_response(self.identity.client_credentials(&client, scope.as_ref()).await?))
    }

    async fn by_refresh(&self) -> Result<Response, OAuthError> {
        let token = self.required_secret("refresh_token")?;
        let client = self.params.caller(self.identity, self.headers).await?;
        let scope = self.params.scope()?;
        Ok(token_response(self.identity.refresh(client.as_ref(), &token, scope.as_ref()).await?))
    }

    /// RFC 6749 section 4.3.2, and which tenant.
    async fn by_password(&self) -> Result<Response, OAuthError> {
        let client = self.params.caller(self.identity, self.headers).await?;
        let password = self.required_secret("password")?;
        let email = self.params.require("username")?.parse().map_err(|_| Error::WrongCredentials)?;
        let tenant = self.params.text("tenant").map(str::parse).transpose();
        let tenant = tenant.map_err(|_| OAuthError::invalid_request("tenant is not an id"))?;
        let otp = self.params.secret("otp");
        let (login, scope) = (LoginRequest { email, password, tenant, otp }, self.params.scope()?);
        let set = self.identity.password_grant(client.as_ref(), login, scope.as_ref(), &self.origin).await?;
        Ok(token_response(set))
    }

    async fn by_device(&self) -> Result<Response, OAuthError> {
        let client = self.client().await?;
        let code = self.required_secret("device_code")?;
        Ok(token_response(self.identity.redeem_device(&client, &code).await?))
    }

    async fn by_exchange(&self) -> Result<Response, OAuthError> {
        let params = self.params;
        let client = params.caller(self.identity, self.headers).await?;
        let subject = self.required_secret("subject_token")?;
        let of_type = |name: &str| match params.text(name) {
            None | Some(ACCESS_TOKEN_TYPE) => Ok(()),
            Some(_) => Err(OAuthError::invalid_request(format!("{name} must be {ACCESS_TOKEN_TYPE}"))),
        };
        params.require("subject_token_type")?;
        of_type("subject_token_type")?;
        of_type("requested_token_type")?;
        if params.text("actor_token").is_some() || params.text("actor_token_type").is_some() {
            return Err(OAuthError::invalid_request("actor_token is not taken"));
        }
        for name in ["audience", "resource"] {
            if params.text(name).is_some_and(|target| target != self.identity.issuer()) {
                return Err(Error::InvalidTarget("tokens are for this server alone").into());
            }
        }
        let tenant: Result<TenantId, _> = params.require("tenant")?.parse();
        let tenant = tenant.map_err(|_| Error::InvalidTarget("tenant must be the id of a tenant"))?;
        let scope = params.scope()?;
        let set = self.identity.exchange(client.as_ref(), &subject, tenant, scope.as_ref()).await?;
        Ok(exchange_response(set))
    }
}

/// Gives tokens.
#[utoipa::path(post, path = "/oauth2/token", tag = "oauth", responses((status = 200, body = TokenView), (status = 400), (status = 401)),
    request_body(content_type = "application/x-www-form-urlencoded", content = String))]
pub(super) async fn token(
    State(identity): State<Identity>,
    origin: Origin,
    request: Request,
) -> Result<Response, OAuthError> {
    let (parts, params) = Params::of_form(request).await?;
    let call = Call { identity: &identity, headers: &parts.headers, params: &params, origin };
    if params.text("grant_type") == Some("password") && identity.allows_password_grant() {
        return call.by_password().await;
    }
    let grant: GrantType = params.require("grant_type")?.parse().map_err(|_| OAuthError::unsupported_grant_type())?;
    match grant {
        GrantType::AuthorizationCode => call.by_code().await,
        GrantType::ClientCredentials => call.by_credentials().await,
        GrantType::RefreshToken => call.by_refresh().await,
        GrantType::DeviceCode => call.by_device().await,
        GrantType::TokenExchange => call.by_exchange().await,
    }
}
