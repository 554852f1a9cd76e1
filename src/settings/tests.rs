//! Every fault at once, in the right order of layers; the shipped samples are true.

use super::*;

fn load(file: &str, env: &[(&str, &str)]) -> Result<Settings, SettingFaults> {
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let file = Some(("tollgate.toml".to_owned(), file.to_owned()));
    Settings::load(&Sources { file, env, flags: Flags::default() })
}

#[test]
fn the_shipped_samples_are_valid() {
    for sample in [include_str!("../../config/tollgate.toml"), include_str!("../../config/demo.toml")] {
        load(sample, &[]).unwrap();
    }
}

#[test]
fn the_shipped_sample_says_what_the_defaults_are() {
    let sample = load(include_str!("../../config/tollgate.toml"), &[]).unwrap();
    let defaults = load("", &[]).unwrap();
    assert_eq!(format!("{sample:?}"), format!("{defaults:?}"));
}

#[test]
fn plans_are_in_the_currency_of_the_bills() {
    let faults = load("[billing]\ncurrency = \"EUR\"", &[]).unwrap_err().to_string();
    assert!(faults.contains("billing.currency: is EUR, and the plan of free has USD (tollgate.toml)"), "{faults}");
}

#[test]
fn every_fault_is_reported_at_once() {
    let file = r#"
        [server]
        listn = "127.0.0.1:1"
        listen = "here"
        drain_s = -1
        [store]
        url = "mysql://localhost"
        max_connections = "ten"
        [identity]
        signing_alg = "none"
        [nonsense]
        key = 1
        [[gateway.upstreams]]
        name = "orders"
        targets = ["ftp://127.0.0.1"]
        [[gateway.routes]]
        path = "orders/"
        upstream = "order"
        meters = ["requests"]
        colour = "red"
    "#;
    let faults = load(file, &[("TOLLGATE_METERING__FLUSH_MS", "0"), ("TOLLGATE_TYPO", "1")]).unwrap_err().to_string();
    let expected = "\
TOLLGATE_TYPO: names no setting: the form is TOLLGATE_SECTION__KEY (environment)
server.listen: invalid socket address syntax (tollgate.toml)
server.drain_s: must be from 0 to 3600 (tollgate.toml)
store.url: must begin with postgres:// or postgresql:// (tollgate.toml)
store.max_connections: must be a whole number, not string (tollgate.toml)
identity.signing_alg: must be ES256, RS256 or EdDSA (tollgate.toml)
gateway.upstreams[0].targets: \"ftp://127.0.0.1\" is not an address such as http://127.0.0.1:9001 (tollgate.toml)
gateway.routes[0].path: must begin with a slash (tollgate.toml)
gateway.routes[0].upstream: \"order\" is neither an upstream nor builtin:sample (tollgate.toml)
gateway.routes[0].meters: \"requests\" is not one of apis, compute, memory, egress_bytes, ingress_bytes (tollgate.toml)
gateway.routes[0].colour: is not a setting (tollgate.toml)
metering.flush_ms: must be from 1 to 1000 (TOLLGATE_METERING__FLUSH_MS)
nonsense.key: is not a setting (tollgate.toml)
server.listn: is not a setting; did you mean server.listen? (tollgate.toml)";
    assert_eq!(faults, expected);
}

#[test]
fn meters_are_held_to_the_checks_of_the_api_each_fault_with_its_place() {
    let file = r#"
        [[metering.meters]]
        key = "tokens"
        event_type = "prompt"
        aggregation = "sum"
        value_property = "$.tokens"
        group_by = { model = "$.model" }
        [[metering.meters]]
        key = "tokens"
        event_type = "prompt"
        aggregation = "count"
        value_property = "tokens"
        group_by = { model = 7, kind = "kind" }
        [[metering.meters]]
        key = "apis"
        event_type = 5
        aggregation = "median"
        colour = "red"
    "#;
    let expected = "\
metering.meters[1].group_by.model: must be a text, not integer (tollgate.toml)
metering.meters[1].value_property: must be a JSON path such as $.usage.tokens (RFC 9535): at position 0, parser error (tollgate.toml)
metering.meters[1].value_property: is not for count (tollgate.toml)
metering.meters[1].group_by.kind: must be a JSON path such as $.usage.tokens (RFC 9535): at position 0, parser error (tollgate.toml)
metering.meters[1].key: tokens is the key of another meter (tollgate.toml)
metering.meters[2].event_type: must be a text, not integer (tollgate.toml)
metering.meters[2].aggregation: must be sum, count, unique_count, avg, min, max, latest, weighted_sum, p50, p90, p95 or p99 (tollgate.toml)
metering.meters[2].colour: is not a setting (tollgate.toml)";
    assert_eq!(load(file, &[]).unwrap_err().to_string(), expected);
    for (key, why) in [("apis", "is a stock meter"), ("tokens", "is the key of another meter")] {
        let twice = format!("[[metering.meters]]\nkey = \"{key}\"\nevent_type = \"e\"\naggregation = \"count\"\n");
        let faults = load(&twice.repeat(2), &[]).unwrap_err().to_string();
        assert!(faults.contains(&format!("metering.meters[1].key: {key} {why}")), "{faults}");
    }
}

#[test]
fn the_environment_goes_over_the_file_and_flags_over_both() {
    let sources = Sources {
        file: Some(("f".into(), "[server]\nlisten = \"127.0.0.1:1\"\nh2c = true".into())),
        env: vec![
            ("TOLLGATE_SERVER__LISTEN".into(), "127.0.0.1:2".into()),
            ("TOLLGATE_METERING__ROLL_MS".into(), "100".into()),
            ("TOLLGATE_STORE__DATA".into(), "/tmp/from-env".into()),
        ],
        flags: Flags { listen: Some("127.0.0.1:3".into()), ..Flags::default() },
    };
    let settings = Settings::load(&sources).unwrap();
    assert_eq!(settings.server.listen.port(), 3);
    assert!(settings.server.h2c);
    assert_eq!(settings.metering.roll.as_millis(), 100);
    assert_eq!(settings.store.data, PathBuf::from("/tmp/from-env"));
}

#[test]
fn secrets_do_not_show() {
    let env = [("TOLLGATE_ADMIN_PASSWORD", "hunter2"), ("TOLLGATE_STORE__URL", "postgres://u:hunter2@h/d")];
    assert!(!format!("{:?}", load("", &env).unwrap()).contains("hunter2"));
}
