//! What every engine must do alike.

use serde_json::json;
use tollgate::{
    identity::{Allowed, Browser, DeviceGrant, DeviceState, Proof, ScopeSet, SeenBrowser},
    kernel::{
        Act, Actor, BrowserId, CalendarUnit, ClientId, Email, Event, EventId, EventName, Isolation, PageRequest,
        Period, PersonName, Quantity, Rng, SeededRng, TenantId, Timestamp, UserId, WebhookId,
        audit::{AuditFilter, ChainWalk},
        ids::uuid_v7,
    },
    metering::{
        MeterKey,
        model::{Cell, Cursor, Stretch, Total},
    },
    provisioning::Infrastructure,
    store::{Claim, Scope, Store, StoreError, Tx},
    tenants::{Failure, Status, Suspension, Tenant, TenantFilter},
    users::{Membership, MembershipStatus, Role, User},
    webhooks::{Attempt, Events, Failing, Format, OffReason, OutboxFilter, Outcome, Webhook, WebhookState},
};

use crate::support::postgres;

const JOB: Scope = Scope::Job("test");

/// Runs a test on the embedded store and, where it is installed, on PostgreSQL.
macro_rules! on_each_engine {
    ($($(#[$doc:meta])* async fn $name:ident($store:ident: Store) $body:block)*) => {$(
        mod $name {
            use super::*;

            async fn contract($store: Store) $body

            #[tokio::test]
            async fn sqlite() {
                let folder = tempfile::tempdir().unwrap();
                contract(Store::open_sqlite(&folder.path().join("test.db")).await.unwrap()).await;
            }

            #[tokio::test]
            async fn postgres() {
                let Some(server) = postgres::shared() else { return };
                let url = tollgate::kernel::Secret::new(server.database().await);
                contract(Store::open_postgres(&url, 5).await.unwrap()).await;
            }
        }
    )*};
}

fn now() -> Timestamp {
    "2026-11-10T12:00:00.123456Z".parse().unwrap()
}

fn rng() -> SeededRng {
    SeededRng::new(42)
}

fn tenant(name: &str, rng: &dyn Rng) -> Tenant {
    Tenant {
        id: TenantId::generate(now(), rng),
        customer_name: name.parse().unwrap(),
        external_id: None,
        tier: "standard".parse().unwrap(),
        status: Status::Provisioning,
        unavailable: None,
        revision: 1,
        created_at: now(),
    }
}

async fn insert(store: &Store, tenant: &Tenant) -> bool {
    let mut tx = store.begin(JOB).await.unwrap();
    let inserted = tx.tenant_insert(tenant).await.unwrap();
    tx.commit().await.unwrap();
    inserted
}

on_each_engine! {
    async fn a_tenant_comes_back_as_it_was_written(store: Store) {
        let rng = rng();
        let failure = Failure { step: "provisioning".into(), reason: "disk \"full\"".into(), retryable: true };
        let to = "premium".parse().unwrap();
        let states = [Status::Active, Status::ChangingTier { to }, Status::Failed(failure), Status::Deleted { at: now() }];
        for (number, status) in states.into_iter().enumerate() {
            let external_id = Some(format!("ext {number}").parse().unwrap());
            let written = Tenant { status, external_id, ..tenant(&format!("Ünïcode {number}"), &rng) };
            assert!(insert(&store, &written).await);
            let read = store.read(JOB).await.unwrap().tenant_by_id(written.id).await.unwrap();
            assert_eq!(read, Some(written));
        }
    }

    async fn a_customer_name_belongs_to_one_tenant_until_it_is_deleted(store: Store) {
        let rng = rng();
        let first = tenant("Acme", &rng);
        assert!(insert(&store, &first).await);
        assert!(!insert(&store, &tenant("Acme", &rng)).await);
        let mut tx = store.begin(JOB).await.unwrap();
        let going = Tenant { status: Status::Offboarding, ..first };
        assert!(tx.tenant_update(&going, now()).await.unwrap());
        let gone = Tenant { status: Status::Deleted { at: now() }, revision: 2, ..going };
        assert!(tx.tenant_update(&gone, now()).await.unwrap());
        tx.commit().await.unwrap();
        assert!(insert(&store, &tenant("Acme", &rng)).await);
    }

    async fn a_stale_copy_of_a_tenant_is_not_written(store: Store) {
        let rng = rng();
        let read_by_two = tenant("Acme", &rng);
        insert(&store, &read_by_two).await;
        let mut tx = store.begin(JOB).await.unwrap();
        let active = Tenant { status: Status::Active, ..read_by_two.clone() };
        assert!(tx.tenant_update(&active, now()).await.unwrap());
        let late = Tenant { status: Status::Suspended(Suspension::Asked), ..read_by_two };
        assert!(!tx.tenant_update(&late, now()).await.unwrap());
    }

    async fn a_transaction_that_is_dropped_leaves_nothing(store: Store) {
        let rng = rng();
        let lost = tenant("Lost", &rng);
        let mut tx = store.begin(JOB).await.unwrap();
        tx.tenant_insert(&lost).await.unwrap();
        drop(tx);
        assert_eq!(store.begin(JOB).await.unwrap().tenant_by_id(lost.id).await.unwrap(), None);
    }

    async fn a_tenants_scope_sees_and_writes_its_own_rows_alone(store: Store) {
        let rng = rng();
        let (own, other) = (tenant("Own", &rng), tenant("Other", &rng));
        insert(&store, &own).await;
        insert(&store, &other).await;
        let scope = Scope::Tenant(own.id);
        let mut tx = store.read(scope).await.unwrap();
        assert!(tx.tenant_by_id(own.id).await.unwrap().is_some());
        assert_eq!(tx.tenant_by_id(other.id).await.unwrap(), None);
        assert_eq!(tx.tenant_by_customer_name(&other.customer_name).await.unwrap(), None);
        let listed = tx.tenants(&TenantFilter::default(), PageRequest::default()).await.unwrap();
        assert_eq!(listed.iter().map(|tenant| tenant.id).collect::<Vec<_>>(), [own.id]);
        assert!(tx.members(other.id, PageRequest::default()).await.unwrap().is_empty());
        assert_eq!(tx.infrastructure(other.id).await.unwrap(), None);
        drop(tx);
        let mut tx = store.begin(scope).await.unwrap();
        assert!(matches!(tx.tenant_update(&other, now()).await, Err(StoreError::OutOfScope)));
        assert!(matches!(tx.infrastructure_delete(other.id).await, Err(StoreError::OutOfScope)));
    }

    async fn lists_are_filtered_and_paged_in_order_of_creation(store: Store) {
        let rng = rng();
        let mut ids = Vec::new();
        for number in 0..7_i64 {
            let id = TenantId::generate(now().plus_secs(number), &rng);
            let tier = if number % 2 == 0 { "free" } else { "premium" };
            let one = Tenant { id, tier: tier.parse().unwrap(), ..tenant(&format!("T{number}"), &rng) };
            insert(&store, &one).await;
            ids.push(id);
        }
        let mut tx = store.read(JOB).await.unwrap();
        let mut walked = Vec::new();
        let mut after = None;
        loop {
            let request = PageRequest::new(Some(3), after).unwrap();
            let rows = tx.tenants(&TenantFilter::default(), request).await.unwrap();
            let page = request.page(rows, |tenant| tenant.id.as_uuid());
            walked.extend(page.items.iter().map(|tenant| tenant.id));
            after = page.next_cursor;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(walked, ids);
        let filter = TenantFilter { tier: Some("premium".parse().unwrap()), ..TenantFilter::default() };
        assert_eq!(tx.tenants(&filter, PageRequest::default()).await.unwrap().len(), 3);
        let filter = TenantFilter { status: Some("deleted".into()), ..TenantFilter::default() };
        assert!(tx.tenants(&filter, PageRequest::default()).await.unwrap().is_empty());
    }

    async fn an_email_is_one_person_whatever_its_case(store: Store) {
        let rng = rng();
        let user = |email: &str| User {
            id: UserId::generate(now(), &rng),
            email: email.parse().unwrap(),
            email_verified_at: None,
            name: None,
            platform_admin: false,
            created_at: now(),
            updated_at: now(),
        };
        let mut tx = store.begin(JOB).await.unwrap();
        let ada = user("Ada@Example.com");
        assert!(tx.user_insert(&ada).await.unwrap());
        assert!(!tx.user_insert(&user("ada@example.COM")).await.unwrap());
        let other_case: Email = "ADA@example.com".parse().unwrap();
        assert_eq!(tx.user_by_email(&other_case).await.unwrap(), Some(ada.clone()));
        // What a person says of themselves, and since when their email is known to reach them: the first time counts.
        let name: PersonName = "Ada Lovelace".parse().unwrap();
        tx.user_rename(ada.id, Some(&name), now().plus_secs(1)).await.unwrap();
        for later in [2, 3] {
            tx.user_email_verified(ada.id, now().plus_secs(later)).await.unwrap();
        }
        let known = tx.user_by_id(ada.id).await.unwrap().unwrap();
        assert_eq!((known.name, known.email_verified_at), (Some(name), Some(now().plus_secs(2))));
        assert_eq!(known.updated_at, now().plus_secs(2));
    }

    async fn guesses_at_a_device_are_counted_and_forgotten(store: Store) {
        let user = UserId::generate(now(), &rng());
        let mut tx = store.begin(JOB).await.unwrap();
        let at = |secs: i64| now().plus_secs(secs);
        for guess in 0..3 {
            assert!(tx.device_guess(user, at(guess - 600), at(guess), 3).await.unwrap(), "{guess}");
        }
        assert!(!tx.device_guess(user, at(-597), at(3), 3).await.unwrap());
        // The window begins with the first, and ends for all of them.
        assert!(!tx.device_guess(user, at(-1), at(599), 3).await.unwrap());
        for guess in 600..603 {
            assert!(tx.device_guess(user, at(guess - 600), at(guess), 3).await.unwrap(), "{guess}");
        }
        assert!(!tx.device_guess(user, at(3), at(603), 3).await.unwrap());
    }

    async fn a_person_is_forgotten_with_their_last_membership(store: Store) {
        let rng = rng();
        let home = tenant("Home", &rng);
        insert(&store, &home).await;
        let id = UserId::generate(now(), &rng);
        let ada = User {
            id,
            email: "ada@example.com".parse().unwrap(),
            email_verified_at: None,
            name: None,
            platform_admin: false,
            created_at: now(),
            updated_at: now(),
        };
        let place = Membership {
            tenant_id: home.id,
            user_id: id,
            role: Role::Owner,
            status: MembershipStatus::Active,
            created_at: now().plus_secs(5),
        };
        let mut tx = store.begin(JOB).await.unwrap();
        tx.user_insert(&ada).await.unwrap();
        assert!(tx.membership_insert(&place).await.unwrap());
        assert!(!tx.membership_insert(&place).await.unwrap());
        assert!(!tx.user_forget_if_homeless(id).await.unwrap());
        let member = tx.member(home.id, id).await.unwrap().unwrap();
        assert_eq!((member.user, member.membership), (ada, place));
        assert!(tx.membership_delete(home.id, id).await.unwrap());
        assert!(tx.user_forget_if_homeless(id).await.unwrap());
        assert_eq!(tx.user_by_id(id).await.unwrap(), None);
    }

    async fn infrastructure_is_one_per_tenant(store: Store) {
        let rng = rng();
        let home = tenant("Home", &rng);
        insert(&store, &home).await;
        let made = |isolation, location: &str| Infrastructure {
            id: tollgate::kernel::InfrastructureId::generate(now(), &rng),
            tenant_id: home.id,
            isolation,
            driver: "sqlite".into(),
            location: location.into(),
            created_at: now(),
        };
        let (pooled, siloed) = (made(Isolation::Pool, "pool.db"), made(Isolation::Silo, "silo.db"));
        let mut tx = store.begin(JOB).await.unwrap();
        tx.infrastructure_put(&pooled).await.unwrap();
        tx.infrastructure_put(&siloed).await.unwrap();
        assert_eq!(tx.infrastructure(home.id).await.unwrap(), Some(siloed));
    }

    async fn totals_keep_every_digit_and_a_writer_replaces_its_own(store: Store) {
        let rng = rng();
        let writers = [uuid::Uuid::from_u128(1), uuid::Uuid::from_u128(2)];
        let apis: MeterKey = "apis".parse().unwrap();
        let home = tenant("Home", &rng);
        insert(&store, &home).await;
        let cell = |minute: i64| Cell {
            tenant: home.id,
            meter: apis.clone(),
            unit: CalendarUnit::Minute,
            start: now().floor_minute().plus_secs(60 * minute),
            group: "{\"route\":\"/sample/\"}".into(),
        };
        let of = |value: Quantity| Total::one(value, 1, 2);
        let exact: Quantity = "1234567890123456789012.345678".parse().unwrap();
        let mut tx = store.begin(JOB).await.unwrap();
        // More rows than one statement takes.
        let many: Vec<_> = (0..600).map(|minute| (cell(minute), of(Quantity::from(minute)))).collect();
        tx.totals_put(writers[0], &many).await.unwrap();
        tx.totals_put(writers[0], &[(cell(0), of(exact))]).await.unwrap();
        tx.totals_put(writers[1], &[(cell(0), of(Quantity::ONE))]).await.unwrap();
        let cells: Vec<_> = (0..700).map(cell).collect();
        let mut read = tx.totals_of_writer(writers[0], &cells).await.unwrap();
        read.sort_by_key(|(cell, _)| cell.start);
        assert_eq!((read.len(), &read[0]), (600, &(cell(0), of(exact))));
        let from = now().floor_minute();
        let period = |minutes: i64| Period::new(from, from.plus_secs(60 * minutes)).unwrap();
        let stretch = |unit, minutes| Stretch { unit, period: period(minutes) };
        let stretches = [stretch(CalendarUnit::Minute, 2), stretch(CalendarUnit::Hour, 60)];
        for tenant in [Some(home.id), None] {
            let found = tx.totals(tenant, &apis, &stretches).await.unwrap();
            let mut values: Vec<_> = found.iter().map(|found| found.total.sum).collect();
            values.sort();
            assert_eq!(values, [Quantity::ONE, Quantity::ONE, exact]);
        }
    }

    async fn a_journals_cursor_moves_only_from_where_it_was_found(store: Store) {
        let boot = uuid::Uuid::from_u128(9);
        let cursor = |seq: i64| Cursor { seq, hash: vec![7; 16] };
        let mut tx = store.begin(JOB).await.unwrap();
        assert!(tx.journal_cursor_move(boot, None, &cursor(10), now()).await.unwrap());
        assert!(!tx.journal_cursor_move(boot, None, &cursor(10), now()).await.unwrap(), "the range was counted before");
        assert!(!tx.journal_cursor_move(boot, Some(9), &cursor(12), now()).await.unwrap());
        assert!(tx.journal_cursor_move(boot, Some(10), &cursor(11), now()).await.unwrap());
        assert_eq!(tx.journal_cursor(boot).await.unwrap(), Some(cursor(11)));
    }

    async fn a_nodes_start_is_taken_once(store: Store) {
        let node = tollgate::kernel::NodeId::from_uuid(uuid::Uuid::from_u128(9));
        let mut tx = store.begin(JOB).await.unwrap();
        assert_eq!(tx.journal_last_epoch(node).await.unwrap(), 0);
        assert!(tx.journal_start_insert(node, 4, uuid::Uuid::from_u128(1), now()).await.unwrap());
        assert!(!tx.journal_start_insert(node, 4, uuid::Uuid::from_u128(2), now()).await.unwrap());
        assert_eq!(tx.journal_last_epoch(node).await.unwrap(), 4);
    }

    async fn an_idempotency_key_is_claimed_once(store: Store) {
        let long_ago = now().plus_secs(-3_600);
        let mut tx = store.begin(JOB).await.unwrap();
        let mut claim = async |owner, body: &[u8], stale, old| tx.idempotency_claim(owner, "k", body, now(), stale, old).await.unwrap();
        assert_eq!(claim("o", b"one", long_ago, long_ago).await, Claim::New);
        assert_eq!(claim("o", b"one", long_ago, long_ago).await, Claim::Running);
        assert_eq!(claim("o", b"two", long_ago, long_ago).await, Claim::OtherBody);
        assert_eq!(claim("p", b"two", long_ago, long_ago).await, Claim::New);
        tx.idempotency_answer("o", "k", "done").await.unwrap();
        let mut claim = async |owner, body: &[u8], stale, old| tx.idempotency_claim(owner, "k", body, now(), stale, old).await.unwrap();
        assert_eq!(claim("o", b"one", long_ago, long_ago).await, Claim::Answered("done".into()));
        let later = now().plus_secs(3_600);
        assert_eq!(claim("p", b"two", later, long_ago).await, Claim::New, "its process died");
        assert_eq!(claim("o", b"two", long_ago, later).await, Claim::New, "it was long ago");
    }

    async fn the_audit_is_read_in_order_and_by_whose_affair_it_is(store: Store) {
        let rng = rng();
        let (acme, globex) = (tenant("Acme", &rng), tenant("Globex", &rng));
        let mut tx = store.begin(JOB).await.unwrap();
        let subjects = [(&acme, "one"), (&globex, "two"), (&acme, "three")];
        for (seconds, (of, subject)) in (0_i64..).zip(subjects) {
            let at = now().plus_secs(seconds);
            let (actor, detail) = (Actor::Job("test"), (subject == "two").then(|| "more".to_owned()));
            let act = Act { actor, action: "thing.done", tenant: Some(of.id), subject: subject.into(), detail };
            tx.audit_insert(uuid_v7(at, &rng), at, &act).await.unwrap();
        }
        tx.commit().await.unwrap();
        let page = PageRequest::new(None, None).unwrap();
        let of = async |scope, filter: AuditFilter| {
            let entries = store.read(scope).await.unwrap().audit(&filter, page).await.unwrap();
            entries.into_iter().map(|entry| entry.subject).collect::<Vec<_>>()
        };
        assert_eq!(of(JOB, AuditFilter::default()).await, ["one", "two", "three"]);
        assert_eq!(of(JOB, AuditFilter { tenant: Some(acme.id), ..AuditFilter::default() }).await, ["one", "three"]);
        assert_eq!(of(JOB, AuditFilter { subject: Some("two".into()), ..AuditFilter::default() }).await, ["two"]);
        assert_eq!(of(JOB, AuditFilter { actor: Some("job:other".into()), ..AuditFilter::default() }).await, [""; 0]);
        assert_eq!(of(Scope::Tenant(globex.id), AuditFilter::default()).await, ["two"]);
    }

    async fn what_people_allowed_is_kept_by_tenant_and_ends_with_their_sign_ins(store: Store) {
        let rng = rng();
        let (user, client) = (UserId::generate(now(), &rng), ClientId::generate(now(), &rng));
        let (acme, globex) = (tenant("Acme", &rng).id, tenant("Globex", &rng).id);
        let scope = ScopeSet::parse("openid");
        let mut tx = store.begin(JOB).await.unwrap();
        tx.consent_put(user, client, acme, &scope, now()).await.unwrap();
        tx.consent_put(user, client, acme, &scope, now()).await.unwrap();
        assert_eq!(tx.consent(user, client, acme).await.unwrap(), Some(scope.clone()));
        assert_eq!(tx.consent(user, client, globex).await.unwrap(), None);

        assert!(tx.stamp_spend(&[9; 32], now()).await.unwrap());
        assert!(!tx.stamp_spend(&[9; 32], now()).await.unwrap());
        tx.requests_forget(now()).await.unwrap();
        assert!(tx.stamp_spend(&[9; 32], now()).await.unwrap());

        let (authenticated_at, expires_at, proof) = (now(), now().plus_secs(60), Proof::Password);
        let browser =
            Browser { id: BrowserId::generate(now(), &rng), user_id: user, proof, authenticated_at, expires_at };
        let id = browser.id;
        tx.browser_insert(&[1; 32], &SeenBrowser { browser, address: None, seen_at: now() }).await.unwrap();
        assert!(tx.browser_lock(id).await.unwrap());
        let (hash, user_code_hash, state) = ([2; 32], [3; 32], DeviceState::Pending);
        let device = DeviceGrant {
            hash, user_code_hash, client_id: client, scope, state, interval_s: 5, polled_at: None, expires_at,
        };
        tx.device_insert(&device).await.unwrap();
        let allowed = Allowed { user_id: user, tenant_id: acme, browser_id: id, authenticated_at, proof };
        assert!(tx.device_decide(&user_code_hash, Some(&allowed), now()).await.unwrap());
        tx.browsers_delete_but(user, None).await.unwrap();
        assert!(!tx.browser_lock(id).await.unwrap());
        tx.browser_delete(id).await.unwrap();
        assert!(!tx.browser_leave(&[1; 32]).await.unwrap());
        assert_eq!(tx.device_lock(&hash).await.unwrap().unwrap().state, DeviceState::Denied);
        tx.sign_ins_end_of_person(user, now(), "test").await.unwrap();
        tx.reset_link_insert(&[4; 32], user, now(), expires_at).await.unwrap();
        tx.reset_links_end(user, now()).await.unwrap();
        assert_eq!(tx.reset_link(&[4; 32], now()).await.unwrap(), None);
        tx.commit().await.unwrap();
    }

    async fn opening_again_and_by_two_at_once_changes_nothing(store: Store) {
        insert(&store, &tenant("Acme", &rng())).await;
        let listed = store.read(JOB).await.unwrap().tenants(&TenantFilter::default(), PageRequest::default()).await;
        assert_eq!(listed.unwrap().len(), 1);
    }

    /// A soft quota is told of once a period, and of another limit anew; what is as old as the audit is forgotten with it.
    async fn a_quota_that_was_exceeded_is_noted_once(store: Store) {
        let tenant = TenantId::generate(now(), &rng());
        let apis: MeterKey = "apis".parse().unwrap();
        let note = async |unit: &'static str, most: i64| {
            let mut tx = store.begin(JOB).await.unwrap();
            let new = tx.quota_crossing_insert(tenant, &apis, unit, now().floor_minute(), most).await.unwrap();
            tx.commit().await.unwrap();
            new
        };
        assert_eq!([note("day", 5).await, note("day", 5).await], [true, false]);
        assert_eq!([note("month", 5).await, note("day", 6).await, note("day", 6).await], [true, true, false]);
        let mut tx = store.begin(JOB).await.unwrap();
        tx.crossings_forget(now().floor_minute()).await.unwrap();
        tx.commit().await.unwrap();
        assert!(!note("day", 5).await, "it is not older");
        let mut tx = store.begin(JOB).await.unwrap();
        tx.crossings_forget(now().plus_secs(60)).await.unwrap();
        tx.commit().await.unwrap();
        assert!(note("day", 5).await);
        let mut of_other = store.begin(Scope::Tenant(TenantId::generate(now(), &SeededRng::new(7)))).await.unwrap();
        let refused = of_other.quota_crossing_insert(tenant, &apis, "day", now(), 5).await;
        assert!(matches!(refused, Err(StoreError::OutOfScope)));
    }
}

/// A webhook for all events, which is on.
fn webhook(tenant: Option<TenantId>, rng: &dyn Rng) -> Webhook {
    let (id, url) = (WebhookId::generate(now(), rng), "https://hooks.example/".to_owned());
    let (events, format) = (Events::All, Format::Standard);
    Webhook { id, tenant, url, events, format, created_at: now(), state: WebhookState::On, failing: None }
}

/// Notes an event of a tenant; its id.
async fn happen(store: &Store, name: EventName, tenant: Option<TenantId>, rng: &dyn Rng) -> EventId {
    let event = Event::new(name, tenant, json!({"quote": "\"ü\""}), now(), rng);
    let mut tx = store.begin(JOB).await.unwrap();
    tx.event_insert(&event).await.unwrap();
    tx.commit().await.unwrap();
    event.id
}

/// Ids of what is due for a webhook at an instant.
async fn due(store: &Store, webhook: WebhookId, at: Timestamp) -> Vec<EventId> {
    let due = store.read(JOB).await.unwrap().deliveries_due(webhook, at, 10).await.unwrap();
    let mut ids: Vec<EventId> = due.iter().map(|delivery| delivery.event.id).collect();
    ids.sort_unstable();
    ids
}

on_each_engine! {
    async fn of_each_tenant_the_first_event_that_waits_is_due_and_the_next_one_after_it(store: Store) {
        let rng = rng();
        let (acme, globex) = (tenant("Acme", &rng), tenant("Globex", &rng));
        let (all, own) = (webhook(None, &rng), webhook(Some(acme.id), &rng));
        let some = Webhook { events: Events::Named(vec![EventName::UserCreated]), ..webhook(None, &rng) };
        let mut tx = store.begin(JOB).await.unwrap();
        for webhook in [&all, &own, &some] {
            tx.webhook_insert(webhook).await.unwrap();
            assert_eq!(tx.webhook(webhook.id).await.unwrap().as_ref(), Some(webhook));
        }
        tx.commit().await.unwrap();
        let first = happen(&store, EventName::TenantCreated, Some(acme.id), &rng).await;
        let second = happen(&store, EventName::UserCreated, Some(acme.id), &rng).await;
        let other = happen(&store, EventName::TenantCreated, Some(globex.id), &rng).await;
        let platforms = happen(&store, EventName::WebhookDisabled, None, &rng).await;
        let sorted = |mut ids: Vec<EventId>| { ids.sort_unstable(); ids };
        assert_eq!(due(&store, all.id, now()).await, sorted(vec![first, other, platforms]));
        assert_eq!(due(&store, own.id, now()).await, [first]);
        assert_eq!(due(&store, some.id, now()).await, [second]);
        assert_eq!(due(&store, own.id, now().plus_secs(-1)).await, []);

        // Claimed once, put off with what is behind it, settled, and then the next one is due at once.
        let mut tx = store.begin(JOB).await.unwrap();
        let mut delivery = tx.deliveries_due(own.id, now(), 10).await.unwrap().remove(0);
        assert_eq!((delivery.event.sequence, delivery.event.data.as_str()), (1, r#"{"quote":"\"ü\""}"#));
        let (until, later) = (now().plus_secs(20), now().plus_secs(300));
        assert!(tx.delivery_claim(&delivery, until, now()).await.unwrap());
        assert!(!tx.delivery_claim(&delivery, until, now()).await.unwrap());
        delivery.attempts += 1;
        tx.delivery_postpone(&delivery, later).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(due(&store, own.id, later.plus_micros(-1)).await, []);
        assert_eq!(due(&store, own.id, later).await, [first]);
        let mut tx = store.begin(JOB).await.unwrap();
        tx.delivery_settle(&delivery, Outcome::Delivered, until).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(due(&store, own.id, until).await, [second]);

        // Again: one, then all; of its own tenant alone.
        let mut tx = store.begin(JOB).await.unwrap();
        assert!(tx.delivery_again(own.id, first, until).await.unwrap());
        assert!(!tx.delivery_again(own.id, other, until).await.unwrap());
        assert_eq!(tx.deliveries_again(own.id, now(), until).await.unwrap(), 2);
        assert_eq!(tx.deliveries_again(own.id, until, until).await.unwrap(), 0);
        tx.commit().await.unwrap();
        assert_eq!(due(&store, own.id, until).await, [first]);
        let reach = store.read(JOB).await.unwrap().webhooks_due(until, 10).await.unwrap();
        assert_eq!(reach.len(), 3);
        assert!(store.read(JOB).await.unwrap().deliveries_wait().await.unwrap());
    }

    async fn a_webhook_that_fails_is_left_alone_and_one_that_is_off_or_gone_has_nothing_waiting(store: Store) {
        let rng = rng();
        let acme = tenant("Acme", &rng);
        let (failing, off) = (webhook(Some(acme.id), &rng), webhook(Some(acme.id), &rng));
        let mut tx = store.begin(JOB).await.unwrap();
        for webhook in [&failing, &off] {
            tx.webhook_insert(webhook).await.unwrap();
        }
        assert_eq!(tx.webhooks_count(Some(acme.id)).await.unwrap(), 2);
        assert_eq!(tx.webhooks_count(None).await.unwrap(), 0);
        tx.commit().await.unwrap();
        let event = happen(&store, EventName::UserCreated, Some(acme.id), &rng).await;
        let mut tx = store.begin(JOB).await.unwrap();
        let once = tx.webhook_failed(failing.id, now()).await.unwrap();
        let twice = tx.webhook_failed(failing.id, now().plus_secs(9)).await.unwrap();
        assert_eq!([once, twice], [1, 2].map(|failures| Failing { since: now(), failures }));
        tx.webhook_leave_alone(failing.id, now().plus_secs(60)).await.unwrap();
        let switched = Webhook { state: WebhookState::Off { at: now(), reason: OffReason::Gone }, ..off.clone() };
        tx.webhook_update(&switched).await.unwrap();
        assert_eq!(tx.webhook(off.id).await.unwrap(), Some(switched));
        tx.commit().await.unwrap();
        assert_eq!(due(&store, failing.id, now().plus_secs(59)).await, []);
        assert_eq!(due(&store, failing.id, now().plus_secs(60)).await, [event]);
        assert_eq!(due(&store, off.id, now()).await, []);
        let mut tx = store.begin(JOB).await.unwrap();
        tx.webhook_succeeded(failing.id, now()).await.unwrap();
        assert_eq!(tx.webhook(failing.id).await.unwrap().unwrap().failing, None);
        let attempt = Attempt {
            id: uuid_v7(now(), &rng),
            webhook: failing.id,
            event,
            name: "user.created".into(),
            number: 1,
            at: now(),
            took_ms: 3,
            status: None,
            error: Some("x".into()),
            outcome: "failed".into(),
            next_try_at: Some(now()),
        };
        tx.webhook_attempt_insert(&attempt).await.unwrap();
        let page = PageRequest::default();
        assert_eq!(tx.webhook_attempts(failing.id, Some(event), page).await.unwrap(), [attempt]);
        // What is kept long enough goes, but not what waits.
        tx.outbox_forget(now().plus_secs(1), now()).await.unwrap();
        assert_eq!(tx.webhook_attempts(failing.id, None, page).await.unwrap(), []);
        assert_eq!(tx.outbox(&OutboxFilter::default(), page).await.unwrap().len(), 1);
        tx.deliveries_give_up(failing.id, now()).await.unwrap();
        tx.outbox_forget(now().plus_secs(1), now()).await.unwrap();
        assert_eq!(tx.outbox(&OutboxFilter::default(), page).await.unwrap(), []);
        tx.webhooks_forget(acme.id).await.unwrap();
        assert_eq!(tx.webhooks(None, page).await.unwrap(), []);
    }

    async fn a_tenants_transaction_reaches_its_own_webhooks_and_events_alone(store: Store) {
        let rng = rng();
        let (acme, globex) = (tenant("Acme", &rng), tenant("Globex", &rng));
        let (own, others, platforms) = (webhook(Some(acme.id), &rng), webhook(Some(globex.id), &rng), webhook(None, &rng));
        let mut tx = store.begin(JOB).await.unwrap();
        for webhook in [&own, &others, &platforms] {
            tx.webhook_insert(webhook).await.unwrap();
        }
        tx.commit().await.unwrap();
        for id in [acme.id, globex.id] {
            happen(&store, EventName::UserCreated, Some(id), &rng).await;
        }
        let page = PageRequest::default();
        let mut tx = store.begin(Scope::Tenant(acme.id)).await.unwrap();
        assert_eq!(tx.webhooks(None, page).await.unwrap(), std::slice::from_ref(&own));
        assert_eq!(tx.outbox(&OutboxFilter::default(), page).await.unwrap().len(), 1);
        let filter = OutboxFilter { tenant: Some(globex.id), name: Some(EventName::UserCreated) };
        assert_eq!(tx.outbox(&filter, page).await.unwrap(), []);
        for foreign in [&others, &platforms] {
            assert_eq!(tx.webhook(foreign.id).await.unwrap(), None);
            assert!(!tx.webhook_hold(foreign.id).await.unwrap());
            assert!(matches!(tx.webhook_update(foreign).await, Err(StoreError::OutOfScope)));
            assert!(matches!(tx.webhook_delete(foreign.id).await, Err(StoreError::OutOfScope)));
            assert_eq!(tx.webhook_attempts(foreign.id, None, page).await.unwrap(), []);
        }
        assert!(matches!(tx.webhook_insert(&others).await, Err(StoreError::OutOfScope)));
        let foreign = Event::new(EventName::UserCreated, Some(globex.id), json!({}), now(), &rng);
        assert!(matches!(tx.event_insert(&foreign).await, Err(StoreError::OutOfScope)));
        tx.webhook_delete(own.id).await.unwrap();
    }

    async fn secrets_of_a_webhook_sign_until_they_are_retired(store: Store) {
        let rng = rng();
        let webhook = webhook(None, &rng);
        let mut tx = store.begin(JOB).await.unwrap();
        tx.webhook_insert(&webhook).await.unwrap();
        let sealed = async |tx: &mut Tx, at: Timestamp| {
            let secrets = tx.webhook_secrets(webhook.id, at).await.unwrap();
            secrets.into_iter().map(|secret| secret.sealed).collect::<Vec<_>>()
        };
        for (n, at) in [(1_u8, now()), (2, now().plus_secs(1)), (3, now().plus_secs(2))] {
            tx.webhook_secrets_retire(webhook.id, at.plus_secs(60)).await.unwrap();
            tx.webhook_secret_insert(uuid_v7(at, &rng), webhook.id, &[n]).await.unwrap();
        }
        assert_eq!(sealed(&mut tx, now().plus_secs(2)).await, [[3], [2], [1]]);
        assert_eq!(sealed(&mut tx, now().plus_secs(61)).await, [[3], [2]]);
        assert_eq!(sealed(&mut tx, now().plus_secs(62)).await, [[3]]);
        tx.webhook_secrets_retire(webhook.id, now()).await.unwrap();
        assert!(sealed(&mut tx, now()).await.is_empty(), "the old ones, too");
    }
}

#[tokio::test]
async fn two_nodes_may_migrate_an_empty_database_at_once() {
    let Some(server) = postgres::shared() else { return };
    let url = tollgate::kernel::Secret::new(server.database().await);
    let (one, two) = tokio::join!(Store::open_postgres(&url, 2), Store::open_postgres(&url, 2));
    assert!(insert(&one.unwrap(), &tenant("Acme", &rng())).await);
    assert!(!insert(&two.unwrap(), &tenant("Acme", &rng())).await);
}

#[tokio::test]
async fn a_store_of_a_newer_version_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("test.db");
    Store::open_sqlite(&file).await.unwrap().close().await;
    let mut newer =
        <sqlx::SqliteConnection as sqlx::Connection>::connect(&format!("sqlite:{}", file.display())).await.unwrap();
    sqlx::query("UPDATE schema_version SET version = 999").execute(&mut newer).await.unwrap();
    let refused = Store::open_sqlite(&file).await;
    assert!(matches!(refused, Err(StoreError::Newer { found: 999, .. })));
}

/// The entries of the audit, sealed by so many at once.
async fn sealed_by(store: &Store, at_once: usize) {
    let seal = async || {
        loop {
            let mut tx = store.begin(JOB).await.unwrap();
            let sealed = tx.audit_seal().await.unwrap();
            tx.commit().await.unwrap();
            if sealed == 0 {
                return;
            }
        }
    };
    futures_util::future::join_all((0..at_once).map(|_| seal())).await;
}

async fn acts(store: &Store, count: usize) {
    let rng = rng();
    let mut tx = store.begin(JOB).await.unwrap();
    for number in 0..count {
        let act = Act {
            actor: Actor::Job("test"),
            action: "tenant.changed",
            tenant: None,
            subject: number.to_string(),
            detail: Some("with a name in it".into()),
        };
        tx.changes(None, Some(json!({"number": number})));
        tx.audit_insert(uuid_v7(now(), &rng), now(), &act).await.unwrap();
    }
    tx.commit().await.unwrap();
}

/// What does not fit in the chain.
async fn broken(store: &Store) -> Vec<String> {
    let mut tx = store.read(JOB).await.unwrap();
    let ends = tx.audit_ends().await.unwrap();
    let mut walk = ChainWalk::after(ends.forgotten);
    let entries = tx.audit_sealed(ends.forgotten.0, 10_000).await.unwrap();
    let mut broken: Vec<String> = entries.iter().filter_map(|entry| walk.step(entry)).collect();
    broken.extend(walk.end(ends.last));
    broken
}

on_each_engine! {
    async fn entries_of_the_audit_are_sealed_in_one_chain_whoever_seals(store: Store) {
        acts(&store, 1_300).await;
        sealed_by(&store, 4).await;
        let ends = store.read(JOB).await.unwrap().audit_ends().await.unwrap();
        assert_eq!(ends.last.0, 1_300);
        assert!(broken(&store).await.is_empty());
    }

    async fn a_sealed_entry_can_be_erased(store: Store) {
        acts(&store, 3).await;
        sealed_by(&store, 1).await;
        let entry = store.read(JOB).await.unwrap().audit_sealed(1, 1).await.unwrap().remove(0);
        let mut tx = store.begin(JOB).await.unwrap();
        tx.audit_erase(entry.id).await.unwrap();
        tx.commit().await.unwrap();
        let erased = store.read(JOB).await.unwrap().audit_sealed(1, 1).await.unwrap().remove(0);
        assert!(erased.is_erased() && erased.seal == entry.seal);
        assert!(broken(&store).await.is_empty());
    }

    async fn the_beginning_of_the_chain_is_forgotten_and_the_rest_still_fits(store: Store) {
        acts(&store, 3).await;
        sealed_by(&store, 1).await;
        let mut tx = store.begin(JOB).await.unwrap();
        tx.audit_forget(now()).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(store.read(JOB).await.unwrap().audit_sealed(0, 9).await.unwrap().len(), 3, "none is older");
        let mut tx = store.begin(JOB).await.unwrap();
        tx.audit_forget(now().plus_secs(1)).await.unwrap();
        tx.commit().await.unwrap();
        let ends = store.read(JOB).await.unwrap().audit_ends().await.unwrap();
        assert_eq!((ends.forgotten, ends.last.0), (ends.last, 3));
        acts(&store, 2).await;
        sealed_by(&store, 1).await;
        assert!(broken(&store).await.is_empty());
    }
}

/// Ways to change a sealed entry that the store itself refuses.
const TAMPERED: [&str; 4] = [
    "UPDATE audit SET actor = 'nobody' WHERE serial = 2",
    "UPDATE audit SET detail = 'nothing' WHERE serial = 2",
    "UPDATE audit SET detail = NULL WHERE serial = 2",
    "UPDATE audit SET serial = 7, address = NULL, detail = NULL, before = NULL, after = NULL WHERE serial = 2",
];

async fn with_sealed_entries(store: Store) {
    acts(&store, 3).await;
    sealed_by(&store, 1).await;
    store.close().await;
}

#[tokio::test]
async fn a_sealed_entry_is_not_changed_behind_our_back_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("test.db");
    with_sealed_entries(Store::open_sqlite(&file).await.unwrap()).await;
    let url = format!("sqlite:{}", file.display());
    let mut direct = <sqlx::SqliteConnection as sqlx::Connection>::connect(&url).await.unwrap();
    for sql in TAMPERED {
        let refused = sqlx::query(sql).execute(&mut direct).await.unwrap_err();
        assert!(refused.to_string().contains("a sealed entry of the audit is not changed"), "{sql}: {refused}");
    }
}

#[tokio::test]
async fn a_sealed_entry_is_not_changed_behind_our_back_on_postgres() {
    let Some(server) = postgres::shared() else { return };
    let url = server.database().await;
    with_sealed_entries(Store::open_postgres(&tollgate::kernel::Secret::new(url.clone()), 2).await.unwrap()).await;
    let mut direct = <sqlx::PgConnection as sqlx::Connection>::connect(&url).await.unwrap();
    for sql in TAMPERED {
        let refused = sqlx::query(sql).execute(&mut direct).await.unwrap_err();
        assert!(refused.to_string().contains("a sealed entry of the audit is not changed"), "{sql}: {refused}");
    }
}
