//! `[[gateway.upstreams]]`: the services that routes lead to.

use std::{sync::Arc, time::Duration};

use axum::http::{Uri, uri::PathAndQuery};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};

use super::read::Reader;
use crate::gateway::upstream::{Ejection, Limit, MOST_TARGETS, Probe, Protocol, UpstreamConfig};

/// A connection may take so long to come about, in seconds.
const CONNECT_TIMEOUT_S: i64 = 5;
/// So many repetitions of a request that failed.
const RETRIES: i64 = 1;
/// At most so many of them for a hundred requests.
const RETRY_BUDGET_PERCENT: i64 = 20;
/// So many failures one after the other put a target out,
const EJECT_AFTER: i64 = 5;
/// for so many seconds the first time.
const EJECT_S: i64 = 10;
/// The longest time that can be set, in seconds.
const LONGEST_S: i64 = 86_400;

/// `[[gateway.upstreams]]`, in their order.
pub(super) fn read_upstreams(reader: &mut Reader) -> Vec<Arc<UpstreamConfig>> {
    let mut upstreams: Vec<Arc<UpstreamConfig>> = Vec::new();
    for (prefix, mut item) in reader.tables("gateway.upstreams") {
        let name = item.string(".name", "").unwrap_or_default();
        if name.is_empty() {
            item.fault(".name", "is required");
        } else if upstreams.iter().any(|other| other.name == name) {
            item.fault(".name", "is used by another upstream");
        }
        let upstream = read_upstream(&mut item, name);
        reader.finish_item(&prefix, item);
        upstreams.push(Arc::new(upstream));
    }
    upstreams
}

/// What is at fault has its default: the fault alone decides that nothing of it is used.
fn read_upstream(item: &mut Reader, name: String) -> UpstreamConfig {
    let targets = item.strings(".targets", &[]).unwrap_or_default();
    if targets.is_empty() {
        item.fault(".targets", "must name at least one address");
    } else if targets.len() > MOST_TARGETS {
        item.fault(".targets", &format!("can name {MOST_TARGETS} addresses at most"));
    }
    let targets = targets.iter().filter_map(|text| target(item, text)).collect();
    let http = item.choice(".http", "1", &["1", "2"]);
    let ejection = Ejection {
        after: number(item, ".eject_after", EJECT_AFTER, 0, 1_000_000),
        period: secs(item.number(".eject_s", EJECT_S, 1, 300).unwrap_or(EJECT_S)),
    };
    UpstreamConfig {
        name,
        targets,
        http: if http.as_deref() == Some("2") { Protocol::Two } else { Protocol::One },
        ca: item.optional_string(".ca").and_then(|path| authorities(item, &path)),
        connect: secs(item.number(".connect_timeout_s", CONNECT_TIMEOUT_S, 1, 300).unwrap_or(CONNECT_TIMEOUT_S)),
        idle: optional_secs(item, ".idle_timeout_s"),
        total: optional_secs(item, ".total_timeout_s"),
        retries: number(item, ".retries", RETRIES, 0, 10),
        retry_budget_percent: number(item, ".retry_budget_percent", RETRY_BUDGET_PERCENT, 0, 100),
        ejection,
        fail_fast: item.switch(".fail_fast", false).unwrap_or_default(),
        limit: read_limit(item),
        probe: item.table(".health").and_then(|mut health| {
            let probe = read_probe(&mut health);
            item.finish_item(".health", health);
            probe
        }),
    }
}

fn target(item: &mut Reader, text: &str) -> Option<Uri> {
    let uri: Option<Uri> = text.parse().ok();
    let fine = uri.filter(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'))
            && uri.query().is_none()
    });
    if fine.is_none() {
        item.fault(".targets", &format!("{text:?} is not an address such as http://127.0.0.1:9001"));
    }
    fine
}

/// The certificates of a file, each of them fit to be believed.
fn authorities(item: &mut Reader, path: &str) -> Option<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = read.map_err(|error| item.fault(".ca", &format!("{path} cannot be read: {error}"))).ok()?;
    let mut roots = RootCertStore::empty();
    let fit = certificates.iter().try_for_each(|certificate| roots.add(certificate.clone()));
    if let Err(error) = fit {
        item.fault(".ca", &format!("{path} has a certificate that cannot be used: {error}"));
    } else if certificates.is_empty() {
        item.fault(".ca", &format!("{path} has no certificate"));
    }
    Some(certificates)
}

