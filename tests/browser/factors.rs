//! Second factors by codes: enrolment, sign-in, what is wrong, recovery.

use aws_lc_rs::hmac;

use super::{scene::Scene, support::actors::PASSWORD, tab::Tab};

/// The code of a key in base 32 (RFC 6238), so many steps from now.
fn code(secret: &str, steps_ahead: u64) -> String {
    let (mut bytes, mut buffer, mut bits) = (Vec::new(), 0_u32, 0);
    for c in secret.bytes() {
        let value = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".iter().position(|own| *own == c).unwrap();
        buffer = buffer << 5 | u32::try_from(value).unwrap();
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(buffer >> bits & 0xff).unwrap());
        }
    }
    #[expect(clippy::disallowed_methods, reason = "an authenticator has a clock of its own")]
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let step = now.as_secs() / 30 + steps_ahead;
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &bytes), &step.to_be_bytes());
    let tag = tag.as_ref();
    let offset = usize::from(tag[19] & 15);
    let number = u32::from_be_bytes(tag[offset..offset + 4].try_into().unwrap()) & 0x7fff_ffff;
    format!("{:06}", number % 1_000_000)
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
