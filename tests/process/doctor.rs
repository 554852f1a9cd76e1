//! `tollgate doctor`: it agrees with a server that was used in every way, and finds whatever is changed behind its back.

use std::{
    fs,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, SqliteConnection};

use super::{
    customer::{admin, customer},
    server::{Server, tollgate},
};
use crate::support::actors::{PASSWORD, email_of, registration};

/// What it says, and its exit status.
fn doctor(data: &Path) -> (Option<i32>, String) {
    let output = tollgate().args(["doctor", "--data"]).arg(data).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

/// The last is without a price: an average may have more digits than an amount of it can hold.
const AGGREGATIONS: [&str; 9] = ["sum", "count", "unique_count", "min", "max", "latest", "weighted_sum", "p95", "avg"];

/// Meters of every kind, all of which but the last cost something from now on; the bill is cut by that, and by a change
/// of tier.
fn priced_meters(server: &Server) {
    let admin = admin(server);
    let mut plan = server.get("/admin/v1/plans/premium", &admin).json();
    for (place, name) in AGGREGATIONS.into_iter().enumerate() {
        let mut meter =
            json!({"key": name, "event_type": "prompt", "aggregation": name, "group_by": {"model": "$.model"}});
        if name != "count" {
            meter["value_property"] = "$.tokens".into();
        }
        assert_eq!(server.call("POST", "/admin/v1/meters", &admin, &meter).status, 201);
        if place + 1 < AGGREGATIONS.len() {
            plan["prices"].as_array_mut().unwrap().push(json!({"meter": name, "model": "per_unit", "unit": "0.01"}));
        }
    }
    plan["effective"] = "now".into();
    let put = server.call("PUT", "/admin/v1/plans/premium", &admin, &plan);
    assert_eq!(put.status, 200, "{}", put.body);
}

fn send(server: &Server, token: &str, tenant: &str) {
    let event = |n: i64| {
        json!({"specversion": "1.0", "id": n.to_string(), "source": "s", "type": "prompt", "subject": tenant,
            "data": {"tokens": n, "model": if n % 2 == 0 { "large" } else { "small" }}})
    };
    let events: Vec<Value> = (1..=20).map(event).collect();
    assert_eq!(server.call("POST", "/api/v1/events", token, &events.into()).status, 204);
}

/// A data folder with usage of all kinds, of a server that has ended; and what the doctor said beside it.
fn used(data: &Path) -> String {
    let server = Server::start(data, &[]);
    let acme = customer(&server);
    let tenant = server.get("/v1/me", &acme).json()["tenant"]["tenant_id"].as_str().unwrap().to_owned();
    let admin = admin(&server);
    let bolt = server.call("POST", "/admin/v1/registrations", &admin, &registration("Bolt", "standard"));
    assert_eq!(bolt.status, 201, "{}", bolt.body);
    let bolt = server.token(&email_of("Bolt"), PASSWORD);
    priced_meters(&server);
    send(&server, &acme, &tenant);
    let amend = |id: &str, n: i64| json!({"data": {"tokens": n, "model": "large"}, "reason": id});
    for (id, n) in [("3", 100), ("4", -5), ("3", 50)] {
        let path = format!("/admin/v1/usage/{id}/amend");
        assert_eq!(server.call("POST", &path, &admin, &amend(id, n)).status, 200);
    }
    for id in ["5", "3"] {
        let void = server.call("POST", &format!("/admin/v1/usage/{id}/void"), &admin, &json!({}));
        assert_eq!(void.status, 200, "{}", void.body);
    }
    for (token, calls) in [(&acme, 3), (&bolt, 5)] {
        for _ in 0..calls {
            assert_eq!(server.get("/sample/hello", token).status, 200);
        }
    }
    let change = server.call("POST", &format!("/admin/v1/tenants/{tenant}/tier"), &admin, &json!({"tier": "standard"}));
    assert!(change.status < 300, "{}", change.body);
    assert_eq!(server.used(&bolt), 5);
    assert_eq!(server.get("/sample/hello", &acme).status, 200);
    let beside = doctor(data);
    assert_eq!(beside.0, Some(0), "{}", beside.1);
    server.signal("TERM");
    assert_eq!(server.ended().code(), Some(0));
    beside.1
}

/// A copy of a data folder, to be changed.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.join("journal")).unwrap();
    for folder in ["", "journal"] {
        for entry in fs::read_dir(from.join(folder)).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_file() {
                fs::copy(entry.path(), to.join(folder).join(entry.file_name())).unwrap();
            }
        }
    }
}

