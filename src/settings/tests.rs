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
fn the_currency_is_that_of_a_plan() {
    let faults = load("[billing]\ncurrency = \"EUR\"", &[]).unwrap_err().to_string();
    assert!(faults.contains("billing.currency: is EUR, which no plan has (tollgate.toml)"), "{faults}");
}

#[test]
fn folders_of_fonts_must_be_there() {
    let folder = std::env::temp_dir().display().to_string();
    let settings = load(&format!("[billing]\nfonts = [{folder:?}]"), &[]).unwrap();
    assert_eq!(settings.billing.invoices.fonts, [std::env::temp_dir()]);
    let faults = load("[billing]\nfonts = [\"/no/fonts\"]", &[]).unwrap_err().to_string();
    assert!(faults.contains("billing.fonts: /no/fonts is no folder (tollgate.toml)"), "{faults}");
    let faults = load("[billing]\nfonts = \"/usr/share/fonts\"", &[]).unwrap_err().to_string();
    assert!(faults.contains("billing.fonts: must be an array of texts"), "{faults}");
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
gateway.routes[0].meters[0]: \"requests\" is not one of apis, compute, memory, egress_bytes, ingress_bytes; another meter needs a table with a value (tollgate.toml)
gateway.routes[0].colour: is not a setting (tollgate.toml)
metering.flush_ms: must be from 1 to 1000 (TOLLGATE_METERING__FLUSH_MS)
nonsense.key: is not a setting (tollgate.toml)
server.listn: is not a setting; did you mean server.listen? (tollgate.toml)";
    assert_eq!(faults, expected);
}

/// Routes with a fault in each of their settings.
const ROUTES: &str = r#"
[gateway]
max_in_flight = -1

[[gateway.routes]]
path = "/a/../b"
upstream = "builtin:sample"
host = "*.a.*"
methods = ["GE T"]
roles = ["chief"]
billed = ["2xx", "600-500"]
body_limit = -1
max_concurrency = 0
rate_limit = { requests = 0, per_s = 1, bursts = 5 }
meters = [
    "tokens",
    { meter = "tokens" },
    { meter = "Tokens", value = "count" },
    { meter = "tokens", value = "json:usage" },
    { meter = "tokens", value = "json:/usage", hold = 0, colour = "red" },
    { meter = "apis", value = "count", hold = 5 },
    "apis",
    7,
]

[[gateway.routes]]
path = "/b"
upstream = "builtin:sample"
meters = ["apis", "compute", "memory", "egress_bytes", "ingress_bytes", { meter = "a", value = "count" },
          { meter = "b", value = "count" }, { meter = "c", value = "count" }, { meter = "d", value = "count" }]

[[gateway.routes]]
path = "/b/"
upstream = "builtin:sample"
public = true
scopes = ["read"]
features = ["reports"]
    "#;

