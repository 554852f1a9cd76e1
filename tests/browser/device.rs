//! A device without a keyboard, and its person at a browser (RFC 8628).

use serde_json::json;

use super::scene::Scene;

const GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

#[test]
fn a_person_connects_a_device_by_the_code_that_it_shows() {
    let Some(scene) = Scene::shared() else { return };
    let (tab, email) = (scene.tab(), scene.customer("Watching"));
    let more = json!({"token_endpoint_auth_method": "none", "grant_types": [GRANT], "redirect_uris": []});
    let client = scene.client("Television", "", &more);
    let id = client["client_id"].as_str().unwrap();
    let begun = scene.server.form("/oauth2/device_authorization", &format!("client_id={id}&scope=openid")).json();
    let text = |name: &str| begun[name].as_str().unwrap().to_owned();

    tab.open(&text("verification_uri")).shows("Sign in");
    tab.signs_in(&email, "/device").shows("Connect a device");
    tab.fill("Code", "BCDF-GHJK").press("Continue").shows("Connect a device").says("alert", "This code is not known");
    tab.open(&text("verification_uri_complete")).shows("Connect a device").press("Continue").shows("Allow access?");
    assert!(tab.text().contains("Television") && tab.text().contains(&text("user_code")));
    assert_eq!(tab.tab_stops(3), ["For", "Allow", "Cancel"]);
    tab.press("Allow").shows("Device connected");

    let form = format!("grant_type={GRANT}&client_id={id}&device_code={}", text("device_code"));
    let tokens = scene.server.form("/oauth2/token", &form);
    assert_eq!(tokens.status, 200, "{}", tokens.body);
}
