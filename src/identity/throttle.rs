//! Slowing guesses down: per account and address, per address, per account, and per second factor.
//!
//! After a number of free failures each further try has to wait, twice as long as the one before, up to a bound: nobody is
//! ever locked out. Who is known (a browser that signed in as this account before, or an address from which somebody did)
//! counts for itself, so that strangers who guess do not slow it down, and neither do others at the same address. Known and
//! unknown accounts are slowed down alike. All of it is in the memory of this node, bounded; what is looked at least is
//! forgotten first.

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
};

use quick_cache::sync::Cache;

use super::{
    error::Error,
    rules::{self, Limit},
};
use crate::kernel::{Email, Secret, Timestamp, UserId};

/// Failures remembered: about 100 bytes each.
const REMEMBERED: usize = 65_536;
/// Waits and refusals remembered that were noted.
const NOTED: usize = 4_096;

const PAIR: Limit = Limit { free: 10, longest_s: 60 };
const ADDRESS: Limit = Limit { free: 100, longest_s: 60 };
const ACCOUNT: Limit = Limit { free: 100, longest_s: 15 };
/// Whoever is here has the password: strangers cannot make the owner wait.
const FACTOR: Limit = Limit { free: 5, longest_s: 900 };
/// Letters to one address of mail, asked for by anybody.
const LETTER: Limit = Limit { free: 5, longest_s: 900 };

/// Whence a try comes, as far as we can tell: forwarding headers are whatever a client likes, but for those of proxies that the
/// settings trust.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// The other end of the connection, or who a trusted proxy says is at the other end of its own.
    pub address: Option<IpAddr>,
    /// What a browser shows that signed in here before.
    pub device: Option<String>,
    /// The secret of the browser's cookie, if it is signed in.
    pub browser: Option<Secret>,
}

/// One counter that a try counts for.
pub(super) struct Counter {
    key: [u8; 32],
    limit: Limit,
}

/// Failures, and when the last was.
#[derive(Debug, Clone, Copy)]
struct Failures {
    count: u32,
    last: Timestamp,
}

/// The failures that matter.
pub(super) struct Throttle {
    enabled: bool,
    failures: Cache<[u8; 32], Arc<Mutex<Failures>>>,
    /// Accounts with the addresses from which they signed in.
    known: Cache<[u8; 32], ()>,
    /// When what was noted last happened.
    noted: Cache<[u8; 32], Arc<Mutex<Option<Timestamp>>>>,
}

impl Throttle {
    pub(super) fn new(enabled: bool) -> Self {
        let (failures, known, noted) = (Cache::new(REMEMBERED), Cache::new(REMEMBERED), Cache::new(NOTED));
        Self { enabled, failures, known, noted }
    }

    /// What a sign-in counts for. `device` is the proof that this browser signed in as this account before.
    pub(super) fn sign_in(&self, email: &Email, address: Option<IpAddr>, device: Option<&str>) -> Vec<Counter> {
        let account = email.key();
        if let Some(device) = device {
            return vec![Counter::new("device", &[&account, device], PAIR)];
        }
        let network = address.map(network).map_or_else(|| "unknown".to_owned(), |network| network.to_string());
        let pair = Counter::new("pair", &[&account, &network], PAIR);
        if self.known.get(&pair.key).is_some() {
            return vec![pair];
        }
        let mut counters = vec![Counter::new("account", &[&account], ACCOUNT), pair];
        if address.is_some() {
            counters.push(Counter::new("address", &[&network], ADDRESS));
        }
        counters
    }

    /// What a guess of a second factor counts for.
    pub(super) fn factor(user: UserId) -> Counter {
        Counter::new("factor", &[&user.to_string()], FACTOR)
    }

    /// What letters that anybody can ask for count for.
    pub(super) fn letters(email: &Email, address: Option<IpAddr>) -> Vec<Counter> {
        let mut counters = vec![Counter::new("letter", &[&email.key()], LETTER)];
        counters.extend(address.map(|address| Counter::new("letters", &[&network(address).to_string()], ADDRESS)));
        counters
    }

