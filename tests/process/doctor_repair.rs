//! `tollgate doctor` and what belongs to nobody: it says it, changes nothing by looking, mends it when told to, and not beside a
//! server.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::json;
use sqlx::{AssertSqlSafe, Connection as _, SqliteConnection};
use tempfile::TempDir;

use super::{
    customer::{admin, customer},
    server::{Server, tollgate},
};
use crate::support::actors::{PASSWORD, email_of, registration};

fn doctor(data: &Path, more: &[&str]) -> (Option<i32>, String) {
    let output = tollgate().arg("doctor").args(more).arg("--data").arg(data).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

async fn change(file: &Path, sql: &str) {
    let mut db = SqliteConnection::connect(&format!("sqlite:{}?mode=rwc", file.display())).await.unwrap();
    let done = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut db).await;
    assert!(done.unwrap().rows_affected() > 0, "{sql}");
    db.close().await.unwrap();
}

/// An id as a literal of SQL.
fn blob(id: &str) -> String {
    format!("x'{}'", id.replace('-', ""))
}

/// Tenants of a server that has ended.
struct Scene {
    folder: TempDir,
    stays: String,
    gone: String,
    unbilled: String,
}

/// Nobody here has heard of them.
const HOMELESS: &str = "01900000-0000-7000-8000-0000000000aa";
const UNKNOWN: &str = "01900000-0000-7000-8000-0000000000bb";

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path();
        let server = Server::start(data, &[]);
        let acme = customer(&server);
        let stays = server.get("/v1/me", &acme).json()["tenant"]["tenant_id"].as_str().unwrap().to_owned();
        let administrator = admin(&server);
        let register = |name: &str| {
            let made = server.call("POST", "/admin/v1/registrations", &administrator, &registration(name, "standard"));
            made.json()["tenant_id"].as_str().unwrap().to_owned()
        };
        let (gone, unbilled) = (register("Bolt"), register("Globex"));
        let bolt = server.token(&email_of("Bolt"), PASSWORD);
        assert_eq!(server.get("/sample/hello", &bolt).status, 200);
        assert_eq!(server.call("DELETE", &format!("/admin/v1/tenants/{gone}"), &administrator, &json!({})).status, 200);
        let (status, said) = doctor(data, &[]);
        assert_eq!(status, Some(0), "{said}");
        // Who mends has the folder alone.
        let (status, said) = doctor(data, &["--repair"]);
        assert_eq!(status, Some(2), "{said}");
        assert!(said.contains("is in use by process") && said.contains("stop the server first"), "{said}");
        server.signal("TERM");
        assert_eq!(server.ended().code(), Some(0));
        Self { folder, stays, gone, unbilled }
    }

    fn doctor(&self, more: &[&str]) -> (Option<i32>, String) {
        doctor(self.folder.path(), more)
    }

    fn store(&self) -> PathBuf {
        self.folder.path().join("tollgate.db")
    }

    fn place(&self, name: &str) -> PathBuf {
        self.folder.path().join("infrastructure").join(name)
    }

    /// What is changed in the store.
    async fn disturb_store(&self) {
        let (gone, stays, unbilled) = (blob(&self.gone), blob(&self.stays), blob(&self.unbilled));
        let (id, homeless, person) = (&self.gone, blob(HOMELESS), blob(UNKNOWN));
        let users = "INSERT INTO users (user_id, email, email_key, platform_admin, created_at)";
        for sql in [
            format!("UPDATE billing_accounts SET closed_at = NULL WHERE tenant_id = {gone}"),
            format!("DELETE FROM billing_accounts WHERE tenant_id = {unbilled}"),
            format!("UPDATE billing_accounts SET next_due = NULL WHERE tenant_id = {stays}"),
            format!("UPDATE tenants SET deleted_at = deleted_at - 3600000000 WHERE tenant_id = {gone}"),
            format!("{users} VALUES ({homeless}, 'a@b.example', 'a@b.example', 0, 0)"),
            format!("{users} VALUES ({person}, 'c@b.example', 'c@b.example', 0, 0)"),
            format!(
                "INSERT INTO memberships (tenant_id, user_id, role, status, created_at)
                 VALUES ({gone}, {person}, 'owner', 'active', 0)"
            ),
            format!("INSERT INTO tenant_domains (tenant_id, domain, created_at) VALUES ({gone}, 'b.example', 0)"),
            format!(
                "INSERT INTO sessions (session_id, user_id, tenant_id, scope, created_at)
                 VALUES ({homeless}, {homeless}, {gone}, '', 0)"
            ),
            format!(
                "INSERT INTO infrastructure_places (tenant_id, isolation, driver, pool, location, made)
                 VALUES ({gone}, 'silo', 'sqlite', '', 'silo/{id}.db', 1)"
            ),
            format!(
                "INSERT INTO infrastructure_leftovers (tenant_id, isolation, driver, location)
                 VALUES ({gone}, 'silo', 'process', '')"
            ),
        ] {
            change(&self.store(), &sql).await;
        }
    }

    /// What is put beside it.
    async fn disturb_places(&self) {
        let (gone, stays) = (self.gone.as_str(), self.stays.as_str());
        for (kind, id) in [("silo", gone), ("bridge", gone), ("silo", UNKNOWN), ("bridge", stays)] {
            let file = self.place(&format!("{kind}/{id}.db"));
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            let id = blob(id);
            let sql = format!(
                "CREATE TABLE spaces (tenant_id BLOB PRIMARY KEY); CREATE TABLE items (tenant_id BLOB, key TEXT, value BLOB);
                 INSERT INTO spaces VALUES ({id}); INSERT INTO items VALUES ({id}, 'a', x'00')"
            );
            change(&file, &sql).await;
        }
        change(&self.place("pool.db"), &format!("INSERT INTO spaces VALUES ({})", blob(gone))).await;
        fs::create_dir_all(self.place("process")).unwrap();
        fs::write(self.place(&format!("process/{gone}.json")), r#"{"pid":1,"started":1,"boot":""}"#).unwrap();
    }

    /// What the doctor mends.
    fn mended(&self) -> [String; 11] {
        let Self { stays, gone, unbilled, .. } = self;
        let deleted = format!("tenant {gone}, which is deleted");
        let noted =
            |what: &str| format!("infrastructure: a silo of the {what} is noted for {deleted}; --repair takes it down");
        let there = |what: &str| {
            format!(
                "infrastructure: a {what} is there of {deleted}, and nothing is noted of it; --repair takes it down"
            )
        };
        let kept = |what: &str| format!("people: 1 {what} of {deleted}; --repair removes them");
        [
            noted(&format!("sqlite driver silo/{gone}.db")),
            noted("process driver"),
            there(&format!("bridge of the sqlite driver bridge/{gone}.db")),
            there(&format!("pool of the sqlite driver pool.db#{gone}")),
            format!("billing: the account of {deleted}, is open; --repair closes the account"),
            format!("billing: tenant {unbilled} is in use and has no billing account; --repair opens one from now on"),
            format!(
                "billing: tenant {stays} is in use and has a billing account that is never due; --repair has its periods"
            ),
            format!("people: user {HOMELESS} belongs to no tenant; --repair forgets the person"),
            kept("memberships"),
            kept("sign-ins"),
            kept("allowed domains"),
        ]
    }

    /// What is for somebody to decide.
    fn left(&self) -> [String; 3] {
        let Self { stays, gone, .. } = self;
        let there = "infrastructure: a";
        [
            format!(
                "{there} bridge of the sqlite driver bridge/{stays}.db is there of tenant {stays}, which is somewhere else, and \
                 nothing is noted of it; it has rows"
            ),
            format!(
                "{there} silo of the sqlite driver silo/{UNKNOWN}.db is there of tenant {UNKNOWN}, which nobody has heard of, and \
                 nothing is noted of it; it may be another installation's"
            ),
            format!(
                "usage: meter apis of tenant {gone} counts 1 minutes after it was deleted; usage is never taken out"
            ),
        ]
    }
}

