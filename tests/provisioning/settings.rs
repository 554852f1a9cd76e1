//! Settings of drivers: every fault at once, and what is a fault.

use tollgate::settings::{Settings, Sources};

fn faults(text: &str) -> Vec<String> {
    let sources = Sources { file: Some(("test".into(), text.to_owned())), ..Sources::default() };
    match Settings::load(&sources) {
        Ok(_) => Vec::new(),
        Err(faults) => faults.0.into_iter().map(|fault| fault.path).collect(),
    }
}

#[test]
fn a_driver_that_is_named_must_be_set_up() {
    assert!(faults("[provisioning]\npool = \"sqlite\"\nbridge = \"none\"\nsilo = \"sqlite\"").is_empty());
    for driver in ["postgres", "process", "exec", "webhook"] {
        assert_eq!(faults(&format!("[provisioning]\nsilo = \"{driver}\"")), [format!("provisioning.{driver}")]);
    }
    assert_eq!(faults("[provisioning]\nsilo = \"terraform\""), ["provisioning.silo"]);
    let process = "[provisioning]\ndriver = \"process\"\n[provisioning.process]\ncommand = [\"/bin/app\"]";
    assert_eq!(faults(process), ["provisioning.process"], "pools have no process of their own");
}

#[test]
fn every_fault_of_every_driver_is_told_at_once() {
    let text = "
        [[provisioning.pools]]
        name = \"Not This\"
        [[provisioning.pools]]
        name = \"a\"
        capacity = -1
        [[provisioning.pools]]
        name = \"a\"
        [provisioning.postgres]
        url = \"mysql://a\"
        prefix = \"Pre fix\\\"\"
        schema = \"/nowhere/schema.sql\"
        [provisioning.process]
        command = [\"app\"]
        first_port = 80
        health = \"healthz\"
        [provisioning.exec]
        command = []
        timeout_s = 0
        shell = true
        [provisioning.webhook]
        url = \"http://127.0.0.1/\"
        secret = \"whsec_c2hvcnQ=\"";
    let all = [
        "provisioning.pools[0].name",
        "provisioning.pools[1].capacity",
        "provisioning.pools[2].name",
        "provisioning.postgres.prefix",
        "provisioning.postgres.schema",
        "provisioning.postgres.url",
        "provisioning.process.command",
        "provisioning.process.first_port",
        "provisioning.process.health",
        "provisioning.exec.command",
        "provisioning.exec.timeout_s",
        "provisioning.exec.shell",
        "provisioning.webhook.secret",
        "provisioning.webhook.url",
    ];
    let mut found = faults(text);
    found.sort_unstable();
    let mut all: Vec<String> = all.map(str::to_owned).into();
    all.sort_unstable();
    assert_eq!(found, all);
}

#[test]
fn whom_a_webhook_may_call_is_said_by_settings() {
    let with = |url: &str, more: &str| {
        faults(&format!(
            "[provisioning.webhook]\nurl = \"{url}\"\nsecret = \"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYqr\"\n{more}"
        ))
    };
    assert!(with("https://provision.example/", "").is_empty());
    for url in
        ["https://10.0.0.1/", "https://[::1]/", "https://169.254.169.254/", "http://provision.example/", "nowhere"]
    {
        assert_eq!(with(url, ""), ["provisioning.webhook.url"], "{url}");
    }
    assert!(with("http://10.0.0.1/", "allow_private = true").is_empty());
}
