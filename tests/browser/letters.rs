//! What begins on a page and goes on by a letter: signing up, and a forgotten password.

use serde_json::json;

use super::{
    party::{HEADING, Party},
    scene::Scene,
    support::actors::PASSWORD,
};

#[test]
fn a_company_signs_up_and_is_there_once_its_email_is_verified() {
    let Some(scene) = Scene::shared() else { return };
    let (tab, email) = (scene.tab(), "grace@blooming.example");
    tab.open("/login").shows("Sign in").press("Sign up").shows("Sign up");
    assert_eq!(tab.tab_stops(5), ["Organization", "Billing address", "Email", "Password", "Sign up"]);
    tab.fill("Organization", "Blooming").fill("Billing address", "2 High Street").fill("Email", email);
    tab.fill("Password", "password1234").press("Sign up");
    tab.shows("Sign up").says("alert", "The password");
    // What was typed is still there, but for the password.
    tab.fill("Password", PASSWORD)
        .press("Sign up")
        .shows("Look at your mail")
        .says("status", "A letter is on its way.");
    tab.signs_in(email, "/account").shows("Sign in").says("alert", "do not belong together");
    let link = scene.link_to(email);
    tab.open(&link).shows("Finish signing up");
    assert!(tab.text().contains("Blooming") && tab.text().contains(email));
    tab.press("Yes, it was me").shows("Welcome").says("status", "Your account is there.");
    tab.press("Sign in").shows("Sign in");
    tab.signs_in(email, "/account").shows("Your account");
    tab.open(&link).shows("This link does not work");
}

#[test]
fn a_forgotten_password_is_set_anew_by_a_link_that_works_once() {
    const NEW: &str = "amber-Meadow-19-kites";
    let Some(scene) = Scene::shared() else { return };
    let (tab, email) = (scene.tab(), scene.customer("Forgetful"));
    let token = scene.server.token(&email, PASSWORD);
    tab.open("/login").press("Forgot your password?").shows("Forgot your password?");
    tab.fill("Email", &email).press("Send a link").shows("Look at your mail").says("status", "a link is on its way");
    let link = scene.link_to(&email);
    tab.open(&link).shows("Choose a new password");
    tab.fill("New password", "short").press("Set the password");
    tab.shows("Choose a new password").says("alert", "The password");
    tab.fill("New password", NEW).press("Set the password").shows("Done").says("status", "The new password is set");
    assert_eq!(scene.server.get("/v1/me", &token).status, 401);
    tab.press("Sign in").shows("Sign in").fill("Email", &email).fill("Password", NEW).press("Sign in");
    tab.shows("Your account");
    tab.open(&link).shows("This link does not work");
}

#[test]
fn whoever_is_invited_belongs_to_two_organizations_and_chooses_on_the_way_to_an_application() {
    let Some(scene) = Scene::shared() else { return };
    let (tab, host, guest) = (scene.tab(), scene.customer("Hosts"), scene.customer("Guests"));
    let host = scene.server.token(&host, PASSWORD);
    let invited = scene.server.call("POST", "/v1/invitations", &host, &json!({"email": guest, "role": "member"}));
    assert_eq!(invited.status, 201, "{}", invited.body);
    tab.open(&scene.link_to(&guest)).shows("You are invited");
    tab.fill("Your password", "wrong").press("Accept").shows("You are invited").says("alert", "The password is wrong.");
    tab.fill("Your password", PASSWORD).press("Accept").shows("Welcome").says("status", "You belong to it now.");
    let party = Party::web(&scene, "Both");
    tab.signs_in(&guest, &party.request("openid", &[])).shows("Choose an organization");
    assert_eq!(tab.tab_stops(2).len(), 2);
    tab.press("Hosts").shows("Allow access?").press("Allow").shows(HEADING);
    party.redeem(&scene, &tab.address());
}
