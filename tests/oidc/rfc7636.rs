//! RFC 7636, Proof Key for Code Exchange.

use crate::{
    browser::{Browser, location},
    relying_party::{Client, VERIFIER, acme, challenge_of, error_in, owner, refused},
};

/// "code-verifier = 43*128unreserved"
#[tokio::test]
async fn rfc7636_4_1_a_verifier_is_43_to_128_unreserved_characters() {
    let app = acme().await;
    let client = Client::public(&app).await;
    let browser = Browser::signed_in(&app, &owner()).await;
    for (verifier, good) in [
        ("a".repeat(42), false),
        ("a".repeat(43), true),
        ("-._~".repeat(32), true),
        ("a".repeat(129), false),
        ("a ".repeat(30), false),
        (format!("{}+/=", "a".repeat(43)), false),
    ] {
        let code = client.code(&browser, &[("code_challenge", &challenge_of(&verifier))]).await;
        let reply = client.redeem_with(&code, &[("code_verifier", &verifier)]).await;
        if good { drop(reply.expect(200)) } else { refused(&reply, 400, "invalid_grant") }
    }
}

/// "code_challenge_method [...] defaults to "plain" if not present": and plain is refused.
#[tokio::test]
async fn rfc7636_4_3_plain_is_refused_said_or_unsaid() {
    let app = acme().await;
    for client in [Client::web(&app).await, Client::public(&app).await] {
        for method in ["", "plain", "s256", "S512"] {
            let target = location(&Browser::new(&app).get(&client.request(&[("code_challenge_method", method)])).await);
            assert_eq!(error_in(&target), "invalid_request", "{method}");
        }
    }
}

/// "If the server requires Proof Key for Code Exchange by OAuth public clients and the client does not send the
/// "code_challenge" in the request, the authorization endpoint MUST return the authorization error response with the "error"
/// value set to "invalid_request"."
#[tokio::test]
async fn rfc7636_4_4_1_a_public_client_must_send_a_challenge() {
    let app = acme().await;
    let client = Client::public(&app).await;
    let none = [("code_challenge", ""), ("code_challenge_method", "")];
    assert_eq!(error_in(&location(&Browser::new(&app).get(&client.request(&none)).await)), "invalid_request");
    for bad in ["short", &"a".repeat(44), &"=".repeat(43)] {
        let target = location(&Browser::new(&app).get(&client.request(&[("code_challenge", bad)])).await);
        assert_eq!(error_in(&target), "invalid_request", "{bad}");
    }
}

/// "If the values are not equal, an error response indicating "invalid_grant" as described in Section 5.2 of RFC6749 MUST be
/// returned."
#[tokio::test]
async fn rfc7636_4_6_only_the_right_verifier_redeems_a_code() {
    let app = acme().await;
    for client in [Client::web(&app).await, Client::public(&app).await] {
        let browser = Browser::signed_in(&app, &owner()).await;
        let code = client.code(&browser, &[]).await;
        for wrong in ["", "a-verifier-of-somebody-elses-which-is-long-enough", &challenge_of(VERIFIER)] {
            refused(&client.redeem_with(&code, &[("code_verifier", wrong)]).await, 400, "invalid_grant");
        }
        client.redeem(&code).await.expect(200);
    }
}
