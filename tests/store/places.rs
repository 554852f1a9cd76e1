//! Places, pools and what the webhook driver asked for: the same on each engine.

use tollgate::{
    kernel::{InfrastructureId, Isolation, Rng, Secret, SeededRng, TenantId, Timestamp, ids::uuid_v7},
    provisioning::{
        Infrastructure, Leftover, Place,
        model::{Answered, Asked, KeptPlace, Verb},
    },
    store::{Scope, Store, StoreError},
};

use crate::support::postgres;

const JOB: Scope = Scope::Job("test");

fn now() -> Timestamp {
    "2026-11-10T12:00:00.123456Z".parse().unwrap()
}

fn kept(rng: &dyn Rng, isolation: Isolation, pool: &str) -> KeptPlace {
    KeptPlace {
        place: Place::new(TenantId::generate(now(), rng), isolation, pool.to_owned()),
        driver: "postgres".to_owned(),
        made: false,
        sealed: Some(vec![1, 2, 3]),
        read_at: None,
    }
}

async fn pools_give_away_what_they_have(store: &Store, rng: &dyn Rng) {
    let places: Vec<KeptPlace> = (0..3).map(|_| kept(rng, Isolation::Pool, "north")).collect();
    for (place, taken) in places.iter().zip([true, true, false]) {
        let mut tx = store.begin(JOB).await.unwrap();
        assert_eq!(tx.pool_take("postgres", "north", 2).await.unwrap(), taken);
        assert!(tx.place_insert(place).await.unwrap());
        assert!(!tx.place_insert(place).await.unwrap(), "it is noted already");
        if taken {
            tx.commit().await.unwrap();
        }
    }
    let mut tx = store.begin(JOB).await.unwrap();
    assert_eq!(tx.pools_taken("postgres").await.unwrap(), [("north".to_owned(), 2)]);
    assert_eq!(tx.pools_taken("sqlite").await.unwrap(), []);
    assert!(tx.place(places[2].place.tenant_id, Isolation::Pool, "postgres").await.unwrap().is_none());
    for _ in 0..2 {
        tx.place_delete(places[0].place.tenant_id, Isolation::Pool, "postgres").await.unwrap();
    }
    assert_eq!(tx.pools_taken("postgres").await.unwrap(), [("north".to_owned(), 1)], "given back once");
    assert!(tx.pool_take("postgres", "north", 2).await.unwrap());
}

async fn credentials_are_taken_once_and_renewed_one_at_a_time(store: &Store, rng: &dyn Rng) {
    let mut place = kept(rng, Isolation::Silo, "");
    let tenant = place.place.tenant_id;
    let mut tx = store.begin(JOB).await.unwrap();
    assert!(!tx.place_update(&place).await.unwrap(), "it is not noted");
    tx.place_insert(&place).await.unwrap();
    assert!(tx.place_in_use(tenant).await.unwrap().is_none());
    let used = Infrastructure {
        id: InfrastructureId::generate(now(), rng),
        tenant_id: tenant,
        isolation: Isolation::Silo,
        driver: "postgres".into(),
        location: "tg_s".into(),
        created_at: now(),
    };
    tx.infrastructure_put(&used).await.unwrap();
    assert!(!tx.place_in_use(tenant).await.unwrap().unwrap().made);
    assert_eq!(tx.places_in_use("postgres").await.unwrap().len(), 0, "what is half made is not in use");
    assert!(!tx.place_credentials_renew(&place).await.unwrap(), "it is not all made");
    place.made = true;
    place.place.upstream = Some("http://127.0.0.1:9".into());
    assert!(tx.place_update(&place).await.unwrap());
    assert_eq!(tx.places_in_use("postgres").await.unwrap()[0].place.upstream, place.place.upstream);
    assert!(tx.place_credentials_renew(&place).await.unwrap() && !tx.place_credentials_renew(&place).await.unwrap());
    assert!(!tx.place_credentials_take(&place, &[9], now()).await.unwrap(), "those are others");
    assert!(tx.place_credentials_take(&place, &[1, 2, 3], now()).await.unwrap());
    assert!(!tx.place_credentials_take(&place, &[1, 2, 3], now()).await.unwrap());
    let read = tx.place_in_use(tenant).await.unwrap().unwrap();
    assert_eq!((read.credentials(), read.read_at, read.sealed), ("read", Some(now()), None));
    tx.leftover_insert(&Leftover::from(&place)).await.unwrap();
    assert_eq!(tx.leftovers_of(tenant).await.unwrap(), [Leftover::from(&place)]);
    tx.commit().await.unwrap();
    // Another tenant has no part in it.
    let mut tx = store.begin(Scope::Tenant(TenantId::generate(now(), rng))).await.unwrap();
    assert!(tx.place_in_use(tenant).await.unwrap().is_none());
    assert!(matches!(tx.place(tenant, Isolation::Silo, "postgres").await, Err(StoreError::OutOfScope)));
    assert!(matches!(tx.places(tenant).await, Err(StoreError::OutOfScope)));
    assert!(matches!(tx.place_update(&place).await, Err(StoreError::OutOfScope)));
    assert!(matches!(tx.place_credentials_take(&place, &[1], now()).await, Err(StoreError::OutOfScope)));
    assert!(matches!(tx.place_delete(tenant, Isolation::Silo, "postgres").await, Err(StoreError::OutOfScope)));
}