/// The store refuses it as it is; whoever has its file can change that, too.
fn audit(sql: &str) -> String {
    format!("DROP TRIGGER audit_stays; {sql}")
}

/// Changes made to the store of a copy, and what the doctor says of it.
async fn changed(data: &Path, sql: &str) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    copy(data, folder.path());
    let url = format!("sqlite:{}", folder.path().join("tollgate.db").display());
    let mut store = SqliteConnection::connect(&url).await.unwrap();
    let done = sqlx::query(AssertSqlSafe(sql.to_owned())).execute(&mut store).await.unwrap();
    assert!(done.rows_affected() > 0, "{sql}");
    store.close().await.unwrap();
    doctor(folder.path())
}

#[tokio::test]
async fn the_doctor_finds_whatever_is_changed_behind_the_servers_back() {
    let data = tempfile::tempdir().unwrap();
    let said = used(data.path());
    assert!(said.contains("all agrees") && said.contains("2 events taken back"), "{said}");
    let (status, said) = doctor(data.path());
    assert_eq!(status, Some(0), "{said}");
    let five = "meter = 'apis' AND total = '5'";
    for (sql, words) in [
        (
            format!("UPDATE usage_totals SET total = '6' WHERE {five} AND unit = 0"),
            &["apis", "its minutes have 6 in 5"][..],
        ),
        (format!("UPDATE usage_totals SET total = '6' WHERE {five} AND unit = 1"), &["apis", "by Hour has 6 in 5"]),
        (format!("UPDATE usage_totals SET total = '6' WHERE {five} AND unit = 2"), &["apis", "by Day has 6 in 5"]),
        (
            format!("UPDATE usage_totals SET total = '6' WHERE {five} AND unit = 3"),
            &["apis", "by Month has 6 in 5", "its bill has 6, but the ledger has 5", "from 20"],
        ),
        // No value that is taken in makes such totals; still, one tenant's must not keep the doctor from the others.
        (
            "UPDATE usage_totals SET total = '9999999999999999999999999999' WHERE meter = 'sum' AND unit = 0".into(),
            &["meter sum", "cannot be held exactly", "differences in"],
        ),
        (format!("UPDATE usage_totals SET n = 6 WHERE {five} AND unit = 2"), &["by Day has 5 in 6"]),
        (format!("DELETE FROM usage_totals WHERE {five} AND unit = 2"), &["by Day has nothing"]),
        (
            "UPDATE usage_totals SET high = '77' WHERE meter = 'max' AND unit = 1 AND n > 0".into(),
            &["meter max", "to 77"],
        ),
        (
            "UPDATE events SET body = replace(body, '\"tokens\":8}', '\"tokens\":9}') WHERE id = '8'".into(),
            &["meter sum", "its events have"],
        ),
        ("UPDATE events SET at_ns = at_ns - 60000000000 WHERE id = '8'".into(), &["meter count", "its totals have"]),
        ("UPDATE events SET voided_at = 1 WHERE id = '8'".into(), &["meter count", "its totals have"]),
        ("UPDATE events SET voided_at = NULL WHERE id = '5'".into(), &["meter count", "its events have"]),
        ("DELETE FROM events WHERE id = '8'".into(), &["meter count"]),
        // All units alike, so that they agree with each other and the bill with them.
        (
            "UPDATE usage_totals SET n = 2 * n, total = CAST(2 * total AS TEXT) WHERE meter = 'apis'".into(),
            &["meter apis: the journals had ", "but the totals of all tenants have "],
        ),
        ("DELETE FROM usage_totals WHERE meter = 'apis'".into(), &["the totals of all tenants have 0 in 0"]),
        ("DELETE FROM journal_cursors".into(), &["journal ", "it has no cursor"]),
        ("UPDATE journal_cursors SET seq = seq + 100".into(), &["journal", "its last record is 9", "up to 109"]),
        ("UPDATE journal_cursors SET seq = seq - 1".into(), &["journal", "another hash", "up to 8"]),
        ("DELETE FROM audit WHERE serial = 2".into(), &["audit: the entries 2 to 2 are missing"]),
        ("DELETE FROM audit WHERE serial > 1".into(), &["audit: the entries after 1 are missing"]),
        (
            audit("UPDATE audit SET actor = 'admin:nobody' WHERE serial = 2"),
            &["audit: the entry 2 (", "is not what was sealed"],
        ),
        (audit("UPDATE audit SET detail = 'nothing' WHERE serial = 2"), &["audit: the details of the entry 2 ("]),
    ] {
        let (status, said) = changed(data.path(), &sql).await;
        assert_eq!(status, Some(1), "{sql}: {said}");
        assert!(words.iter().all(|word| said.contains(word)), "{sql}: {said}");
    }
    // Looking changes nothing, not even a schema that is older than the program's.
    let (status, said) = changed(data.path(), "UPDATE schema_version SET version = version - 1").await;
    assert_eq!(status, Some(2), "{said}");
    assert!(said.contains("start the server once"), "{said}");
}

