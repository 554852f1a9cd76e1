//! What a PostgreSQL server has of tenants that are gone is found and taken down by the doctor, and nothing else is.

use std::fs;

use tollgate::{
    kernel::{Isolation, Secret},
    provisioning::{Driver as _, PostgresConfig, PostgresDriver},
};

use super::postgres::{Client, cluster};
use crate::{server::tollgate, support::app::TestApp};

#[tokio::test]
async fn the_doctor_takes_down_what_is_left_of_tenants_that_are_gone_and_nobody_elses() {
    let Some(cluster) = cluster().await else { return };
    let settings = cluster.settings("stray");
    let app = TestApp::with(&settings).await;
    let admin = app.admin().await;
    let (stays, gone) = (app.tenant("Acme", "standard").await, app.tenant("Bolt", "premium").await);
    let client = Client::of(&admin, &stays).await;
    client.psql(&format!("INSERT INTO items VALUES ('{stays}', 'note', 'x')")).unwrap();
    admin.delete(&format!("/admin/v1/tenants/{gone}")).await.expect(200);
    drop(admin);
    let name = |kind: &str, id: &str| format!("stray_{kind}_{}", id.replace('-', ""));
    let unknown = "01900000-0000-7000-8000-0000000000cc";
    let mut provisioner = super::postgres::connect(&cluster.provisioner).await;
    for sql in [
        format!("CREATE ROLE {} LOGIN PASSWORD 'x'", name("s", &gone)),
        format!("CREATE DATABASE {}", name("s", &gone)),
        format!("CREATE ROLE {} LOGIN PASSWORD 'x'", name("p", &gone)),
        format!("GRANT stray_pool_default TO {}", name("p", &gone)),
        format!("CREATE DATABASE {}", name("s", unknown)),
        // Not a name of ours, however it begins.
        "CREATE ROLE stray_s_reports NOLOGIN".to_owned(),
    ] {
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut provisioner).await.unwrap();
    }
    let config = PostgresConfig { url: Secret::new(cluster.provisioner.clone()), prefix: "stray".into(), schema: None };
    let listed = PostgresDriver::new(&config).unwrap().list().await.unwrap();
    let mut listed: Vec<_> =
        listed.iter().map(|place| (place.tenant_id.to_string(), place.isolation, place.pool.clone())).collect();
    listed.sort_by_key(|(id, isolation, _)| (id.clone(), isolation.name()));
    let mut expected = vec![
        (unknown.to_owned(), Isolation::Silo, String::new()),
        (stays.clone(), Isolation::Pool, "default".to_owned()),
        (gone.clone(), Isolation::Pool, "default".to_owned()),
        (gone.clone(), Isolation::Silo, String::new()),
    ];
    expected.sort_by_key(|(id, isolation, _)| (id.clone(), isolation.name()));
    assert_eq!(listed, expected);

    let TestApp { app, router, folder, .. } = app;
    drop((app, router));
    let file = folder.path().join("settings.toml");
    fs::write(&file, &settings).unwrap();
    let doctor = |more: &[&str]| {
        let mut command = tollgate();
        command.arg("doctor").args(more).arg("--config").arg(&file).arg("--data").arg(folder.path());
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (status, said) = doctor(&[]);
    assert_eq!((status, said.matches("; --repair takes it down").count()), (Some(1), 2), "{said}");
    assert!(said.contains("it may be another installation's"), "{said}");
    let (status, said) = doctor(&["--repair"]);
    assert_eq!((status, said.matches("mended: ").count()), (Some(1), 2), "{said}");
    let left = cluster.all_of("stray").await;
    assert!(left.iter().all(|name| !name.contains(&gone.replace('-', ""))), "{left:?}");
    assert!(left.contains(&format!("database {}", name("s", unknown))), "{left:?}");
    assert_eq!(client.psql("SELECT key FROM items").unwrap(), "note");
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!("DROP DATABASE {}", name("s", unknown))))
        .execute(&mut provisioner)
        .await
        .unwrap();
    let (status, said) = doctor(&[]);
    assert_eq!(status, Some(0), "{said}");
}
