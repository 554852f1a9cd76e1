//! What a crash leaves half made is made whole by the next try, and taken down by the next removal, whichever half it is.

use tollgate::{
    kernel::{Isolation, Secret, SeededRng, TenantId, Timestamp},
    provisioning::{Driver as _, Finding, Place, Pool, PostgresConfig, PostgresDriver},
};

use super::postgres::{Cluster, cluster, connect};

fn driver(cluster: &Cluster, prefix: &str) -> PostgresDriver {
    let url = Secret::new(cluster.provisioner.clone());
    PostgresDriver::new(&PostgresConfig { url, prefix: prefix.to_owned(), schema: None }).unwrap()
}

fn place(isolation: Isolation, seed: u64) -> Place {
    let tenant = TenantId::generate(Timestamp::from_secs(1).unwrap(), &SeededRng::new(seed));
    let pool = if isolation == Isolation::Pool { Pool::DEFAULT } else { "" };
    Place { password: Some(Secret::new("a-password".into())), ..Place::new(tenant, isolation, pool.to_owned()) }
}

#[tokio::test]
async fn every_half_of_a_place_is_made_whole_and_every_half_is_taken_down() {
    let Some(cluster) = cluster().await else { return };
    let driver = driver(cluster, "half");
    let silo = place(Isolation::Silo, 1);
    let name = format!("half_s_{}", silo.tenant_id.as_uuid().simple());
    let pooled = place(Isolation::Pool, 2);
    let role = format!("half_p_{}", pooled.tenant_id.as_uuid().simple());
    // The pool itself stays, whoever comes and goes.
    driver.apply(&pooled).await.unwrap();
    driver.destroy(&pooled).await.unwrap();
    let before = cluster.all_of("half").await;
    for (what, of, sql) in [
        ("nothing", &silo, String::new()),
        ("a role", &silo, format!("CREATE ROLE {name} LOGIN PASSWORD 'x'")),
        ("a role that was locked", &silo, format!("CREATE ROLE {name} NOLOGIN")),
        ("a database alone", &silo, format!("CREATE DATABASE {name}")),
        ("nothing of the pool", &pooled, String::new()),
        ("a role without its group", &pooled, format!("CREATE ROLE {role} LOGIN PASSWORD 'x'")),
        ("a role that was locked in the pool", &pooled, format!("CREATE ROLE {role} NOLOGIN")),
    ] {
        let leave = async || {
            if !sql.is_empty() {
                let mut provisioner = connect(&cluster.provisioner).await;
                sqlx::raw_sql(sqlx::AssertSqlSafe(sql.clone())).execute(&mut provisioner).await.unwrap();
            }
        };
        leave().await;
        assert_ne!(driver.verify(of).await.unwrap(), Finding::Present, "{what}");
        assert!(!driver.plan(of).await.unwrap().is_empty(), "{what}");
        driver.apply(of).await.unwrap();
        driver.apply(of).await.unwrap();
        assert_eq!(driver.verify(of).await.unwrap(), Finding::Present, "{what}");
        assert!(driver.plan(of).await.unwrap().is_empty(), "{what}");
        driver.destroy(of).await.unwrap();
        assert_eq!(driver.verify(of).await.unwrap(), Finding::Absent, "{what}");
        // And once more, without making it whole.
        leave().await;
        driver.destroy(of).await.unwrap();
        driver.destroy(of).await.unwrap();
        assert_eq!(cluster.all_of("half").await, before, "{what}");
    }
}

#[tokio::test]
async fn eight_who_make_one_place_at_once_make_it_once() {
    let Some(cluster) = cluster().await else { return };
    for (isolation, prefix) in [(Isolation::Silo, "eights"), (Isolation::Pool, "eightp"), (Isolation::Bridge, "eightb")]
    {
        let place = place(isolation, 3);
        // Each a node of its own, which knows nothing of the others.
        let nodes: Vec<_> = (0..8).map(|_| driver(cluster, prefix)).collect();
        let made = futures_util::future::join_all(nodes.iter().map(|node| node.apply(&place))).await;
        for made in made {
            let location = made.unwrap().location;
            assert!(location.contains(&place.tenant_id.as_uuid().simple().to_string()), "{location}");
        }
        assert_eq!(nodes[0].verify(&place).await.unwrap(), Finding::Present);
        let gone = futures_util::future::join_all(nodes.iter().map(|node| node.destroy(&place))).await;
        assert!(gone.iter().all(Result::is_ok), "{gone:?}");
        let left = cluster.all_of(prefix).await;
        assert!(left.iter().all(|name| name.ends_with("_pool_default")), "{left:?}");
    }
}

#[tokio::test]
async fn somebody_who_is_connected_is_cut_off_when_the_place_goes() {
    let Some(cluster) = cluster().await else { return };
    let driver = driver(cluster, "cut");
    for isolation in [Isolation::Silo, Isolation::Pool] {
        let place = place(isolation, 4);
        let made = driver.apply(&place).await.unwrap();
        let credentials: serde_json::Value = serde_json::from_str(made.credentials.unwrap().expose()).unwrap();
        let mut client = connect(credentials["url"].as_str().unwrap()).await;
        sqlx::query("SELECT 1").execute(&mut client).await.unwrap();
        driver.destroy(&place).await.unwrap();
        assert!(sqlx::query("SELECT 1").execute(&mut client).await.is_err());
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told_and_nothing_is_made() {
    let url = Secret::new("postgres://nobody@127.0.0.1:1/postgres".into());
    let driver = PostgresDriver::new(&PostgresConfig { url, prefix: "tg".into(), schema: None }).unwrap();
    let refused = driver.reachable().await.unwrap_err();
    assert_eq!(refused.to_string(), "the postgres driver failed to reach the server");
    assert!(driver.apply(&place(Isolation::Silo, 5)).await.is_err());
}