#[tokio::test]
async fn what_belongs_to_nobody_is_said_and_mended_and_the_rest_is_left_for_somebody() {
    let scene = Scene::new();
    scene.disturb_store().await;
    scene.disturb_places().await;
    let (mended, left) = (scene.mended(), scene.left());
    let says_all = |said: &str, sentences: &[String]| {
        for sentence in sentences {
            assert!(said.contains(sentence), "no {sentence}\nin {said}");
        }
    };
    // Looking changes nothing, so it says the same again.
    for _ in 0..2 {
        let (status, said) = scene.doctor(&[]);
        assert_eq!(status, Some(1), "{said}");
        says_all(&said, &mended);
        says_all(&said, &left);
    }
    let note = scene.place(&format!("process/{}.json", scene.gone));
    assert!(note.exists());
    let (status, said) = scene.doctor(&["--repair"]);
    assert_eq!(status, Some(1), "{said}");
    assert_eq!(said.matches("mended: ").count(), mended.len(), "{said}");
    says_all(&said, &left);
    let (status, said) = scene.doctor(&[]);
    assert_eq!((status, said.contains("--repair")), (Some(1), false), "{said}");
    // Usage of three meters, and two places.
    assert!(said.contains("5 differences in"), "{said}");
    let file = |kind: &str, id: &str| scene.place(&format!("{kind}/{id}.db"));
    assert!(!file("silo", &scene.gone).exists() && !file("bridge", &scene.gone).exists() && !note.exists());
    // What was left is decided, and the server goes on with what was mended.
    for file in [file("silo", UNKNOWN), file("bridge", &scene.stays)] {
        fs::remove_file(file).unwrap();
    }
    let gone = blob(&scene.gone);
    let sql = format!("UPDATE tenants SET deleted_at = deleted_at + 3600000000 WHERE tenant_id = {gone}");
    change(&scene.store(), &sql).await;
    let (status, said) = scene.doctor(&[]);
    assert_eq!(status, Some(0), "{said}");
    let server = Server::start(scene.folder.path(), &[]);
    let administrator = admin(&server);
    assert_eq!(server.get(&format!("/admin/v1/tenants/{}/bill", scene.unbilled), &administrator).status, 200);
    let audit = server.get("/admin/v1/audit?limit=500", &administrator).body;
    assert_eq!(audit.matches(r#""action":"doctor.mended""#).count(), mended.len());
    let owner = server.token(&email_of("Globex"), PASSWORD);
    assert_eq!(server.get("/sample/hello", &owner).status, 200);
    server.signal("TERM");
    assert_eq!(server.ended().code(), Some(0));
    let (status, said) = scene.doctor(&["--repair"]);
    assert_eq!(status, Some(0), "nothing is left to do: {said}");
}
