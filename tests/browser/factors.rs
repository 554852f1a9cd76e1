//! Second factors by codes: enrolment, sign-in, what is wrong, recovery.

use super::{
    scene::Scene,
    support::{actors::PASSWORD, totp},
    tab::Tab,
};

/// The code of a key, so many steps from now.
fn code(secret: &str, steps_ahead: u64) -> String {
    #[expect(clippy::disallowed_methods, reason = "an authenticator has a clock of its own")]
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    totp::code(secret, now.as_secs() + 30 * steps_ahead)
}

/// The key on the page that offers one.
#[track_caller]
fn offered(tab: &Tab<'_>) -> String {
    tab.press("Set up an authenticator").shows("Set up an authenticator");
    let drawn = tab.script("return document.querySelector('img.qr').naturalWidth > 0", Vec::new());
    assert_eq!(drawn, true, "the picture is not drawn");
    tab.texts("#totp_secret").remove(0)
}

const FIELD: &str = "Code of your authenticator, or a recovery code";

#[test]
fn a_person_sets_an_authenticator_up_and_signs_in_with_its_codes_once_each() {
    let Some(scene) = Scene::shared() else { return };
    let (tab, email) = (scene.tab(), scene.customer("Codes"));
    tab.signs_in(&email, "/account/factors").shows("Second factors");
    let first = offered(&tab);
    tab.fill("Code that the app shows", "000000").press("Confirm");
    tab.shows("Set up an authenticator").says("alert", "The code is wrong.");
    tab.press("Start again").shows("Second factors");
    let key = offered(&tab);
    assert_ne!(key, first);
    tab.fill("Code that the app shows", &code(&key, 0)).press("Confirm").shows("Recovery codes");
    let recovery = tab.texts(".codes li");
    assert_eq!(recovery.len(), 10);
    tab.press("Go on").shows("Second factors");
    assert!(tab.text().contains("Remove the authenticator"));

    // The step after the one that enrolled is taken for clocks that are ahead; it is good once.
    let next = code(&key, 1);
    tab.signed_out().signs_in(&email, "/account").shows("Second step");
    tab.fill(FIELD, &format!("{} {}", &next[..3], &next[3..])).press("Go on").shows("Your account");
    tab.signed_out().signs_in(&email, "/account").shows("Second step");
    for wrong in [next.as_str(), "123456", "abcd-abcd-abcd-abcd"] {
        tab.fill(FIELD, wrong).press("Go on");
        tab.shows("Second step").says("alert", "The code is wrong, or was used before.");
    }
    // A password alone opened nothing.
    tab.open("/account").shows("Sign in");

    tab.open("/login/factor?return_to=%2Faccount").shows("Second step");
    tab.fill(FIELD, &recovery[3].to_uppercase()).press("Go on").shows("Your account");
    tab.signed_out().signs_in(&email, "/account").shows("Second step");
    tab.fill(FIELD, &recovery[3]).press("Go on").shows("Second step").says("alert", "was used before");
    tab.fill(FIELD, &recovery[4]).press("Go on").shows("Your account");

    tab.open("/account/factors").shows("Second factors");
    assert!(tab.text().contains("8 are left."));
    tab.press("Make new recovery codes").shows("Recovery codes").press("Go on").shows("Second factors");
    tab.press("Remove the authenticator").shows("Second factors").says("status", "The authenticator is removed.");
    tab.signed_out().signs_in(&email, "/account").shows("Your account");
}

#[test]
fn the_way_to_an_application_goes_by_the_second_step() {
    let Some(scene) = Scene::shared() else { return };
    let (tab, email) = (scene.tab(), scene.customer("Codes On The Way"));
    tab.signs_in(&email, "/account/factors").shows("Second factors");
    let key = offered(&tab);
    tab.fill("Code that the app shows", &code(&key, 0)).press("Confirm").shows("Recovery codes").signed_out();
    let party = super::party::Party::web(&scene, "Guarded");
    tab.open(&party.request("openid", &[])).shows("Sign in");
    tab.fill("Email", &email).fill("Password", PASSWORD).press("Sign in").shows("Second step");
    tab.fill(FIELD, &code(&key, 1)).press("Go on").shows("Allow access?").press("Allow").shows(super::party::HEADING);
    let claims = super::party::id_claims(&party.redeem(&scene, &tab.address()));
    assert_eq!(claims["amr"], serde_json::json!(["pwd", "otp", "mfa"]));
}
