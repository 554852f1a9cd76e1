//! A driver that is down keeps a tenant from leaving, and neither the server from starting nor others from leaving.

use std::{fs, os::unix::fs::PermissionsExt as _};

use serde_json::{Value, json};
use tollgate::onboarding::Onboarding;

use crate::support::{app::TestApp, audit::Audit};

/// Takes nothing down while there is a file.
const PROGRAM: &str = "#!/bin/sh\n[ \"$TOLLGATE_VERB\" = destroy ] && [ -e \"$DOWN\" ] && { echo down >&2; exit 1; }\n\
                       echo '{\"location\": \"here\"}'\n";

#[tokio::test]
async fn a_driver_that_is_down_is_waited_for_and_the_server_starts_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let (program, down) = (folder.path().join("provision"), folder.path().join("down"));
    fs::write(&program, PROGRAM).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(&down, "").unwrap();
    let app = TestApp::with(&format!(
        "[provisioning]\nsilo = \"exec\"\n[provisioning.exec]\ncommand = [\"{}\"]\nenv = {{ DOWN = \"{}\" }}\n",
        program.display(),
        down.display()
    ))
    .await;
    let (tenant, other) = (app.tenant("Acme", "premium").await, app.tenant("Globex", "standard").await);
    let (owner, path) = (app.owner_of("Acme").await.token, format!("/admin/v1/tenants/{tenant}"));
    let mut audit = Audit::of(&app).await;
    let waits = app.admin().await.delete(&path).await.expect(202);
    assert_eq!((waits.text("/status"), waits.text("/steps/3/status")), ("failed".into(), "failed".into()));
    assert_eq!(waits.text("/steps/3/error"), "the exec driver failed to take a place down");
    let noted = audit.actions().await;
    assert!(noted.contains(&"offboarding.failed".to_owned()), "{noted:?}");
    // Twice gives the same answer: it was tried once more.
    assert_eq!(app.admin().await.delete(&path).await.expect(202).text("/steps/3/attempts"), "2");
    app.admin().await.delete(&format!("/admin/v1/tenants/{other}")).await.expect(200);

    let app = app.restarted().await;
    let admin = app.admin().await;
    assert_eq!(admin.get(&path).await.expect(200).text("/status"), "offboarding");
    let call = app.call(axum::http::Method::GET, "/v1/me", &owner, Value::Null).await;
    assert!([401, 403].contains(&call.status.as_u16()), "{}", call.body);
    let retry = format!("{path}/offboarding/retry");
    assert_eq!(admin.post(&retry, Value::Null).await.expect(200).text("/status"), "failed");
    fs::remove_file(&down).unwrap();
    let mut audit = Audit::of(&app).await;
    assert_eq!(admin.post(&retry, Value::Null).await.expect(200).text("/status"), "done");
    assert!(audit.actions().await.contains(&"offboarding.retried".to_owned()));
    assert_eq!(admin.delete(&path).await.expect(200).text("/status"), "deleted");
    admin.get(&format!("{path}/infrastructure")).await.refuses(404, &[]);
    let onboarding: Onboarding = axum::extract::FromRef::from_ref(app.app.state());
    assert_eq!(onboarding.resume_offboardings().await.unwrap(), 0);
    let list = admin.get(&format!("{path}/invoices")).await.expect(200);
    assert_eq!(list.body["items"].as_array().unwrap().len(), 1);
    assert_eq!(list.body["next_cursor"], json!(null));
}