fn read_limit(item: &mut Reader) -> Option<Limit> {
    let requests = number(item, ".max_requests", 0, 0, 1_000_000);
    let waiting = number(item, ".max_waiting", 0, 0, 1_000_000);
    if requests == 0 && waiting > 0 {
        item.fault(".max_waiting", "needs max_requests: without it nobody waits");
    }
    (requests > 0).then_some(Limit { requests, waiting })
}

fn read_probe(health: &mut Reader) -> Option<Probe> {
    let path = health.string(".path", "");
    let fine = path.and_then(|path| path.starts_with('/').then_some(path)?.parse::<PathAndQuery>().ok());
    if fine.is_none() {
        health.fault(".path", "must be a path such as /healthz");
    }
    let interval = health.number(".interval_s", 5, 1, LONGEST_S);
    let timeout = health.number(".timeout_s", 2, 1, LONGEST_S);
    let healthy_after = number(health, ".healthy_after", 2, 1, 1_000);
    let unhealthy_after = number(health, ".unhealthy_after", 3, 1, 1_000);
    Some(Probe { path: fine?, interval: secs(interval?), timeout: secs(timeout?), healthy_after, unhealthy_after })
}

fn number(item: &mut Reader, path: &str, default: i64, least: i64, most: i64) -> u32 {
    let number = item.number(path, default, least, most).unwrap_or(default);
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// 0 is none.
fn optional_secs(item: &mut Reader, path: &str) -> Option<Duration> {
    item.number(path, 0, 0, LONGEST_S).filter(|secs| *secs > 0).map(secs)
}

const fn secs(secs: i64) -> Duration {
    Duration::from_secs(secs.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use crate::settings::{SettingFaults, Settings, Sources};

    fn load(of_upstream: &str) -> Result<Settings, SettingFaults> {
        let text = format!("[[gateway.upstreams]]\nname = \"x\"\n{of_upstream}\n");
        Settings::load(&Sources { file: Some(("tollgate.toml".to_owned(), text)), ..Sources::default() })
    }

    #[test]
    fn what_is_wrong_with_an_upstream_is_named_by_its_key() {
        let good = "targets = [\"http://127.0.0.1:1\"]\n";
        let many = format!("targets = [{}]", vec!["\"http://127.0.0.1:1\""; 65].join(", "));
        for (wrong, expected) in [
            ("targets = [\"ftp://a\"]", "[0].targets: \"ftp://a\" is not an address"),
            ("targets = [\"http://user@a\"]", "[0].targets: "),
            ("targets = [\"http://a/?b=1\"]", "[0].targets: "),
            (&many, "[0].targets: can name 64"),
            (&format!("{good}http = \"3\""), "[0].http: must be one of 1, 2"),
            (&format!("{good}ca = \"/nowhere.pem\""), "[0].ca: /nowhere.pem cannot be read"),
            (&format!("{good}ca = \"Cargo.toml\""), "[0].ca: Cargo.toml has no certificate"),
            (&format!("{good}connect_timeout_s = 0"), "[0].connect_timeout_s: must be from 1 to 300"),
            (&format!("{good}idle_timeout_s = -1"), "[0].idle_timeout_s: must be from 0"),
            (&format!("{good}retry_budget_percent = 101"), "[0].retry_budget_percent: must be from 0 to 100"),
            (&format!("{good}fail_fast = \"yes\""), "[0].fail_fast: must be true or false"),
            (&format!("{good}max_waiting = 3"), "[0].max_waiting: needs max_requests"),
            (&format!("{good}health = true"), "[0].health: must be a table"),
            (&format!("{good}health = {{ interval_s = 5 }}"), "[0].health.path: must be a path"),
            (&format!("{good}health = {{ path = \"/h\", every = 5 }}"), "[0].health.every: is not a setting"),
            (&format!("{good}retry = 5"), "[0].retry: is not a setting"),
        ] {
            let faults = load(wrong).unwrap_err().to_string();
            assert!(faults.contains(&format!("gateway.upstreams{expected}")), "{wrong}: {faults}");
        }
        assert!(load(&format!("{good}health = {{ path = \"/h?deep=1\" }}")).is_ok());
    }
}
