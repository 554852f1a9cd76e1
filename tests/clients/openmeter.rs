//! OpenMeter's own SDKs: usage, meters, queries, what customers may use, portals.

use super::{npm::Npm, scene::Scene, venv::Venv};

#[test]
fn the_sdk_for_javascript_works_unchanged() {
    let Some(npm) = Npm::with(&["@openmeter/sdk@1.0.0-beta.232"]) else { return };
    npm.run("openmeter.mjs", &Scene::start().variables());
}

#[test]
fn the_sdk_for_python_works_unchanged() {
    let Some(venv) = Venv::with(&["openmeter==1.0.0b236"]) else { return };
    venv.run("openmeter.py", &Scene::start().variables());
}