    /// What a sign-up counts for that sends no letter.
    pub(super) fn sign_ups(address: Option<IpAddr>) -> Vec<Counter> {
        let of = |address| Counter::new("sign-ups", &[&network(address).to_string()], ADDRESS);
        address.map(of).into_iter().collect()
    }

    /// An error unless a try may be made now.
    pub(super) fn admit(&self, counters: &[Counter], now: Timestamp) -> Result<(), Error> {
        if !self.enabled {
            return Ok(());
        }
        match counters.iter().filter_map(|counter| self.wait_s(counter, now)).max() {
            Some(wait_s) => Err(Error::TooManyTries { retry_after_s: u64::try_from(wait_s).unwrap_or(1) }),
            None => Ok(()),
        }
    }

    /// How long a counter makes wait, in seconds, if it does.
    fn wait_s(&self, counter: &Counter, now: Timestamp) -> Option<i64> {
        let failures = self.failures.get(&counter.key)?;
        let failures = *failures.lock().unwrap_or_else(PoisonError::into_inner);
        let ready = rules::next_try(counter.limit, failures.count, failures.last);
        (ready > now).then(|| (ready.micros_since(now) + 999_999) / 1_000_000)
    }

    /// Whether a try is the first that is held up, since a quarter of an hour without any.
    pub(super) fn begins_to_wait(&self, held: &Error, counters: &[Counter], now: Timestamp) -> bool {
        let waits = |counter: &&Counter| self.wait_s(counter, now).is_some();
        // Each of them is seen, whatever the others say.
        let begins = |begins: bool, counter: &Counter| self.is_new(counter.key, now) || begins;
        matches!(held, Error::TooManyTries { .. }) && counters.iter().filter(waits).fold(false, begins)
    }

    /// Whether something happens for the first time, since a quarter of an hour without it.
    pub(super) fn is_news(&self, kind: &str, what: &str, now: Timestamp) -> bool {
        self.is_new(Counter::new(kind, &[what], PAIR).key, now)
    }

    fn is_new(&self, key: [u8; 32], now: Timestamp) -> bool {
        let Ok(last) = self.noted.get_or_insert_with(&key, || Ok::<_, std::convert::Infallible>(Arc::default()));
        let before = last.lock().unwrap_or_else(PoisonError::into_inner).replace(now);
        before.is_none_or(|before| rules::is_forgotten(before, now))
    }

    /// An error unless a try may be made now; it counts as a failure until [`Self::succeeded`] says otherwise, so that many
    /// at once are not free.
    pub(super) fn begin(&self, counters: &[Counter], now: Timestamp) -> Result<(), Error> {
        self.admit(counters, now)?;
        self.failed(counters, now);
        Ok(())
    }

    /// Counts a failure.
    pub(super) fn failed(&self, counters: &[Counter], now: Timestamp) {
        for counter in counters.iter().filter(|_| self.enabled) {
            let fresh = || Ok::<_, std::convert::Infallible>(Arc::new(Mutex::new(Failures { count: 0, last: now })));
            let Ok(failures) = self.failures.get_or_insert_with(&counter.key, fresh);
            let mut failures = failures.lock().unwrap_or_else(PoisonError::into_inner);
            let before = if rules::is_forgotten(failures.last, now) { 0 } else { failures.count };
            *failures = Failures { count: before.saturating_add(1), last: now };
        }
    }

    /// Whoever signed in is known from then on, and their own failures are forgiven; those of their address are not.
    pub(super) fn succeeded(&self, counters: &[Counter]) {
        for counter in counters.iter().filter(|counter| counter.limit.free != ADDRESS.free) {
            self.failures.remove(&counter.key);
            self.known.insert(counter.key, ());
        }
    }
}

impl Counter {
    fn new(kind: &str, parts: &[&str], limit: Limit) -> Self {
        let mut hasher = blake3::Hasher::new();
        for part in [kind].iter().chain(parts) {
            hasher.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes()).update(part.as_bytes());
        }
        Self { key: *hasher.finalize().as_bytes(), limit }
    }
}

