//! What people do with their own account: sign-ins, password.

use serde_json::json;

use super::{scene::Scene, support::actors::PASSWORD};

#[test]
fn people_see_their_sign_ins_and_end_them() {
    let Some(scene) = Scene::shared() else { return };
    let (tab, email) = (scene.tab(), scene.customer("Many Sign Ins"));
    let tokens = [0; 3].map(|_| scene.server.token(&email, PASSWORD));
    let status = |token: &str| scene.server.get("/v1/me", token).status;
    tab.signs_in(&email, "/account").shows("Your account");
    assert_eq!(tab.texts("tbody tr").len(), 3);
    tab.press("End").shows("Your account");
    assert_eq!(tab.texts("tbody tr").len(), 2);
    let mut statuses = tokens.each_ref().map(|token| status(token));
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 401]);
    tab.press("End all but this browser").shows("Your account");
    assert!(tab.text().contains("Nothing else is signed in."));
    assert_eq!(tokens.each_ref().map(|token| status(token)), [401; 3]);
}

#[test]
fn people_say_what_they_are_called() {
    const LABEL: &str = "Name that applications may see";
    let Some(scene) = Scene::shared() else { return };
    let (tab, email) = (scene.tab(), scene.customer("Named"));
    tab.signs_in(&email, "/account").shows("Your account");
    tab.fill(LABEL, &"x".repeat(300)).press("Save").shows("Your account").says("alert", "The name");
    tab.fill(LABEL, "Ada Lovelace").press("Save").shows("Your account");
    let kept = tab.script("return document.getElementById('name').value", Vec::new());
    assert_eq!(kept, "Ada Lovelace");
}

#[test]
fn people_change_their_password_and_are_told_what_is_wrong_with_a_new_one() {
    const NEW: &str = "amber-Meadow-19-kites";
    let Some(scene) = Scene::shared() else { return };
    let (tab, email) = (scene.tab(), scene.customer("New Password"));
    tab.signs_in(&email, "/account").shows("Your account");
    tab.press("Change the password").shows("Change the password");
    tab.fill("Current password", "not it").fill("New password", NEW).press("Change the password");
    tab.shows("Change the password").says("alert", "The current password is wrong.");
    tab.fill("Current password", PASSWORD).fill("New password", "password1234").press("Change the password");
    tab.shows("Change the password").says("alert", "The new password");
    tab.fill("Current password", PASSWORD).fill("New password", NEW).press("Change the password");
    tab.shows("Change the password").says("status", "The new password is set.");
    tab.press("Back to your account").shows("Your account");
    let login = |password: &str| {
        scene.server.call("POST", "/v1/login", "", &json!({"email": email, "password": password})).status
    };
    assert_eq!((login(PASSWORD), login(NEW)), (401, 200));
}