async fn what_was_asked_for_is_answered_once(store: &Store, rng: &dyn Rng) {
    let tenant_id = TenantId::generate(now(), rng);
    let mut tx = store.begin(JOB).await.unwrap();
    for (verb, later_s) in [(Verb::Apply, 0), (Verb::Destroy, 1)] {
        let asked = Asked {
            id: uuid_v7(now().plus_secs(later_s), rng),
            tenant_id,
            isolation: Isolation::Silo,
            verb,
            answered: None,
        };
        assert_eq!(tx.asked(tenant_id, Isolation::Silo, verb).await.unwrap(), None);
        tx.asked_insert(&asked, now()).await.unwrap();
        let first = Answered { succeeded: verb == Verb::Apply, sealed: vec![7] };
        assert!(tx.asked_answer(asked.id, &first, now()).await.unwrap());
        let second = Answered { succeeded: false, sealed: vec![8] };
        assert!(!tx.asked_answer(asked.id, &second, now()).await.unwrap(), "the first one counts");
        let answered = Asked { answered: Some(first), ..asked };
        assert_eq!(tx.asked_by_id(answered.id).await.unwrap().as_ref(), Some(&answered));
        assert_eq!(tx.asked_of(tenant_id, Some(verb)).await.unwrap().as_ref(), Some(&answered));
        assert_eq!(tx.asked_of(tenant_id, None).await.unwrap().as_ref(), Some(&answered));
        assert_eq!(tx.asked(tenant_id, Isolation::Bridge, verb).await.unwrap(), None);
    }
    tx.asked_delete(tenant_id, Isolation::Silo).await.unwrap();
    assert_eq!(tx.asked_of(tenant_id, None).await.unwrap(), None);
}

async fn contract(store: Store) {
    let rng = SeededRng::new(52);
    pools_give_away_what_they_have(&store, &rng).await;
    credentials_are_taken_once_and_renewed_one_at_a_time(&store, &rng).await;
    what_was_asked_for_is_answered_once(&store, &rng).await;
}

#[tokio::test]
async fn places_are_kept_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    contract(Store::open_sqlite(&folder.path().join("test.db")).await.unwrap()).await;
}

#[tokio::test]
async fn places_are_kept_on_postgresql() {
    let Some(server) = postgres::shared() else { return };
    contract(Store::open_postgres(&Secret::new(server.database().await), 5).await.unwrap()).await;
}
