//! Queries about clients, browsers that are signed in, authorization codes and consents.

use serde::{Deserialize, Serialize};

use super::{
    StoreError, Tx,
    identity::{hash, proof, scope_set},
    value::Row,
};
use crate::{
    identity::{About, AuthorizationCode, Browser, Client, ClientMetadata, ScopeSet, SeenBrowser},
    kernel::{BrowserId, ClientId, PageRequest, TenantId, Timestamp, UserId},
};

/// A client's metadata as kept, with the names of RFC 7591.
#[derive(Serialize, Deserialize)]
struct MetadataRow {
    grant_types: Vec<String>,
    #[serde(default)]
    redirect_uris: Vec<String>,
    #[serde(default)]
    id_token_signed_response_alg: Option<String>,
    #[serde(default)]
    token_endpoint_auth_method: Option<String>,
    #[serde(default)]
    post_logout_redirect_uris: Vec<String>,
    #[serde(default)]
    backchannel_logout_uri: Option<String>,
    #[serde(default)]
    backchannel_logout_session_required: bool,
    #[serde(default)]
    require_pushed_authorization_requests: bool,
    #[serde(default)]
    default_max_age: Option<i64>,
    #[serde(default)]
    skip_consent: bool,
    #[serde(default)]
    about: AboutRow,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct AboutRow {
    client_uri: Option<String>,
    logo_uri: Option<String>,
    policy_uri: Option<String>,
    tos_uri: Option<String>,
    contacts: Vec<String>,
}

impl MetadataRow {
    fn of(metadata: &ClientMetadata) -> Self {
        let About { client_uri, logo_uri, policy_uri, tos_uri, contacts } = metadata.about.clone();
        Self {
            grant_types: metadata.grant_types.iter().map(|grant| grant.name().to_owned()).collect(),
            redirect_uris: metadata.redirect_uris.clone(),
            id_token_signed_response_alg: metadata.id_token_alg.map(|algorithm| algorithm.name().to_owned()),
            token_endpoint_auth_method: metadata.auth_method.map(|method| method.name().to_owned()),
            post_logout_redirect_uris: metadata.post_logout_redirect_uris.clone(),
            backchannel_logout_uri: metadata.backchannel_logout_uri.clone(),
            backchannel_logout_session_required: metadata.backchannel_logout_session_required,
            require_pushed_authorization_requests: metadata.require_pushed,
            default_max_age: metadata.default_max_age_s,
            skip_consent: metadata.skip_consent,
            about: AboutRow { client_uri, logo_uri, policy_uri, tos_uri, contacts },
        }
    }

