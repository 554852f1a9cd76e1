//! Libraries of the Standard Webhooks specification verify what is sent: each makes a webhook by itself, listens, has something
//! happen, and reads it; and verifies with an old secret, with a new one, and not with another.

use super::{npm::Npm, scene::Scene, venv::Venv};

fn scene() -> Scene {
    Scene::with(&[("TOLLGATE_WEBHOOKS__ALLOW_PRIVATE", "true"), ("TOLLGATE_IDENTITY__PUBLISHED_ALGS", r#"["ES256"]"#)])
}

#[test]
fn the_library_for_javascript_verifies_deliveries() {
    let Some(npm) = Npm::with(&["standardwebhooks@1.1.1"]) else { return };
    npm.run("webhooks.mjs", &scene().variables());
}

#[test]
fn the_library_for_python_verifies_deliveries() {
    let Some(venv) = Venv::with(&["standardwebhooks==1.1.0"]) else { return };
    venv.run("webhooks.py", &scene().variables());
}
