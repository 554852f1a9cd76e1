//! A process that is killed in the middle of a call to Stripe leaves the rest to the next one, and nothing is there twice.

use std::{path::Path, process::Command};

use serde_json::json;

use super::{
    customer::{admin, customer},
    server::{Server, tollgate},
};
use crate::support::{
    postgres,
    stripe::{Fault, KEY, StripeDouble},
};

/// Later than all that is done here by the lab's clock.
const ENDS: i64 = 4_102_444_800;

/// A laboratory, for its clock; with a double for Stripe.
fn serve(data: &Path, double: &StripeDouble, more: &[&str]) -> Server {
    let mut command: Command = tollgate();
    command.args(["serve", "--lab", "--listen", "127.0.0.1:0", "--data"]).arg(data).args(more);
    // An RSA key takes longer to make than the rest of this test.
    command.env("TOLLGATE_IDENTITY__PUBLISHED_ALGS", r#"["ES256"]"#);
    let address = format!("http://127.0.0.1:{}", double.port);
    command.env("TOLLGATE_BILLING__STRIPE", format!(r#"{{ mode = "invoice_items", api_base = "{address}" }}"#));
    command.env("TOLLGATE_BILLING__STRIPE__SECRET_KEY", KEY);
    Server::run(&mut command)
}

fn turn(server: &Server, how: &serde_json::Value) {
    let turned = server.call("POST", "/admin/v1/lab/clock", &admin(server), how);
    assert_eq!(turned.status, 200, "{}", turned.body);
}

fn killed_in_each_step(data: &Path, more: &[&str]) {
    let double = StripeDouble::start(ENDS);
    let killed_in = |server: Server, step: &str| {
        double.wait_for(step);
        server.signal("KILL");
        assert_eq!(server.ended().code(), None);
        double.seen();
    };
    let server = serve(data, &double, more);
    turn(&server, &json!({"set": "2030-01-15T00:00:00Z"}));
    double.fail("POST /v1/customers", Fault::Hang);
    customer(&server);
    killed_in(server, "POST /v1/customers");

    let server = serve(data, &double, more);
    double.fail("POST /v1/invoices", Fault::Hang);
    turn(&server, &json!({"set": "2030-02-01T02:00:00Z"}));
    killed_in(server, "POST /v1/invoices");
    for step in ["POST /v1/invoiceitems", "POST /v1/invoices/in_"] {
        double.fail(step, Fault::Hang);
        let server = serve(data, &double, more);
        // What the last process had taken upon itself is free after a while.
        turn(&server, &json!({"advance_s": 30}));
        killed_in(server, step);
    }
    let server = serve(data, &double, more);
    turn(&server, &json!({"advance_s": 30}));
    double.wait_for("POST /v1/invoices/in_");

    let of_whom = double.customers();
    let [customer] = &of_whom[..] else { panic!("{of_whom:?}") };
    let made = double.invoices();
    let [invoice] = &made[..] else { panic!("{made:?}") };
    assert_eq!((&invoice["status"], &invoice["customer"]), (&json!("open"), &customer["id"]));
    let sum: i64 = double.items(invoice).iter().map(|(amount, _)| amount).sum();
    assert_eq!((&invoice["total"], sum > 0), (&json!(sum), true));
    let own = server.get("/admin/v1/invoices", &admin(&server)).json();
    let lines = own["items"][0]["lines"].as_array().unwrap().len();
    assert_eq!(double.items(invoice).len(), lines, "each line once");
}

#[test]
fn a_process_that_is_killed_in_any_call_to_stripe_leaves_nothing_twice() {
    killed_in_each_step(tempfile::tempdir().unwrap().path(), &[]);
}

#[tokio::test]
async fn a_process_that_is_killed_in_any_call_to_stripe_leaves_nothing_twice_on_postgres() {
    let Some(server) = postgres::shared() else { return };
    let database = server.database().await;
    let test = move || killed_in_each_step(tempfile::tempdir().unwrap().path(), &["--database-url", &database]);
    tokio::task::spawn_blocking(test).await.unwrap();
}
