//! Mixed load on upstreams that misbehave: usage is what the targets gave, and memory stays as it is.
//!
//! Four tenants call on sixteen connections as fast as they are answered: plain calls of five statuses with and without a body,
//! uploads with a length and in chunks, event streams, tunnels, calls without a token, with a false one, with too large a
//! body, beyond a rate and a quota; one call in eight is left by its client: before the head of the answer (also of one that
//! never comes), in the middle of its body, in the middle of the upload, in a tunnel. Three targets reset connections before
//! the head and in the body, end bodies early, close after an answer, answer with 5xx, late or never, and one of them dies every
//! second and comes back.
//!
//! What is compared, per tenant, with the targets' own account (`target.rs`), once all is settled, and again after a restart:
//!
//! - `apis` is exactly the number of answers below 500 whose head a target sent: also of those that broke off in the body,
//!   and of those whose client was gone; a call that several targets got counts once, by the answer that came. Nothing else
//!   counts: not a refusal, nor a 5xx, nor a request that no target got whole.
//! - `ingress_bytes` is exactly what the targets read of the bodies of the requests that they answered so, and of tunnels.
//! - `egress_bytes` is no less than what clients read of whole answers and out of tunnels, and no more than the targets had to
//!   give. How much of an answer that broke off had passed by then, neither end can say exactly.
//! - No more than `apis` was answered whole.
//!
//! Memory: the most in the last fifth of the time is within [`GROWTH`] of the most in the second fifth, however long it takes.
//! `TOLLGATE_MIXED_S` says how many seconds: 8, two minutes in `.ci/run`.

mod caller;
mod dice;
mod target;

use std::{
    io::Write as _,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::Duration,
};

use tokio::runtime::{Builder, Runtime};

use self::{
    caller::{Caller, Seen},
    target::{Account, Given, serve, serve_and_die},
};
use super::{
    customer::admin,
    flow::resident,
    server::Server,
    target::nobody,
    wait::{eventually, stopwatch},
};
use crate::support::actors::{PASSWORD, email_of, registration};

/// So much more memory may be in use at the end than after a fifth of the time, in bytes.
const GROWTH: u64 = 16 * 1024 * 1024;

/// Tenants, their tiers, and how many connections each has.
const TENANTS: [(&str, &str, usize); 4] =
    [("Acme", "premium", 6), ("Bolt", "premium", 6), ("Crane", "standard", 3), ("Dune", "free", 1)];

#[expect(clippy::disallowed_methods, reason = "tests read their own switch")]
fn seconds() -> u64 {
    std::env::var("TOLLGATE_MIXED_S").ok().and_then(|text| text.parse().ok()).unwrap_or(8)
}

fn settings(targets: &[SocketAddr; 3]) -> String {
    let [one, other, mortal] = targets;
    format!(
        "[identity]\naccess_token_ttl_s = 7200\n\
         [[gateway.upstreams]]\nname = \"x\"\ntargets = [\"http://{one}\", \"http://{other}\", \"http://{mortal}\"]\n\
         eject_after = 10\neject_s = 1\nretry_budget_percent = 50\n\
         [[gateway.upstreams]]\nname = \"calm\"\ntargets = [\"http://{one}\", \"http://{other}\"]\neject_after = 0\n\
         [[gateway.routes]]\npath = \"/x/\"\nupstream = \"x\"\nbody_limit = 60000\n{METERS}\n\
         [[gateway.routes]]\npath = \"/ws/\"\nupstream = \"calm\"\n{METERS}\n\
         [[gateway.routes]]\npath = \"/never/\"\nupstream = \"calm\"\ntimeout_s = 1\n{METERS}\n"
    )
}

const METERS: &str = "meters = [\"apis\", \"ingress_bytes\", \"egress_bytes\"]";

/// Targets at work; they end with it.
struct Targets {
    _runtime: Runtime,
    addresses: [SocketAddr; 3],
    account: Arc<Account>,
}

impl Targets {
    fn start() -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (account, addresses) = (Arc::new(Account::default()), [nobody(), nobody(), nobody()]);
        runtime.spawn(serve(addresses[0], Arc::clone(&account), 1));
        runtime.spawn(serve(addresses[1], Arc::clone(&account), 2));
        runtime.spawn(serve_and_die(addresses[2], Arc::clone(&account)));
        Self { _runtime: runtime, addresses, account }
    }
}

fn used(server: &Server, token: &str, meter: &str) -> u64 {
    let usage = server.get(&format!("/v1/usage?meter={meter}"), token).json();
    usage["data"][0]["value"].as_str().map_or(0, |value| value.parse().unwrap())
}

