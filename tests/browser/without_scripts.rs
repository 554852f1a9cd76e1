//! The same pages in a browser that runs no scripts.

use super::{
    party::{HEADING, Party},
    scene::Scene,
    support::actors::PASSWORD,
};

#[test]
fn everything_but_passkeys_works_without_scripts() {
    let Some(scene) = Scene::shared() else { return };
    let (tab, email) = (scene.tab(), scene.customer("Plain"));
    tab.without_scripts();
    let party = Party::web(&scene, "Plain Application");
    tab.open(&party.request("openid", &[("response_mode", "form_post")])).shows("Sign in");
    tab.fill("Email", &email).fill("Password", "wrong").press("Sign in").shows("Sign in").says("alert", "together");
    tab.fill("Password", PASSWORD).press("Sign in").shows("Allow access?").press("Allow");
    // A page that would send itself has a button.
    tab.shows("Continue").press("Continue").shows(HEADING);
    tab.open("/account").shows("Your account").press("Second factors").shows("Second factors");
    assert!(tab.text().contains("Adding a passkey needs a browser with scripts."));
    tab.press("Set up an authenticator").shows("Set up an authenticator");
    tab.open("/account").shows("Your account").press("Sign out").shows("Sign in");
    tab.press("Sign up").shows("Sign up").press("Sign in to an account you have").shows("Sign in");
    tab.press("Forgot your password?").shows("Forgot your password?");
    tab.fill("Email", &email).press("Send a link").shows("Look at your mail");
    tab.open(&scene.link_to(&email)).shows("Choose a new password");
}