#[test]
fn the_doctor_takes_no_usage_that_comes_while_it_looks_for_a_difference() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &[]);
    let token = customer(&server);
    let tenant = server.get("/v1/me", &token).json()["tenant"]["tenant_id"].as_str().unwrap().to_owned();
    priced_meters(&server);
    let admin = admin(&server);
    let over = AtomicBool::new(false);
    let until_over = |work: &dyn Fn(u64)| {
        let rounds = (0..).take_while(|_| !over.load(Ordering::Relaxed)).inspect(|round| work(*round)).count();
        assert!(rounds > 0);
    };
    let call = |_: u64| assert!([200, 429].contains(&server.get("/sample/hello", &token).status));
    let send_and_amend = |round: u64| {
        let event = json!({"specversion": "1.0", "id": round.to_string(), "source": "load", "type": "prompt",
            "subject": tenant, "data": {"tokens": round, "model": "large"}});
        assert_eq!(server.call("POST", "/api/v1/events", &token, &event).status, 204);
        let amendment = json!({"data": {"tokens": round + 1, "model": "small"}});
        let path = format!("/admin/v1/usage/{round}/amend");
        assert_eq!(server.call("POST", &path, &admin, &amendment).status, 200);
    };
    std::thread::scope(|scope| {
        scope.spawn(|| until_over(&call));
        scope.spawn(|| until_over(&send_and_amend));
        let said: Vec<_> = (0..4).map(|_| doctor(data.path())).collect();
        over.store(true, Ordering::Relaxed);
        assert!(said.iter().all(|(status, _)| *status == Some(0)), "{said:?}");
    });
}

/// The oldest segment of a journal.
fn segment(data: &Path) -> PathBuf {
    let names = fs::read_dir(data.join("journal")).unwrap().map(|entry| entry.unwrap().path());
    names.filter(|path| path.extension().is_some_and(|own| own == "journal")).min().unwrap()
}

#[test]
fn the_doctor_finds_a_journal_whose_chain_does_not_hold_and_tells_it_from_not_being_able_to_look() {
    let data = tempfile::tempdir().unwrap();
    used(data.path());
    let file = fs::OpenOptions::new().read(true).write(true).open(segment(data.path())).unwrap();
    // Within the first names after the header: what follows says that the disk had it.
    let mut byte = [0];
    file.read_exact_at(&mut byte, 200).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 200).unwrap();
    let (status, said) = doctor(data.path());
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains(".journal: after record 0, at byte"), "{said}");
    fs::remove_file(data.path().join("tollgate.db")).unwrap();
    assert_eq!(doctor(data.path()).0, Some(2));
}