    fn read(self) -> Result<ClientMetadata, StoreError> {
        let corrupt = |text: &str| StoreError::Corrupt(format!("metadata: {text:?}"));
        let AboutRow { client_uri, logo_uri, policy_uri, tos_uri, contacts } = self.about;
        Ok(ClientMetadata {
            grant_types: self
                .grant_types
                .iter()
                .map(|text| text.parse().map_err(|_| corrupt(text)))
                .collect::<Result<_, _>>()?,
            redirect_uris: self.redirect_uris,
            id_token_alg: self
                .id_token_signed_response_alg
                .map(|text| text.parse().map_err(|_| corrupt(&text)))
                .transpose()?,
            auth_method: self
                .token_endpoint_auth_method
                .map(|text| text.parse().map_err(|_| corrupt(&text)))
                .transpose()?,
            post_logout_redirect_uris: self.post_logout_redirect_uris,
            backchannel_logout_uri: self.backchannel_logout_uri,
            backchannel_logout_session_required: self.backchannel_logout_session_required,
            require_pushed: self.require_pushed_authorization_requests,
            default_max_age_s: self.default_max_age,
            skip_consent: self.skip_consent,
            about: About { client_uri, logo_uri, policy_uri, tos_uri, contacts },
        })
    }
}

pub(super) fn read_client(row: &Row) -> Result<Client, StoreError> {
    let secret: Option<Vec<u8>> = row.get("secret_hash")?;
    Ok(Client {
        id: row.get("client_id")?,
        tenant_id: row.get("tenant_id")?,
        name: row.get("client_name")?,
        scope: scope_set(row)?,
        secret_hash: if secret.is_some() { Some(hash(row, "secret_hash")?) } else { None },
        metadata: row.json::<MetadataRow>("metadata")?.read()?,
        created_at: row.get("created_at")?,
    })
}

/// Browsers of before they were seen were seen when they signed in.
fn read_browser(row: &Row) -> Result<SeenBrowser, StoreError> {
    let browser = Browser {
        id: row.get("browser_id")?,
        user_id: row.get("user_id")?,
        proof: proof(row)?,
        authenticated_at: row.get("authenticated_at")?,
        expires_at: row.get("expires_at")?,
    };
    let address: Option<String> = row.get("address")?;
    let seen_at = row.get::<Option<Timestamp>>("seen_at")?.unwrap_or(browser.authenticated_at);
    Ok(SeenBrowser { browser, address: address.and_then(|text| text.parse().ok()), seen_at })
}

impl Tx {
    /// Adds a client.
    pub async fn client_insert(&mut self, client: &Client) -> Result<(), StoreError> {
        if let Some(tenant) = client.tenant_id {
            self.must_cover(tenant)?;
        }
        let metadata = MetadataRow::of(&client.metadata);
        let metadata =
            serde_json::to_string(&metadata).map_err(|error| StoreError::Corrupt(format!("metadata: {error}")))?;
        self.query(
            "INSERT INTO clients (client_id, tenant_id, client_name, scope, secret_hash, metadata, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(client.id)
        .bind(client.tenant_id)
        .bind(client.name.as_str())
        .bind(client.scope.to_string())
        .bind(client.secret_hash.map(|hash| hash.to_vec()))
        .bind(metadata.as_str())
        .bind(client.created_at)
        .execute()
        .await?;
        Ok(())
    }

    /// Notes where in browsers a client lives.
    pub async fn client_origin_insert(&mut self, id: ClientId, origin: &str) -> Result<(), StoreError> {
        self.query("INSERT INTO client_origins (origin, client_id) VALUES ($1, $2) ON CONFLICT DO NOTHING")
            .bind(origin)
            .bind(id)
            .execute()
            .await?;
        Ok(())
    }

    /// Whether any client lives at an origin. Not held to a scope: who asks is nobody yet.
    pub async fn origin_is_known(&mut self, origin: &str) -> Result<bool, StoreError> {
        let row = self
            .query(
                "SELECT c.client_id FROM client_origins o JOIN clients c ON c.client_id = o.client_id
                 WHERE o.origin = $1 AND c.deleted_at IS NULL LIMIT 1",
            )
            .bind(origin)
            .row()
            .await?;
        Ok(row.is_some())
    }

    /// A client.
    pub async fn client(&mut self, id: ClientId) -> Result<Option<Client>, StoreError> {
        let scope = self.tenant();
        self.query(
            "SELECT * FROM clients WHERE client_id = $1 AND deleted_at IS NULL AND ($2 IS NULL OR tenant_id = $2)",
        )
        .bind(id)
        .bind(scope)
        .map_one(read_client)
        .await
    }

    /// A page of machine clients, of one tenant or of all.
    pub async fn clients(&mut self, tenant: Option<TenantId>, page: PageRequest) -> Result<Vec<Client>, StoreError> {
        let scope = self.tenant();
        self.query(
            "SELECT * FROM clients
             WHERE client_id > $1 AND deleted_at IS NULL AND ($2 IS NULL OR tenant_id = $2) AND ($3 IS NULL OR tenant_id = $3)
             ORDER BY client_id LIMIT $4",
        )
        .bind(page.after())
        .bind(tenant)
        .bind(scope)
        .bind(page.fetch_limit())
        .map(read_client)
        .await
    }

    /// Deletes a client; `false` when there is none. Its row stays until [`Self::clients_forget`], with nothing that opens
    /// anything.
    pub async fn client_delete(&mut self, id: ClientId, now: Timestamp) -> Result<bool, StoreError> {
        let scope = self.tenant();
        self.query(
            "UPDATE clients SET deleted_at = $3, secret_hash = NULL
             WHERE client_id = $1 AND deleted_at IS NULL AND ($2 IS NULL OR tenant_id = $2)",
        )
        .bind(id)
        .bind(scope)
        .bind(now)
        .changed_one()
        .await
    }

    /// Deletes all clients of a tenant.
    pub async fn clients_delete_of_tenant(&mut self, tenant: TenantId, now: Timestamp) -> Result<u64, StoreError> {
        self.must_cover(tenant)?;
        self.query("UPDATE clients SET deleted_at = $2, secret_hash = NULL WHERE tenant_id = $1 AND deleted_at IS NULL")
            .bind(tenant)
            .bind(now)
            .execute()
            .await
    }

    /// Forgets deleted clients that have heard of the ends of their sessions, or will not any more.
    pub async fn clients_forget(&mut self) -> Result<u64, StoreError> {
        let forgotten = self
            .query(
                "DELETE FROM clients WHERE deleted_at IS NOT NULL AND NOT EXISTS
                 (SELECT 1 FROM sessions s WHERE s.client_id = clients.client_id AND s.logout_due_at IS NOT NULL)",
            )
            .execute()
            .await?;
        if forgotten > 0 {
            for sql in [
                "DELETE FROM client_origins WHERE client_id NOT IN (SELECT client_id FROM clients)",
                "DELETE FROM consents WHERE client_id NOT IN (SELECT client_id FROM clients)",
            ] {
                self.query(sql).execute().await?;
            }
        }
        Ok(forgotten)
    }

    /// Notes that a browser is signed in.
    pub async fn browser_insert(&mut self, secret_hash: &[u8; 32], seen: &SeenBrowser) -> Result<(), StoreError> {
        let SeenBrowser { browser, address, seen_at } = seen;
        self.query(
            "INSERT INTO browsers (secret_hash, browser_id, user_id, amr, authenticated_at, expires_at, address, seen_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(&secret_hash[..])
        .bind(browser.id)
        .bind(browser.user_id)
        .bind(browser.proof.name())
        .bind(browser.authenticated_at)
        .bind(browser.expires_at)
        .bind(address.map(|address| address.to_string()))
        .bind(*seen_at)
        .execute()
        .await?;
        Ok(())
    }

    /// Who is signed in with a browser.
    pub async fn browser(&mut self, secret_hash: &[u8; 32]) -> Result<Option<SeenBrowser>, StoreError> {
        self.query("SELECT * FROM browsers WHERE secret_hash = $1 AND browser_id IS NOT NULL")
            .bind(&secret_hash[..])
            .map_one(read_browser)
            .await
    }

    /// The browsers that a person is signed in with, the oldest first.
    pub async fn browsers_of_user(&mut self, user: UserId) -> Result<Vec<SeenBrowser>, StoreError> {
        self.query("SELECT * FROM browsers WHERE user_id = $1 AND browser_id IS NOT NULL ORDER BY browser_id")
            .bind(user)
            .map(read_browser)
            .await
    }

    /// Notes that a browser is used.
    pub async fn browser_seen(&mut self, id: BrowserId, now: Timestamp) -> Result<(), StoreError> {
        self.query("UPDATE browsers SET seen_at = $2 WHERE browser_id = $1").bind(id).bind(now).execute().await?;
        Ok(())
    }

    /// Signs a person's browsers out, but for one.
    pub async fn browsers_delete_but(&mut self, user: UserId, kept: Option<&[u8; 32]>) -> Result<(), StoreError> {
        self.allowances_delete(user).await?;
        self.query("DELETE FROM browsers WHERE user_id = $1 AND ($2 IS NULL OR secret_hash <> $2)")
            .bind(user)
            .bind(kept.map(|hash| hash.to_vec()))
            .execute()
            .await?;
        self.query("DELETE FROM pending_browsers WHERE user_id = $1").bind(user).execute().await?;
        Ok(())
    }

    /// Takes back what a person allowed but nobody has redeemed yet: codes, and devices that were allowed and have not asked
    /// since, which are told no. Sessions are looked for after this: then those that come of it meanwhile are found.
    pub(super) async fn allowances_delete(&mut self, user: UserId) -> Result<(), StoreError> {
        self.query("DELETE FROM authorization_codes WHERE user_id = $1 AND used_at IS NULL")
            .bind(user)
            .execute()
            .await?;
        self.query("UPDATE device_grants SET status = 'denied' WHERE user_id = $1 AND status = 'allowed'")
            .bind(user)
            .execute()
            .await?;
        Ok(())
    }

    /// Whether a browser is signed in; it stays so until this transaction is over.
    pub async fn browser_lock(&mut self, id: BrowserId) -> Result<bool, StoreError> {
        self.query("UPDATE browsers SET browser_id = browser_id WHERE browser_id = $1").bind(id).changed_one().await
    }

    /// What a client is called.
    pub async fn client_name(&mut self, id: ClientId) -> Result<Option<String>, StoreError> {
        // A client that is every tenant's is nobody's secret.
        self.query("SELECT client_name FROM clients WHERE client_id = $1 AND deleted_at IS NULL")
            .bind(id)
            .map_one(|row| row.get("client_name"))
            .await
    }

    /// Signs a browser out.
    pub async fn browser_delete(&mut self, id: BrowserId) -> Result<(), StoreError> {
        self.query("DELETE FROM browsers WHERE browser_id = $1").bind(id).execute().await?;
        Ok(())
    }

    /// A browser's secret opens nothing any more; `false` when it did not before, because somebody else was faster.
    pub async fn browser_leave(&mut self, secret_hash: &[u8; 32]) -> Result<bool, StoreError> {
        self.query("DELETE FROM browsers WHERE secret_hash = $1").bind(&secret_hash[..]).changed_one().await
    }

    /// Forgets browsers and codes that are over before an instant.
    pub async fn sign_ins_forget(&mut self, before: Timestamp) -> Result<(), StoreError> {
        self.query("DELETE FROM browsers WHERE expires_at < $1").bind(before).execute().await?;
        self.query("DELETE FROM authorization_codes WHERE expires_at < $1").bind(before).execute().await?;
        self.query("DELETE FROM pending_browsers WHERE expires_at < $1").bind(before).execute().await?;
        self.query("DELETE FROM passkey_challenges WHERE expires_at < $1").bind(before).execute().await?;
        self.query("DELETE FROM reset_links WHERE expires_at < $1").bind(before).execute().await?;
        self.query("DELETE FROM sign_ups WHERE expires_at < $1").bind(before).execute().await?;
        Ok(())
    }

    /// Adds an authorization code.
    pub async fn code_insert(&mut self, code: &AuthorizationCode) -> Result<(), StoreError> {
        self.query(
            "INSERT INTO authorization_codes (code_hash, client_id, session_id, user_id, tenant_id, redirect_uri,
                 code_challenge, nonce, scope, authenticated_at, amr, expires_at, browser_id, redirect_uri_given)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
        )
        .bind(&code.hash[..])
        .bind(code.client_id)
        .bind(code.session_id)
        .bind(code.user_id)
        .bind(code.tenant_id)
        .bind(code.redirect_uri.as_str())
        .bind(code.code_challenge.as_deref())
        .bind(code.nonce.as_deref())
        .bind(code.scope.to_string())
        .bind(code.authenticated_at)
        .bind(code.proof.name())
        .bind(code.expires_at)
        .bind(code.browser_id)
        .bind(code.redirect_uri_given)
        .execute()
        .await?;
        Ok(())
    }

    /// Uses an authorization code up; `false` when it is not known or was used before.
    pub async fn code_use(&mut self, code_hash: &[u8; 32], now: Timestamp) -> Result<bool, StoreError> {
        self.query("UPDATE authorization_codes SET used_at = $2 WHERE code_hash = $1 AND used_at IS NULL")
            .bind(&code_hash[..])
            .bind(now)
            .changed_one()
            .await
    }

    /// An authorization code.
    pub async fn code(&mut self, code_hash: &[u8; 32]) -> Result<Option<AuthorizationCode>, StoreError> {
        self.query("SELECT * FROM authorization_codes WHERE code_hash = $1")
            .bind(&code_hash[..])
            .map_one(|row| {
                Ok(AuthorizationCode {
                    hash: hash(row, "code_hash")?,
                    client_id: row.get("client_id")?,
                    session_id: row.get("session_id")?,
                    user_id: row.get("user_id")?,
                    tenant_id: row.get("tenant_id")?,
                    browser_id: row.get("browser_id")?,
                    redirect_uri: row.get("redirect_uri")?,
                    redirect_uri_given: row.get::<Option<bool>>("redirect_uri_given")?.unwrap_or(true),
                    code_challenge: row.get("code_challenge")?,
                    nonce: row.get("nonce")?,
                    scope: scope_set(row)?,
                    authenticated_at: row.get("authenticated_at")?,
                    proof: proof(row)?,
                    expires_at: row.get("expires_at")?,
                    used_at: row.get("used_at")?,
                })
            })
            .await
    }

    /// What a person has allowed a client in a tenant.
    pub async fn consent(
        &mut self,
        user: UserId,
        client: ClientId,
        tenant: TenantId,
    ) -> Result<Option<ScopeSet>, StoreError> {
        self.query("SELECT scope FROM consents WHERE user_id = $1 AND client_id = $2 AND tenant_id = $3")
            .bind(user)
            .bind(client)
            .bind(tenant)
            .map_one(scope_set)
            .await
    }

    /// Notes what a person allows a client in a tenant.
    pub async fn consent_put(
        &mut self,
        user: UserId,
        client: ClientId,
        tenant: TenantId,
        scope: &ScopeSet,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.query(
            "INSERT INTO consents (user_id, client_id, tenant_id, scope, granted_at) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (user_id, client_id, tenant_id) DO UPDATE SET
                scope = excluded.scope, granted_at = excluded.granted_at",
        )
        .bind(user)
        .bind(client)
        .bind(tenant)
        .bind(scope.to_string())
        .bind(now)
        .execute()
        .await?;
        Ok(())
    }
}
