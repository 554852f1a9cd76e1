//! The driver on files of a folder.

use super::*;
use crate::kernel::{SeededRng, Timestamp};

fn place(tenant: TenantId, isolation: Isolation) -> Place {
    let pool = if isolation == Isolation::Pool { Pool::DEFAULT } else { "" };
    Place::new(tenant, isolation, pool.to_owned())
}

async fn items(driver: &SqliteDriver, place: &Place) -> Vec<String> {
    let mut db = open(&driver.file(place)).await.unwrap();
    let sql = "SELECT key FROM items WHERE tenant_id = $1 ORDER BY key";
    sqlx::query_scalar(sql).bind(place.tenant_id.as_uuid()).fetch_all(&mut db).await.unwrap()
}

async fn put(driver: &SqliteDriver, place: &Place, key: &str) {
    let mut db = open(&driver.file(place)).await.unwrap();
    let sql = "INSERT INTO items (tenant_id, key, value) VALUES ($1, $2, x'00')";
    sqlx::query(sql).bind(place.tenant_id.as_uuid()).bind(key).execute(&mut db).await.unwrap();
}

#[tokio::test]
async fn a_tenant_moves_from_the_pool_to_its_silo_with_its_data_and_nobody_elses() {
    let folder = tempfile::tempdir().unwrap();
    let driver = SqliteDriver::new(folder.path().join("infrastructure"));
    let (rng, now) = (SeededRng::new(1), Timestamp::from_secs(1).unwrap());
    let (mover, stayer) = (TenantId::generate(now, &rng), TenantId::generate(now, &rng));
    for tenant in [mover, stayer] {
        let place = place(tenant, Isolation::Pool);
        assert_eq!(driver.verify(&place).await.unwrap(), Finding::Absent);
        assert_eq!(driver.plan(&place).await.unwrap(), ["make a row space in pool.db"]);
        driver.apply(&place).await.unwrap();
        driver.apply(&place).await.unwrap();
        assert_eq!(driver.verify(&place).await.unwrap(), Finding::Present);
        assert!(driver.plan(&place).await.unwrap().is_empty());
        put(&driver, &place, "note").await;
    }
    let (pooled, siloed) = (place(mover, Isolation::Pool), place(mover, Isolation::Silo));
    driver.apply(&siloed).await.unwrap();
    driver.carry_over(&pooled, &siloed).await.unwrap();
    driver.destroy(&pooled).await.unwrap();
    assert_eq!(items(&driver, &siloed).await, ["note"]);
    let rows = (driver.tally(&siloed).await.unwrap().rows, driver.tally(&pooled).await.unwrap().rows);
    assert_eq!(rows, (1, 0));
    assert!(items(&driver, &pooled).await.is_empty());
    assert_eq!(items(&driver, &place(stayer, Isolation::Pool)).await, ["note"]);
}

#[tokio::test]
async fn a_second_copy_takes_away_what_is_gone_and_a_place_that_somebody_wrote_to_stays() {
    let folder = tempfile::tempdir().unwrap();
    let driver = SqliteDriver::new(folder.path().to_owned());
    let tenant = TenantId::generate(Timestamp::from_secs(1).unwrap(), &SeededRng::new(4));
    for (from, to) in [(Isolation::Pool, Isolation::Silo), (Isolation::Silo, Isolation::Pool)] {
        let (from, to) = (place(tenant, from), place(tenant, to));
        driver.apply(&from).await.unwrap();
        driver.apply(&to).await.unwrap();
        for key in ["a", "b", "c"] {
            put(&driver, &from, key).await;
        }
        assert_eq!(driver.carry_over(&from, &to).await.unwrap().rows, 3);
        let mut db = open(&driver.file(&from)).await.unwrap();
        sqlx::raw_sql("DELETE FROM items WHERE key = 'a'; UPDATE items SET value = x'07' WHERE key = 'b'")
            .execute(&mut db)
            .await
            .unwrap();
        let carried = driver.carry_over(&from, &to).await.unwrap();
        assert_eq!(carried, driver.tally(&to).await.unwrap());
        assert_eq!(items(&driver, &to).await, ["b", "c"]);
        put(&driver, &from, "late").await;
        let found = driver.destroy_unless_changed(&from, &carried).await.unwrap().unwrap();
        assert_eq!(found.rows, 3);
        assert_eq!(items(&driver, &from).await, ["b", "c", "late"]);
        sqlx::raw_sql("DELETE FROM items WHERE key = 'late'").execute(&mut db).await.unwrap();
        assert_eq!(driver.destroy_unless_changed(&from, &carried).await.unwrap(), None);
        assert_eq!(driver.verify(&from).await.unwrap(), Finding::Absent);
        // Whoever still has the file open is told that there is nothing to write to.
        let late = "INSERT INTO items (tenant_id, key, value) VALUES ($1, 'later', x'00')";
        assert!(sqlx::query(late).bind(tenant.as_uuid()).execute(&mut db).await.is_err());
        assert_eq!(driver.destroy_unless_changed(&from, &carried).await.unwrap(), None);
        driver.destroy(&to).await.unwrap();
    }
}

