//! An application asks, and a person decides.

use serde_json::json;

use super::{
    party::{HEADING, Party, VERIFIER, id_claims, param},
    scene::Scene,
    support::actors::PASSWORD,
};

#[test]
fn a_person_who_was_sent_by_an_application_signs_in_allows_it_and_goes_back() {
    let Some(scene) = Scene::shared() else { return };
    let (tab, email) = (scene.tab(), scene.customer("Allowing"));
    let party = Party::web(&scene, "Calendar");
    tab.open(&party.request("openid email usage:read", &[("login_hint", &email)])).shows("Sign in");
    tab.fill("Password", PASSWORD).press("Sign in").shows("Allow access?");
    assert_eq!(tab.texts("main li").len(), 3);
    assert!(tab.text().contains("Calendar wants to:"));
    assert_eq!(tab.tab_stops(2), ["Allow", "Cancel"]);
    tab.press("Allow").shows(HEADING);
    let tokens = party.redeem(&scene, &tab.address());
    let claims = id_claims(&tokens);
    assert_eq!(claims["nonce"], "n-1");
    assert_eq!(claims["amr"], json!(["pwd"]));
    // The client has a secret, so nobody is asked again.
    tab.open(&party.request("openid", &[])).shows(HEADING);
    party.redeem(&scene, &tab.address());
}

#[test]
fn a_person_who_says_no_is_led_back_with_that() {
    let Some(scene) = Scene::shared() else { return };
    let (tab, email) = (scene.tab(), scene.customer("Denying"));
    let party = Party::public(&scene, "Nosy");
    tab.signs_in(&email, &party.request("openid profile", &[])).shows("Allow access?");
    tab.press("Cancel").shows(HEADING);
    let address = tab.address();
    assert_eq!(param(&address, "error").as_deref(), Some("access_denied"));
    assert_eq!(param(&address, "code"), None);
    assert_eq!(param(&address, "state").as_deref(), Some("a b&c"));
}

#[test]
fn an_answer_by_form_sends_itself_to_the_application() {
    let Some(scene) = Scene::shared() else { return };
    let (tab, email) = (scene.tab(), scene.customer("Form Post"));
    let party = Party::web(&scene, "Poster");
    tab.signs_in(&email, &party.request("openid", &[("response_mode", "form_post")])).shows("Allow access?");
    tab.press("Allow").shows(HEADING);
    assert_eq!(tab.address().as_str(), party.callback());
}

#[test]
fn a_sign_out_at_the_application_asks_and_ends_the_browser() {
    let Some(scene) = Scene::shared() else { return };
    let (tab, email) = (scene.tab(), scene.customer("Leaving"));
    tab.signs_in(&email, "/account").shows("Your account");
    tab.open("/oauth2/logout").shows("Sign out?");
    tab.press("Sign out").shows("Signed out");
    tab.open("/account").shows("Sign in");
}

#[test]
fn an_application_that_lives_in_the_browser_redeems_its_code_there_and_asks_who_it_is() {
    let Some(scene) = Scene::shared() else { return };
    let (tab, email) = (scene.tab(), scene.customer("In The Browser"));
    let party = Party::public(&scene, "Single Page");
    tab.signs_in(&email, &party.request("openid email", &[])).shows("Allow access?").press("Allow").shows(HEADING);
    let arguments = vec![scene.issuer.clone().into(), party.client_id.clone().into(), VERIFIER.into()];
    let found = tab.script_async(include_str!("single_page.js"), arguments);
    assert_eq!(found["email"], email, "{found}");
    assert_eq!(found["revoked"], 401, "{found}");
    assert_eq!(found["introspect"], "TypeError", "{found}");
}
