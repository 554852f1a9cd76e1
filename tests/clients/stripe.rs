//! Stripe's own library for Python: what it signs, this program verifies; and the double that the other tests use answers it as it
//! expects Stripe to.

use super::{scene::Scene, venv::Venv};
use crate::support::stripe::{KEY, StripeDouble, WEBHOOK_SECRET, signature};

#[test]
fn stripes_library_for_python_signs_what_is_verified_and_understands_the_double() {
    let Some(venv) = Venv::with(&["stripe==16.1.0"]) else { return };
    let stripe = format!(
        r#"{{ mode = "invoice_items", secret_key = "{KEY}", webhook_secret = ["whsec_new", "{WEBHOOK_SECRET}"] }}"#
    );
    let scene =
        Scene::with(&[("TOLLGATE_IDENTITY__PUBLISHED_ALGS", r#"["ES256"]"#), ("TOLLGATE_BILLING__STRIPE", &stripe)]);
    let double = StripeDouble::start(1_900_000_000);
    let event =
        r#"{"id": "evt_1", "object": "event", "type": "invoice.paid", "data": {"object": {"object": "invoice"}}}"#;
    let mut variables = scene.variables();
    variables.extend([
        ("DOUBLE_URL", format!("http://127.0.0.1:{}", double.port)),
        ("STRIPE_KEY", KEY.to_owned()),
        ("WEBHOOK_SECRET", WEBHOOK_SECRET.to_owned()),
        ("DOUBLE_EVENT", event.to_owned()),
        ("DOUBLE_SIGNATURE", signature(WEBHOOK_SECRET, 1_700_000_000, event)),
    ]);
    venv.run("stripe_client.py", &variables);
}
