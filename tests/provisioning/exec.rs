//! The `exec` driver: the example of its guide, and programs that do not behave.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{actors::registration, app::TestApp};

/// The program in the guide.
fn example() -> String {
    let guide = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/exec-driver.md")).unwrap();
    let begins = guide.find("#!/bin/sh").unwrap();
    guide[begins..].split("```").next().unwrap().to_owned()
}

struct Program {
    folder: TempDir,
}

impl Program {
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("provision");
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    async fn app(&self, more: &str) -> TestApp {
        let (program, root) = (self.path("provision"), self.path("root"));
        TestApp::with(&format!(
            "[provisioning]\nsilo = \"exec\"\n[provisioning.exec]\ncommand = [\"{program}\"]\nenv = {{ ROOT = \"{root}\" }}\n{more}"
        ))
        .await
    }
}

#[tokio::test]
async fn the_example_of_the_guide_makes_a_place_mends_it_and_takes_it_down() {
    let program = Program::new(&example());
    let app = program.app("").await;
    let admin = app.admin().await;
    let id = app.tenant("Acme", "premium").await;
    let path = format!("/admin/v1/tenants/{id}/infrastructure");
    let place = program.path(&format!("root/silo-{id}"));
    let seen = admin.get(&path).await.expect(200);
    let expected = (place.clone(), "exec".to_owned(), "unread".to_owned());
    assert_eq!((seen.text("/location"), seen.text("/driver"), seen.text("/credentials")), expected);
    let key = fs::read_to_string(format!("{place}/key")).unwrap();
    assert_eq!(key.len(), 32);
    let shown = admin.post(&format!("{path}/credentials"), Value::Null).await.expect(200);
    assert_eq!(shown.body["credentials"], json!({ "key": key }));
    admin.post(&format!("{path}/credentials"), Value::Null).await.refuses(409, &[]);
    fs::remove_dir(format!("{place}/data")).unwrap();
    let drifted = json!({"state": "drifted", "detail": "the folder is not all there"});
    assert_eq!(admin.post(&format!("{path}/verify"), Value::Null).await.expect(200).body, drifted);
    assert_eq!(admin.post(&format!("{path}/repair"), Value::Null).await.expect(200).body, json!({"state": "present"}));
    assert_eq!(fs::read_to_string(format!("{place}/key")).unwrap(), key, "the key is made once");
    // A pooled tenant is another driver's.
    let pooled = app.tenant("Globex", "standard").await;
    let seen = admin.get(&format!("/admin/v1/tenants/{pooled}/infrastructure")).await.expect(200);
    assert_eq!(seen.text("/driver"), "sqlite");
    admin.delete(&format!("/admin/v1/tenants/{id}")).await.expect(200);
    assert!(!Path::new(&place).exists());
}

#[tokio::test]
async fn what_is_to_be_done_is_told_twice_and_nothing_else_is() {
    let program = Program::new("#!/bin/sh\nenv | sort >>\"$ROOT.env\"\ncat >>\"$ROOT.in\"\necho '{}'\n");
    let app = program.app("").await;
    let id = app.tenant("Acme", "premium").await;
    let environment = fs::read_to_string(program.path("root.env")).unwrap();
    let names: Vec<&str> = environment.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    let told = ["TOLLGATE_ISOLATION", "TOLLGATE_LOCATION", "TOLLGATE_POOL", "TOLLGATE_TENANT_ID", "TOLLGATE_VERB"];
    let of_shell = ["PWD", "OLDPWD", "SHLVL", "_"];
    let mut rest: Vec<&str> = names.into_iter().filter(|name| !of_shell.contains(name)).collect();
    rest.retain(|name| !told.contains(name));
    assert_eq!(rest, ["PATH", "ROOT"]);
    let request: Value = serde_json::from_str(&fs::read_to_string(program.path("root.in")).unwrap()).unwrap();
    let expected = json!({"version": 1, "verb": "apply", "tenant_id": id, "isolation": "silo", "pool": "", "location": "", "upstream": null});
    assert_eq!(request, expected);
}

/// What a registration fails with.
async fn reason(program: &Program, more: &str) -> String {
    let app = program.app(more).await;
    let provisioning = <tollgate::provisioning::Provisioning as axum::extract::FromRef<_>>::from_ref(app.app.state());
    let admin = app.admin().await;
    let failed = admin.post("/admin/v1/registrations", registration("Acme", "premium")).await;
    assert_eq!(failed.text("/status"), "failed", "{}", failed.body);
    let tenant = failed.text("/tenant_id").parse().unwrap();
    let plan =
        provisioning.ensure(tollgate::store::Scope::Job("test"), tenant, tollgate::kernel::Isolation::Silo).await;
    tollgate::kernel::fault::chain(&plan.unwrap_err())
}

fn has_members(group: &str) -> bool {
    let members = std::process::Command::new("pgrep").args(["-g", group]).output().unwrap();
    let state = |pid: &str| fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let alive = |pid: &str| state(pid).rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'));
    String::from_utf8(members.stdout).unwrap().split_whitespace().any(alive)
}

#[tokio::test]
async fn programs_that_do_not_behave_are_told_of_and_nothing_of_them_is_left() {
    for (text, more, why) in [
        ("#!/bin/sh\necho no room >&2; exit 7\n", "", "exit status: 7; it said: no room"),
        ("#!/bin/sh\necho done\n", "", "the program's answer is no answer"),
        ("#!/bin/sh\necho '{\"upstream\": \"10.0.0.1\"}'\n", "", "`upstream` is not an http or https address"),
        ("#!/bin/sh\nkill -9 $$\n", "", "signal: 9"),
        ("#!/bin/sh\nyes\n", "max_output_bytes = 1024", "answered more than 1024 bytes"),
        ("#!/nowhere/interpreter\n", "", "cannot be started"),
        // What it starts holds its pipes open and takes no hint.
        (
            "#!/bin/sh\n(trap '' TERM; echo $$ >\"$ROOT.pid\"; exec tail -f /dev/null) & wait\n",
            "timeout_s = 1",
            "did not end within 1 seconds",
        ),
    ] {
        let program = Program::new(text);
        let reason = Box::pin(reason(&program, more)).await;
        assert!(reason.contains(why), "{text}: {reason}");
        if let Ok(group) = fs::read_to_string(program.path("root.pid")) {
            // Killed is not gone yet; what nobody has reaped yet is no process any more.
            while has_members(group.trim()) {
                std::thread::yield_now();
            }
        }
    }
}

#[tokio::test]
async fn a_program_that_reads_nothing_and_one_that_leaves_something_behind_are_done_when_they_end() {
    let program = Program::new("#!/bin/sh\nexec 0<&-\ntail -f /dev/null &\necho '{\"location\": \"there\"}'\n");
    let app = program.app("timeout_s = 20").await;
    let id = app.tenant("Acme", "premium").await;
    let seen = app.admin().await.get(&format!("/admin/v1/tenants/{id}/infrastructure")).await.expect(200);
    assert_eq!(seen.text("/location"), "there");
}