/// Whoever has one address of IPv6 has its whole /64 (RFC 4291 section 2.5.1).
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let bits = u128::from(address) >> 64 << 64;
            IpAddr::V6(Ipv6Addr::from(bits))
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(secs).unwrap()
    }

    fn wait_s(throttle: &Throttle, counters: &[Counter], now: Timestamp) -> Option<u64> {
        match throttle.admit(counters, now) {
            Ok(()) => None,
            Err(Error::TooManyTries { retry_after_s }) => Some(retry_after_s),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn after_ten_failures_each_try_waits_twice_as_long_and_a_minute_at_most() {
        let throttle = Throttle::new(true);
        let email: Email = "ada@example.com".parse().unwrap();
        let counters = throttle.sign_in(&email, Some([192, 0, 2, 1].into()), None);
        for _ in 0..10 {
            assert_eq!(wait_s(&throttle, &counters, at(0)), None);
            throttle.failed(&counters, at(0));
        }
        let mut now = at(0);
        for wait in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert_eq!(wait_s(&throttle, &counters, now), Some(wait));
            now = now.plus_secs(i64::try_from(wait).unwrap());
            assert_eq!(wait_s(&throttle, &counters, now), None, "never locked out");
            throttle.failed(&counters, now);
        }
        // From elsewhere, and by a browser that is known, it goes on.
        assert_eq!(wait_s(&throttle, &throttle.sign_in(&email, Some([192, 0, 2, 2].into()), None), now), None);
        assert_eq!(wait_s(&throttle, &throttle.sign_in(&email, Some([192, 0, 2, 1].into()), Some("d")), now), None);
        assert_eq!(wait_s(&throttle, &counters, now.plus_secs(900)), None);
        throttle.failed(&counters, now.plus_secs(901));
        assert_eq!(wait_s(&throttle, &counters, now.plus_secs(901)), None, "a quarter of an hour forgives");
    }

    #[test]
    fn an_address_that_guesses_at_many_accounts_is_slowed_down_and_a_success_does_not_help_it() {
        let throttle = Throttle::new(true);
        let address = Some([192, 0, 2, 1].into());
        let counters = |n: i32| throttle.sign_in(&format!("user{n}@example.com").parse().unwrap(), address, None);
        for n in 0..100 {
            throttle.failed(&counters(n), at(0));
        }
        assert_eq!(wait_s(&throttle, &counters(100), at(0)), Some(1));
        throttle.succeeded(&counters(0));
        assert_eq!(wait_s(&throttle, &counters(100), at(0)), Some(1));
        assert_eq!(wait_s(&throttle, &counters(0), at(0)), None, "who signed in from there is no stranger");
    }

    #[test]
    fn many_addresses_slow_one_account_down_for_strangers_alone() {
        let throttle = Throttle::new(true);
        let email: Email = "ada@example.com".parse().unwrap();
        let home = || throttle.sign_in(&email, Some([198, 51, 100, 1].into()), None);
        throttle.succeeded(&home());
        for n in 0..=100 {
            throttle.failed(&throttle.sign_in(&email, Some([192, 0, 2, n].into()), None), at(0));
        }
        assert_eq!(wait_s(&throttle, &throttle.sign_in(&email, Some([192, 0, 2, 200].into()), None), at(0)), Some(2));
        assert_eq!(wait_s(&throttle, &home(), at(0)), None);
    }

    #[test]
    fn an_address_of_ipv6_is_its_network() {
        assert_eq!(network("2001:db8::1".parse().unwrap()), network("2001:db8::ffff:2".parse().unwrap()));
        assert_ne!(network("2001:db8::1".parse().unwrap()), network("2001:db8:0:1::1".parse().unwrap()));
        assert_eq!(network("::ffff:192.0.2.1".parse().unwrap()), network("192.0.2.1".parse().unwrap()));
    }
}