#[test]
fn every_fault_of_a_route_is_reported_at_once_with_its_place() {
    let sources = Sources { file: Some(("tollgate.toml".into(), ROUTES.into())), ..Sources::default() };
    let faults = Settings::load(&sources).unwrap_err().0;
    let found: Vec<_> = faults.iter().map(|fault| format!("{}: {}", fault.path, fault.detail)).collect();
    let unit = "must be count, request_bytes, response_bytes, milliseconds, header:NAME or json:/POINTER";
    let key = "must be 1 to 64 lower-case letters, digits or `_`, beginning with a letter";
    let first = "gateway.routes[0]";
    let expected = [
        format!("{first}.path: has a dot segment"),
        format!("{first}.host: must be a host name without a port, such as api.example.com or *.example.com"),
        format!("{first}.methods: \"GE T\" is not a method"),
        format!("{first}.roles: \"chief\" must be one of owner, admin, member"),
        format!(
            "{first}.meters[0]: \"tokens\" is not one of apis, compute, memory, egress_bytes, ingress_bytes; \
             another meter needs a table with a value"
        ),
        format!("{first}.meters[1].value: is required"),
        format!("{first}.meters[2].meter: {key}"),
        format!("{first}.meters[3].value: {unit}"),
        format!("{first}.meters[4].hold: must be from 1 to 100000000000"),
        format!("{first}.meters[4].colour: is not a setting"),
        format!("{first}.meters[5].hold: is not for count, of which each request is known to have one"),
        format!("{first}.meters[6]: is counted by this route already"),
        format!("{first}.meters[7]: must be a text or a table, not integer"),
        format!("{first}.billed: must be statuses such as \"200\", \"2xx\" or \"200-299\", from 100 to 999"),
        format!("{first}.body_limit: must be from 0 to 1099511627776"),
        format!("{first}.rate_limit.requests: must be from 1 to 1000000"),
        format!("{first}.rate_limit.burst: is required"),
        format!("{first}.rate_limit.bursts: is not a setting; did you mean .burst?"),
        format!("{first}.max_concurrency: must be from 1 to 4294967295"),
        "gateway.routes[1].meters: can be at most 8".to_owned(),
        "gateway.routes[2].scopes: is not for a public route: it does not know who calls".to_owned(),
        "gateway.routes[2].features: is not for a public route: it does not know who calls".to_owned(),
        "gateway.routes[2].path: is that of gateway.routes[1], for the same host and method".to_owned(),
        "gateway.max_in_flight: must be from 0 to 1073741824".to_owned(),
    ];
    let (mut found, mut expected) = (found, expected.to_vec());
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
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

#[test]
fn lab_mode_is_refused_where_others_could_reach_it_or_take_it_for_real() {
    let lab = |file: &str| {
        let sources = Sources {
            file: Some(("f".into(), file.into())),
            flags: Flags { lab: true, ..Flags::default() },
            ..Sources::default()
        };
        Settings::load(&sources).map_err(|faults| faults.to_string())
    };
    assert!(lab("").unwrap().lab.enabled);
    assert!(!load("", &[]).unwrap().lab.enabled);
    let faults =
        lab("[server]\nlisten = \"0.0.0.0:8080\"\nadmin_listen = \"192.0.2.1:1\"\nissuer = \"https://id.example.com\"");
    let expected = "\
server.listen: must be a loopback address in lab mode, unless lab.force is true (f)
server.admin_listen: must be a loopback address in lab mode, unless lab.force is true (f)
server.issuer: is a public name, and lab mode is refused with one (f)";
    assert_eq!(faults.unwrap_err(), expected);
    let forced = |issuer: &str| lab(&format!("[server]\nlisten = \"0.0.0.0:8080\"\n{issuer}[lab]\nforce = true"));
    assert!(forced("").is_ok());
    assert!(forced("issuer = \"http://tollgate:8080\"\n").is_ok());
    let public = "server.issuer: is a public name, and lab mode is refused with one";
    assert!(forced("issuer = \"https://id.example.com\"\n").unwrap_err().starts_with(public));
    let public_address = lab("[server]\nlisten = \"8.8.8.8:80\"\n[lab]\nforce = true");
    assert!(public_address.unwrap_err().starts_with(public), "the issuer that it would have by itself");
}

#[test]
fn what_is_for_tests_alone_needs_lab_mode() {
    let file = r#"
        [identity]
        allow_password_grant = true
        login_throttle = false
        [[seed.tenants]]
        customer_name = "Acme"
        users = [{ email = "ada@acme.example", password = "ada" }]
        [[seed.clients]]
        client_id = "01900000-0000-7000-8000-000000000001"
        client_secret = "secret"
        tenant = "Acme"
    "#;
    let faults = load(file, &[]).unwrap_err().to_string();
    let keys = ["identity.allow_password_grant", "identity.login_throttle", "seed.tenants", "seed.clients"];
    let expected = keys.map(|key| format!("{key}: is for tests only: it needs lab mode (--lab) (tollgate.toml)"));
    assert_eq!(faults, expected.join("\n"));
    let settings = load(file, &[("TOLLGATE_LAB__ENABLED", "true")]).unwrap();
    assert!(settings.identity.allow_password_grant && !settings.identity.login_throttle);
    assert_eq!((settings.seed.tenants.len(), settings.seed.clients.len()), (1, 1));
    assert!(!format!("{settings:?}").contains("\"ada\""), "passwords do not show");
}

#[test]
fn every_fault_of_the_seeds_is_reported_at_once() {
    let file = r#"
        [lab]
        enabled = true
        [[seed.tenants]]
        customer_name = "Acme"
        tier = "Premium"
        colour = "red"
        [[seed.tenants.users]]
        email = "ada"
        [[seed.tenants]]
        customer_name = "Globex"
        external_id = "g"
        [[seed.tenants.users]]
        email = "ada@globex.example"
        role = "member"
        [[seed.tenants.users]]
        email = "ADA@globex.example"
        passwort = "x"
        [[seed.tenants.clients]]
        client_id = "robot"
        client_secret = 7
        [[seed.tenants]]
        customer_name = "Globex"
        external_id = "g"
        users = [{ email = "ada@globex.example", password = "other" }]
        [[seed.tenants]]
        customer_name = "Empty"
        [[seed.clients]]
        client_id = "01900000-0000-7000-8000-000000000001"
        redirect_uris = ["http://evil.example/cb"]
        scope = "everything"
        [[seed.clients]]
        client_id = "01900000-0000-7000-8000-000000000002"
        token_endpoint_auth_method = "none"
        client_secret = "none"
        redirect_uris = ["https://app.example/cb"]
        [[seed.clients]]
        client_id = "01900000-0000-7000-8000-000000000003"
        redirect_uris = "https://app.example/cb"
    "#;
    let faults = load(file, &[]).unwrap_err().to_string();
    for expected in [
        "seed.tenants[0].tier: must be lower-case letters",
        "seed.tenants[0].users[0].email: is not an email address",
        "seed.tenants[0].colour: is not a setting",
        "seed.tenants[1].users[0].role: must be owner",
        "seed.tenants[1].users[1].email: is in this tenant twice",
        "seed.tenants[1].users[1].passwort: is not a setting; did you mean .password?",
        "seed.tenants[1].clients[0].client_id: not a UUID",
        "seed.tenants[1].clients[0].client_secret: must be a text, not integer",
        "seed.tenants[3].users: must not be empty",
        "seed.clients[0].redirect_uris: \"http://evil.example/cb\" must be https",
        "seed.clients[0].scope: everything cannot be registered",
        "seed.clients[1].client_secret: is nothing for a public client",
        "seed.clients[2]: invalid type: string",
    ] {
        assert!(faults.contains(expected), "no {expected:?} in\n{faults}");
    }
}

#[test]
fn no_name_of_the_seeds_stands_for_two_things() {
    let file = r#"
        [lab]
        enabled = true
        [[seed.tenants]]
        customer_name = "Acme"
        external_id = "a"
        users = [{ email = "ada@acme.example", password = "one" }]
        [[seed.tenants]]
        customer_name = "Acme"
        external_id = "a"
        users = [{ email = "Ada@acme.example", password = "other" }]
        [[seed.clients]]
        client_id = "01900000-0000-7000-8000-000000000001"
        client_secret = "s"
        tenant = "Acme"
        [[seed.clients]]
        client_id = "01900000-0000-7000-8000-000000000001"
        client_secret = "s"
        tenant = "Acme"
    "#;
    let expected = "\
seed.tenants[1].customer_name: is that of seed.tenants[0] (tollgate.toml)
seed.tenants[1].external_id: is that of seed.tenants[0] (tollgate.toml)
seed.tenants[1].users[0].password: is another than at seed.tenants[0].users[0] (tollgate.toml)
seed.clients[1].client_id: is that of seed.clients[0] (tollgate.toml)";
    assert_eq!(load(file, &[]).unwrap_err().to_string(), expected);
}

#[test]
fn foreign_issuers_have_every_fault_reported_with_its_place() {
    let file = r#"
        [server]
        issuer = "https://id.example.com"
        [[identity.issuers]]
        issuer = "https://id.example.com"
        audience = ["api"]
        tenant_claim = "org"
        tenants = ["*"]
        [[identity.issuers]]
        issuer = "idp.example.com"
        jwks_uri = "ftp://idp.example.com"
        algorithms = ["HS256", "none"]
        accept_typ = []
        tenants = ["*", "one"]
        on_unknown_tenant = "invent"
        keys_lifetime_s = 5
        introspection_client_id = "gate"
        colour = "red"
        [[identity.issuers]]
        issuer = "https://idp.example.com"
        client_id = 7
        tenant_claim = ""
        introspection_endpoint = "https://idp.example.com/introspect"
        [[identity.issuers]]
        issuer = "https://other.example.com"
        audience = "api"
        client_id = ["one"]
        tenants = ["a", "b"]
        [[identity.issuers]]
        issuer = "https://third.example.com?a=b"
        audience = ["api"]
        tenants = ["a"]
    "#;
    let expected = "\
identity.issuers[1].issuer: \"idp.example.com\" is not an address such as https://idp.example.com (tollgate.toml)
identity.issuers[1].jwks_uri: \"ftp://idp.example.com\" is not an address such as https://idp.example.com (tollgate.toml)
identity.issuers[1].algorithms: HS256: must be one of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512 and EdDSA (tollgate.toml)
identity.issuers[1].algorithms: none: must be one of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512 and EdDSA (tollgate.toml)
identity.issuers[1].audience: must name at least one, unless client_id is set (tollgate.toml)
identity.issuers[1].accept_typ: must name at least one; an empty text stands for tokens without a type (tollgate.toml)
identity.issuers[1].tenants: names others beside \"*\", which stands for all (tollgate.toml)
identity.issuers[1].tenant_claim: is required, unless tenants names exactly one (tollgate.toml)
identity.issuers[1].on_unknown_tenant: must be one of refuse, create (tollgate.toml)
identity.issuers[1].keys_lifetime_s: must be from 30 to 86400 (tollgate.toml)
identity.issuers[1].introspection_client_id: is for introspection_endpoint, which is not set (tollgate.toml)
identity.issuers[1].colour: is not a setting (tollgate.toml)
identity.issuers[2].client_id: must be a text, or an array of texts (tollgate.toml)
identity.issuers[2].tenant_claim: must not be empty (tollgate.toml)
identity.issuers[2].tenants: is required where there are several issuers: each speaks for its own tenants (tollgate.toml)
identity.issuers[2].introspection_endpoint: needs introspection_client_id and introspection_client_secret (tollgate.toml)
identity.issuers[3].audience: must be an array of texts, not string (tollgate.toml)
identity.issuers[3].tenant_claim: is required, unless tenants names exactly one (tollgate.toml)
identity.issuers[4].issuer: \"https://third.example.com?a=b\" is not an address such as https://idp.example.com (tollgate.toml)";
    assert_eq!(load(file, &[]).unwrap_err().to_string(), expected);
    let own = "[server]\nissuer = \"https://id.example.com\"\n[[identity.issuers]]\nissuer = \"https://id.example.com\"\naudience = [\"api\"]\n\
               tenant_claim = \"org\"\n";
    let faults = load(own, &[]).unwrap_err().to_string();
    assert_eq!(faults, "identity.issuers[0].issuer: is this server's own (tollgate.toml)");
    let one = "[[identity.issuers]]\nissuer = \"https://idp.example.com\"\naudience = [\"api\"]\ntenant_claim = \"org\"\ntenants = [\"a\"]\n";
    let faults = load(&one.repeat(2), &[]).unwrap_err().to_string();
    assert_eq!(faults, "identity.issuers[1].issuer: is the issuer of another entry (tollgate.toml)");
    // The least that an issuer needs, and what it means.
    let settings = load(&one.replace("tenant_claim = \"org\"\n", ""), &[]).unwrap();
    let [issuer] = settings.identity.issuers.as_slice() else { panic!() };
    assert_eq!((issuer.keys_lifetime_s, issuer.keys_stale_s), (300, 3_600));
    assert_eq!(issuer.accept_typ, ["at+jwt", "JWT"]);
}
