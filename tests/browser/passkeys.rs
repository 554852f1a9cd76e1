//! Passkeys, which nothing but a browser can try in earnest.

use super::{
    party::{HEADING, Party, id_claims},
    scene::Scene,
};

#[test]
fn a_person_adds_a_passkey_and_signs_in_with_it() {
    let Some(scene) = Scene::shared() else { return };
    let (tab, email) = (scene.tab(), scene.customer("Passkeys"));
    let key = tab.authenticator();
    tab.signs_in(&email, "/account/factors").shows("Second factors");
    tab.fill("Name of the new passkey", "Laptop").press("Add a passkey").says("status", "Keep these recovery codes.");
    tab.look_over();
    let recovery = tab.texts(".codes li");
    assert_eq!(recovery.len(), 10);
    tab.press("Go on").shows("Second factors");
    assert!(tab.texts("main li")[0].contains("Laptop"));

    // The same authenticator has one already.
    tab.fill("Name of the new passkey", "Again")
        .press("Add a passkey")
        .says("alert", "has a passkey for this account already");
    assert_eq!(tab.texts("main ul li").len(), 1);

    let party = Party::web(&scene, "Keyed");
    tab.signed_out().signs_in(&email, &party.request("openid", &[])).shows("Second step");
    tab.press("Use a passkey").shows("Allow access?").press("Allow").shows(HEADING);
    let claims = id_claims(&party.redeem(&scene, &tab.address()));
    assert_eq!(claims["amr"], serde_json::json!(["pwd", "hwk", "mfa"]));

    // Whom the authenticator does not recognize is not let in, and is told so; the page goes on working.
    tab.signed_out().signs_in(&email, "/account").shows("Second step");
    key.recognizes(false);
    tab.press("Use a passkey").says("alert", "No passkey was used.").shows("Second step");
    key.recognizes(true);
    tab.press("Use a passkey").shows("Your account");

    tab.open("/account/factors").shows("Second factors").press("Remove");
    tab.shows("Second factors").says("status", "The passkey is removed.");
    tab.signed_out().signs_in(&email, "/account").shows("Your account");
}

#[test]
fn a_person_without_their_passkey_gets_in_by_a_recovery_code() {
    let Some(scene) = Scene::shared() else { return };
    let (tab, email) = (scene.tab(), scene.customer("Lost Passkey"));
    let key = tab.authenticator();
    tab.signs_in(&email, "/account/factors").shows("Second factors");
    tab.press("Add a passkey").says("status", "Keep these recovery codes.");
    let recovery = tab.texts(".codes li");
    drop(key);
    let _other = tab.authenticator();
    tab.signed_out().signs_in(&email, "/account").shows("Second step");
    tab.press("Use a passkey").says("alert", "No passkey was used.").shows("Second step");
    tab.fill("Code of your authenticator, or a recovery code", &recovery[0]).press("Go on").shows("Your account");
}
