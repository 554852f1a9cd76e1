//! RFC 8414, OAuth 2.0 Authorization Server Metadata.

use serde_json::{Value, json};

use crate::{relying_party::acme, support::app::TestApp};

const PATH: &str = "/.well-known/oauth-authorization-server";

/// "A successful response MUST use the 200 OK HTTP status code and return a JSON object using the "application/json" content
/// type"; the same as OpenID Connect's.
#[tokio::test]
async fn rfc8414_3_2_both_documents_are_one() {
    let app = acme().await;
    let reply = app.anon().get(PATH).await.expect(200);
    assert_eq!(reply.headers["content-type"], "application/json");
    assert_eq!(reply.body, app.anon().get("/.well-known/openid-configuration").await.expect(200).body);
}

/// "The "issuer" value returned MUST be identical to the authorization server's issuer identifier value".
#[tokio::test]
async fn rfc8414_3_3_every_address_is_below_the_issuer() {
    let app = TestApp::with("[server]\nissuer = \"https://id.example.com\"").await;
    let metadata = app.anon().get(PATH).await.expect(200).body;
    assert_eq!(metadata["issuer"], "https://id.example.com");
    for (name, value) in metadata.as_object().unwrap() {
        if name.ends_with("_endpoint") || name.ends_with("_uri") {
            assert!(value.as_str().unwrap().starts_with("https://id.example.com/"), "{name}: {value}");
        }
    }
}

/// "Claims that return multiple values are represented as JSON arrays. Claims with zero elements MUST be omitted from the
/// response."
#[tokio::test]
async fn rfc8414_3_2_nothing_is_empty() {
    let app = acme().await;
    let metadata = app.anon().get(PATH).await.expect(200).body;
    for (name, value) in metadata.as_object().unwrap() {
        assert!(!value.is_null() && value.as_array().is_none_or(|list| !list.is_empty()), "{name}");
        let list = name.ends_with("_supported") && !value.is_boolean();
        assert!(!list || value.is_array(), "{name}: {value}");
    }
}

/// Section 2: each member has the meaning of the registry, and what is not offered is not there.
#[tokio::test]
async fn rfc8414_2_what_is_not_offered_is_not_named() {
    let app = acme().await;
    let metadata = app.anon().get(PATH).await.expect(200).body;
    for absent in [
        "check_session_iframe",
        "frontchannel_logout_supported",
        "acr_values_supported",
        "ui_locales_supported",
        "display_values_supported",
        "userinfo_signing_alg_values_supported",
        "request_object_signing_alg_values_supported",
        "backchannel_authentication_endpoint",
        "dpop_signing_alg_values_supported",
        "tls_client_certificate_bound_access_tokens",
        "token_endpoint_auth_signing_alg_values_supported",
        "authorization_details_types_supported",
    ] {
        assert!(metadata.get(absent).is_none(), "{absent}");
    }
    for (name, value) in [
        ("request_parameter_supported", false),
        ("request_uri_parameter_supported", false),
        ("claims_parameter_supported", false),
        ("require_pushed_authorization_requests", false),
        ("authorization_response_iss_parameter_supported", true),
        ("backchannel_logout_supported", true),
        ("backchannel_logout_session_supported", true),
    ] {
        assert_eq!(metadata[name], Value::Bool(value), "{name}");
    }
    assert_eq!(
        metadata["introspection_endpoint_auth_methods_supported"],
        json!(["client_secret_basic", "client_secret_post"])
    );
}
