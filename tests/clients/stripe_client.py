"""Stripe's own library: it signs for Tollgate, verifies the double's signatures, and calls the double as if it were Stripe."""

import json
import os
import time
import urllib.error
import urllib.request

import stripe

URL, DOUBLE, KEY, SECRET = (os.environ[n] for n in ("TOLLGATE_URL", "DOUBLE_URL", "STRIPE_KEY", "WEBHOOK_SECRET"))


def told(payload, header):
    request = urllib.request.Request(
        URL + "/webhooks/stripe", payload.encode(), {"stripe-signature": header, "content-type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def header(payload, secret=SECRET, at=None):
    at = int(time.time()) if at is None else at
    return f"t={at},v1={stripe.WebhookSignature._compute_signature(f'{at}.{payload}', secret)}"


# What the library signs holds here, and what it would refuse is refused.
event = json.dumps({"id": "evt_1", "object": "event", "type": "customer.created", "data": {"object": {}}})
assert told(event, header(event)) == (200, {"outcome": "ignored"})
for wrong in (header(event, "whsec_other"), header(event, at=int(time.time()) - 400), "", "t=1,v1=x"):
    try:
        stripe.Webhook.construct_event(event, wrong, SECRET)
        raise AssertionError(f"the library takes {wrong}")
    except stripe.SignatureVerificationError:
        pass
    status, problem = told(event, wrong)
    assert status == 400, problem

# What the double signs, the library verifies. It is of long ago: the tolerance is left out.
event = os.environ["DOUBLE_EVENT"]
read = stripe.Webhook.construct_event(event, os.environ["DOUBLE_SIGNATURE"], SECRET, tolerance=None)
assert read.type == "invoice.paid", read

# The double is understood: objects, lists, and errors by their kinds.
client = stripe.StripeClient(KEY, base_addresses={"api": DOUBLE}, max_network_retries=0)
customer = client.v1.customers.create({"name": "Acme", "metadata": {"tenant_id": "t"}}, {"idempotency_key": "c"})
assert client.v1.customers.create({"name": "Acme", "metadata": {"tenant_id": "t"}}, {"idempotency_key": "c"}).id == customer.id
try:
    client.v1.customers.create({"name": "Bolt"}, {"idempotency_key": "c"})
    raise AssertionError("another request under the same key")
except stripe.IdempotencyError as error:
    assert error.http_status == 400, error
found = client.v1.customers.search({"query": "metadata['tenant_id']:'t'"})
assert [one.id for one in found.data] == [customer.id], found
invoice = client.v1.invoices.create(
    {"customer": customer.id, "currency": "usd", "collection_method": "send_invoice", "days_until_due": 14}
)
client.v1.invoice_items.create({"customer": customer.id, "invoice": invoice.id, "amount": 2500, "currency": "usd"})
finalized = client.v1.invoices.finalize_invoice(invoice.id, {"auto_advance": False})
assert (finalized.status, finalized.total) == ("open", 2500), finalized
try:
    client.v1.invoices.finalize_invoice(invoice.id)
    raise AssertionError("finalised twice")
except stripe.InvalidRequestError as error:
    assert error.http_status == 400, error
usage = {
    "event_name": "api_calls",
    "identifier": "once",
    "timestamp": 1_900_000_000,
    "payload": {"stripe_customer_id": customer.id, "value": "25"},
}
assert client.v1.billing.meter_events.create(usage).identifier == "once"
try:
    client.v1.billing.meter_events.create(usage)
    raise AssertionError("the same event twice")
except stripe.InvalidRequestError as error:
    assert error.code == "duplicate_meter_event", error
try:
    stripe.StripeClient("sk_other", base_addresses={"api": DOUBLE}).v1.invoices.retrieve(invoice.id)
    raise AssertionError("another key")
except stripe.AuthenticationError:
    pass