#[tokio::test]
async fn taking_down_twice_is_no_error_and_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let driver = SqliteDriver::new(folder.path().to_owned());
    let tenant = TenantId::generate(Timestamp::from_secs(1).unwrap(), &SeededRng::new(2));
    for (isolation, below) in [(Isolation::Silo, "silo"), (Isolation::Bridge, "bridge")] {
        let place = place(tenant, isolation);
        driver.apply(&place).await.unwrap();
        driver.destroy(&place).await.unwrap();
        driver.destroy(&place).await.unwrap();
        assert_eq!(std::fs::read_dir(folder.path().join(below)).unwrap().count(), 0);
    }
}

#[tokio::test]
async fn a_file_that_is_half_made_is_seen_and_made_whole() {
    let folder = tempfile::tempdir().unwrap();
    let driver = SqliteDriver::new(folder.path().to_owned());
    let tenant = TenantId::generate(Timestamp::from_secs(1).unwrap(), &SeededRng::new(3));
    let place = place(tenant, Isolation::Silo);
    // As a crash between the file and its tables leaves it.
    drop(open(&driver.file(&place)).await.unwrap());
    assert!(matches!(driver.verify(&place).await.unwrap(), Finding::Drifted(_)));
    driver.apply(&place).await.unwrap();
    assert_eq!(driver.verify(&place).await.unwrap(), Finding::Present);
}

/// Locks that this process has of a file.
#[cfg(target_os = "linux")]
fn locks(file: &Path) -> usize {
    use std::os::unix::fs::MetadataExt as _;
    let (own, of) = (std::process::id().to_string(), format!(":{} ", std::fs::metadata(file).unwrap().ino()));
    let all = std::fs::read_to_string("/proc/locks").unwrap();
    all.lines().filter(|line| line.contains(&of) && line.split_whitespace().any(|word| word == own)).count()
}

/// Without them another program that closes the file takes its log away.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn looking_at_a_place_gives_up_no_lock_of_its_pool() {
    let folder = tempfile::tempdir().unwrap();
    let driver = SqliteDriver::new(folder.path().to_owned());
    let place = place(TenantId::generate(Timestamp::from_secs(1).unwrap(), &SeededRng::new(4)), Isolation::Pool);
    driver.apply(&place).await.unwrap();
    let before = locks(&driver.file(&place));
    assert!(before > 0);
    driver.verify(&place).await.unwrap();
    driver.tally(&place).await.unwrap();
    assert_eq!(locks(&driver.file(&place)), before);
}

#[tokio::test]
async fn tables_of_a_tenants_own_are_seen_and_never_left_behind() {
    let folder = tempfile::tempdir().unwrap();
    let driver = SqliteDriver::new(folder.path().to_owned());
    let tenant = TenantId::generate(Timestamp::from_secs(1).unwrap(), &SeededRng::new(5));
    let (siloed, pooled) = (place(tenant, Isolation::Silo), place(tenant, Isolation::Pool));
    for place in [&siloed, &pooled] {
        driver.apply(place).await.unwrap();
    }
    let mut db = open(&driver.file(&siloed)).await.unwrap();
    sqlx::raw_sql("CREATE TABLE \"or\"\"ders\" (id INTEGER); INSERT INTO \"or\"\"ders\" VALUES (1), (2)")
        .execute(&mut db)
        .await
        .unwrap();
    assert_eq!(driver.tally(&siloed).await.unwrap().rows, 2);
    let refused = driver.carry_over(&siloed, &pooled).await.unwrap_err();
    assert!(crate::kernel::fault::chain(&refused).contains("or\"ders"), "{refused:?}");
    sqlx::raw_sql("DELETE FROM \"or\"\"ders\"").execute(&mut db).await.unwrap();
    driver.carry_over(&siloed, &pooled).await.unwrap();
}