/// Whether a tenant's usage is what was given to it, as far as that can be known.
fn agrees(server: &Server, token: &str, given: Given, seen: &Seen) -> Result<(), String> {
    let [apis, ingress, egress] = ["apis", "ingress_bytes", "egress_bytes"].map(|meter| used(server, token, meter));
    let fine = (apis, ingress) == (given.answers, given.taken)
        && (seen.read..=given.offered).contains(&egress)
        && seen.whole + seen.tunnels <= apis;
    if fine { Ok(()) } else { Err(format!("{apis} {ingress} {egress}; {given:?}; {seen:?}")) }
}

/// Who calls for whom.
struct Customer {
    tenant: String,
    email: String,
    token: String,
    connections: usize,
}

impl Customer {
    fn new(server: &Server, (name, tier, connections): (&str, &str, usize)) -> Self {
        let made = server.call("POST", "/admin/v1/registrations", &admin(server), &registration(name, tier));
        assert_eq!(made.status, 201, "{}", made.body);
        let (tenant, email) = (made.json()["tenant_id"].as_str().unwrap().to_owned(), email_of(name));
        let token = server.token(&email, PASSWORD);
        Self { tenant, email, token, connections }
    }
}

/// Has everybody call for so long: what each tenant's clients saw, and the server's memory, second by second.
fn load(server: &Server, customers: &[Customer], seconds: u64) -> (Vec<Seen>, Vec<u64>) {
    let (over, (tell, told)) = (AtomicBool::new(false), mpsc::channel::<()>());
    let (mut all, mut memory) = (Vec::new(), Vec::new());
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for (number, customer) in customers.iter().enumerate() {
            for connection in 0..customer.connections {
                let (over, tell) = (&over, tell.clone());
                let run = move || {
                    // Gone when this thread is, also by a panic.
                    let _tell = tell;
                    let mut caller = Caller::new(server, &customer.token, 100 * number + connection);
                    while !over.load(Ordering::Relaxed) {
                        caller.call();
                    }
                    caller.seen
                };
                threads.push((number, scope.spawn(run)));
            }
        }
        drop(tell);
        let begun = stopwatch();
        while begun.elapsed().as_secs() < seconds
            && told.recv_timeout(Duration::from_millis(500)) == Err(mpsc::RecvTimeoutError::Timeout)
        {
            memory.push(resident(server));
            let failed = threads.iter().any(|(_, thread)| thread.is_finished());
            assert!(!failed || over.swap(true, Ordering::Relaxed), "a client found a fault");
        }
        over.store(true, Ordering::Relaxed);
        all = vec![Seen::default(); customers.len()];
        for (number, thread) in threads {
            all[number].add(&thread.join().unwrap());
        }
    });
    (all, memory)
}

#[test]
fn under_mixed_load_on_failing_upstreams_usage_is_what_they_gave_and_memory_is_flat() {
    let targets = Targets::start();
    let folder = tempfile::tempdir().unwrap();
    let (file, data) = (folder.path().join("tollgate.toml"), folder.path().join("data"));
    std::fs::write(&file, settings(&targets.addresses)).unwrap();
    let start = || Server::start(&data, &["--config", file.to_str().unwrap()]);
    let server = start();
    let customers = TENANTS.map(|tenant| Customer::new(&server, tenant));
    let seconds = seconds();
    let (seen, memory) = load(&server, &customers, seconds);

    let account = &targets.account;
    for (customer, seen) in customers.iter().zip(&seen) {
        let agrees = || agrees(&server, &customer.token, account.of(&customer.tenant), seen);
        // What was left goes on for a moment.
        eventually(&format!("{:?} becomes right", agrees()), || agrees().is_ok());
    }
    server.signal("TERM");
    let (said, status) = server.last_words();
    assert!(status.success(), "{said}");
    let server = start();
    for (customer, seen) in customers.iter().zip(&seen) {
        let token = server.token(&customer.email, PASSWORD);
        assert_eq!(agrees(&server, &token, account.of(&customer.tenant), seen), Ok(()), "after a restart");
    }

    let mut sum = Seen::default();
    for seen in &seen {
        sum.add(seen);
    }
    let fifth = memory.len() / 5;
    let most = |part: &[u64]| part.iter().copied().max().unwrap();
    let (warm, end) = (most(&memory[fifth..2 * fifth]), most(&memory[4 * fifth..]));
    let faults = account.faults.all();
    let tried = format!("{seconds} s: {sum:?}; faults: {faults:?}; memory: {warm} bytes, in the end {end}\n");
    // Not `println!`: the test harness would swallow it.
    drop(std::io::stderr().write_all(tried.as_bytes()));
    assert!(faults.iter().all(|(_, count)| *count > 0), "{faults:?}");
    assert!(sum.whole > 0 && sum.refused > 0 && sum.left > 0 && sum.tunnels > 0, "{sum:?}");
    assert!(end < warm + GROWTH, "memory grows: {memory:?}");
}
