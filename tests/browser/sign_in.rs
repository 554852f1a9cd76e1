//! Signing in with a password, and a page's order for who uses the keyboard.

use super::{scene::Scene, support::actors::PASSWORD};

#[test]
fn a_person_signs_in_after_a_wrong_password_was_said_aloud() {
    let Some(scene) = Scene::shared() else { return };
    let (tab, email) = (scene.tab(), scene.customer("Signing In"));
    tab.open("/account").shows("Sign in");
    assert_eq!(tab.tab_stops(5), ["Email", "Password", "Sign in", "Forgot your password?", "Sign up"]);
    tab.fill("Email", &email).fill("Password", "something else").press("Sign in");
    tab.shows("Sign in").says("alert", "Email and password do not belong together.");
    // What was typed of the email is still there.
    tab.fill("Password", PASSWORD).press("Sign in").shows("Your account");
    tab.press("Sign out").shows("Sign in");
    tab.open("/account").shows("Sign in");
}

#[test]
fn a_sign_in_that_nothing_sent_for_leads_to_the_account() {
    let Some(scene) = Scene::shared() else { return };
    let (tab, email) = (scene.tab(), scene.customer("From Nowhere"));
    tab.open("/login").shows("Sign in");
    tab.fill("Email", &email).fill("Password", PASSWORD).press("Sign in").shows("Your account");
}

#[test]
fn the_form_of_another_site_does_not_sign_anybody_in() {
    let Some(scene) = Scene::shared() else { return };
    let (tab, email) = (scene.tab(), scene.customer("Forged"));
    let form = format!(
        "data:text/html,<!doctype html><html lang=en><title>x</title><main><h1>Win</h1><form method=post \
         action={}/login><input type=hidden name=email value={email}><input type=hidden name=password \
         value={PASSWORD}><button>Go</button></form></main>",
        scene.issuer
    );
    tab.open(&form).press("Go").shows("This page is not yours");
    tab.open("/account").shows("Sign in");
}
