//! A double of Stripe, for tests. It is not Stripe: it is a server on a loopback port that does what Stripe's documents say of the
//! few calls that are made here, and keeps what it was told. What it follows, all below docs.stripe.com:
//!
//! - `/api/idempotent_requests` and `/error-low-level`: an answer is kept under its key once the endpoint has begun, errors and 500
//!   among them, and brought back with `Idempotent-Replayed: true`; other parameters under a key are an `idempotency_error`; keys
//!   are forgotten after 24 hours; what fails validation, a wrong key and the rate limiter keep nothing;
//! - `/api/errors`: `{"error": {"type", "code", "param", "message"}}`; `/rate-limits`: 429 with the code `rate_limit`;
//! - `/api/customers`, `/api/invoices`, `/api/invoiceitems`: states (`draft`, `open`, `paid`, `void`), items only on drafts, sums,
//!   lists with the newest first and `has_more`; `/search`: customers by metadata;
//! - `/api/billing/meter-event/create`, `/api/billing/meter-event-adjustment/create`,
//!   `/billing/subscriptions/usage-based/recording-usage-api`: whole numbers, 35 days back and five minutes ahead, an identifier
//!   once within 24 hours (else 400, `duplicate_meter_event`, "An event already exists with identifier …"), cancelling
//!   within 24 hours;
//! - `/webhooks`: `Stripe-Signature: t=…,v1=…`.

use std::{
    collections::HashMap,
    io::{BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

use aws_lc_rs::hmac;
use serde_json::{Value, json};

use super::receiver::{self, Call};

pub const KEY: &str = "sk_test_double";
pub const WEBHOOK_SECRET: &str = "whsec_of_the_double";
const DAY_S: i64 = 86_400;
/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_mins(1);

/// What goes wrong with the next call of a kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The connection ends before anything is done.
    Before,
    /// It ends after everything is done, before the answer.
    After,
    /// It is done, and the answer never comes: the connection hangs.
    Hang,
    /// The endpoint breaks off without having done anything: 500, which is kept under the key.
    Broken,
    /// It is done, and what is answered and kept is 500 all the same.
    DoneBroken,
    /// The answer, whatever was asked: a status, a type and a code.
    Answer(u16, &'static str, &'static str),
    /// The same with a header, for the limiter.
    Limited,
}

#[derive(Default)]
struct State {
    now: i64,
    customers: Vec<Value>,
    invoices: Vec<Value>,
    items: Vec<Value>,
    events: Vec<Value>,
    keys: HashMap<String, (i64, String, u16, Value)>,
    seen: Vec<String>,
    versions: Vec<String>,
    faults: Vec<(String, Fault)>,
    key: Option<String>,
    last: u64,
}

/// The server. It ends with the process.
pub struct StripeDouble {
    pub port: u16,
    shared: Arc<(Mutex<State>, Condvar)>,
}

type Answered = Result<Value, (u16, Value)>;

impl StripeDouble {
    /// Its clock stands at an instant in seconds.
    pub fn start(now: i64) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::<(Mutex<State>, Condvar)>::default();
        shared.0.lock().unwrap().now = now;
        let own = Arc::clone(&shared);
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let own = Arc::clone(&own);
                std::thread::spawn(move || serve(stream, &own));
            }
        });
        Self { port, shared }
    }

    /// Settings for it, as TOML, with more of `[billing.stripe]`.
    pub fn settings(&self, mode: &str, rest: &str) -> String {
        format!(
            "[billing.stripe]\nsecret_key = \"{KEY}\"\nwebhook_secret = \"{WEBHOOK_SECRET}\"\n\
             api_base = \"http://127.0.0.1:{}\"\nmode = \"{mode}\"\n{rest}\n",
            self.port
        )
    }

    pub fn set_now(&self, now: i64) {
        self.shared.0.lock().unwrap().now = now;
    }

    /// Lets the next call whose method and path begin so go wrong.
    pub fn fail(&self, call: &str, fault: Fault) {
        self.shared.0.lock().unwrap().faults.push((call.to_owned(), fault));
    }

    /// Takes another secret key from now on.
    pub fn take_key(&self, key: &str) {
        self.shared.0.lock().unwrap().key = Some(key.to_owned());
    }

    /// Method and path of what was called since this was last asked.
    pub fn seen(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.0.lock().unwrap().seen)
    }

    /// Waits until a call has come whose method and path begin so.
    #[track_caller]
    pub fn wait_for(&self, call: &str) {
        let (state, came) = &*self.shared;
        let missing = |state: &mut State| !state.seen.iter().any(|seen| seen.starts_with(call));
        let (state, late) = came.wait_timeout_while(state.lock().unwrap(), PATIENCE, missing).unwrap();
        assert!(!late.timed_out(), "no {call} in {:?}", state.seen);
    }

    /// Waits until something holds of what is there.
    #[track_caller]
    pub fn wait_until(&self, what: &str, holds: impl Fn(&[Value], &[Value]) -> bool) {
        let (state, came) = &*self.shared;
        let missing = |state: &mut State| !holds(&state.invoices, &state.items);
        let (state, late) = came.wait_timeout_while(state.lock().unwrap(), PATIENCE, missing).unwrap();
        assert!(!late.timed_out(), "not {what}: {:?}", state.seen);
    }

    pub fn customers(&self) -> Vec<Value> {
        self.shared.0.lock().unwrap().customers.clone()
    }

    pub fn invoices(&self) -> Vec<Value> {
        self.shared.0.lock().unwrap().invoices.clone()
    }

    /// The items of an invoice, as they were added: amounts and descriptions.
    pub fn items(&self, invoice: &Value) -> Vec<(i64, String)> {
        let state = self.shared.0.lock().unwrap();
        let own = state.items.iter().filter(|item| item["invoice"] == invoice["id"]);
        own.map(|item| (item["amount"].as_i64().unwrap(), item["description"].as_str().unwrap().to_owned())).collect()
    }

    /// Meter events that hold: timestamp and value.
    pub fn usage(&self) -> Vec<(i64, i64)> {
        let state = self.shared.0.lock().unwrap();
        let holding = state.events.iter().filter(|event| event["cancelled"] != true);
        holding.map(|event| (event["timestamp"].as_i64().unwrap(), event["value"].as_i64().unwrap())).collect()
    }

    /// Forgets all keys, as Stripe does after a day.
    pub fn forget_keys(&self) {
        self.shared.0.lock().unwrap().keys.clear();
    }

    /// Makes all invoices come to more.
    pub fn add_to_invoices(&self, more: i64) {
        for invoice in &mut self.shared.0.lock().unwrap().invoices {
            invoice["total"] = (invoice["total"].as_i64().unwrap() + more).into();
        }
    }

    /// The versions of the API that were asked for.
    pub fn versions(&self) -> Vec<String> {
        self.shared.0.lock().unwrap().versions.clone()
    }

    /// Somebody pays an invoice here; the event that tells of it.
    pub fn pay(&self, invoice: &Value, amount: i64) -> Value {
        let mut state = self.shared.0.lock().unwrap();
        let now = state.now;
        let own = state.invoices.iter_mut().find(|own| own["id"] == invoice["id"]).unwrap();
        own["status"] = "paid".into();
        own["amount_paid"] = amount.into();
        own["status_transitions"] = json!({"paid_at": now});
        let object = own.clone();
        let id = state.id("evt");
        json!({"id": id, "object": "event", "type": "invoice.paid", "created": now, "data": {"object": object}})
    }
}

/// What `Stripe-Signature` is for a body.
pub fn signature(secret: &str, at: i64, body: &str) -> String {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), format!("{at}.{body}").as_bytes());
    let hex = tag.as_ref().iter().fold(String::new(), |hex, byte| hex + format!("{byte:02x}").as_str());
    format!("t={at},v1={hex}")
}

impl State {
    fn id(&mut self, prefix: &str) -> String {
        self.last += 1;
        format!("{prefix}_{:08}", self.last)
    }
}

fn error(kind: &str, code: &str, param: &str, message: &str) -> Value {
    let mut error = json!({"type": kind, "message": message});
    for (name, value) in [("code", code), ("param", param)] {
        if !value.is_empty() {
            error[name] = value.into();
        }
    }
    json!({"error": error})
}

fn invalid(param: &str, message: &str) -> (u16, Value) {
    (400, error("invalid_request_error", "", param, message))
}

fn serve(stream: TcpStream, shared: &(Mutex<State>, Condvar)) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let Some(call) = receiver::read(&mut reader) else { return };
    let (fault, answer) = {
        let mut state = shared.0.lock().unwrap();
        let place = state.faults.iter().position(|(begin, _)| call.line.starts_with(begin.as_str()));
        let fault = place.map(|place| state.faults.remove(place).1);
        state.seen.push(call.line.clone());
        let answer = if fault == Some(Fault::Before) { None } else { Some(state.answer(&call, fault.as_ref())) };
        shared.1.notify_all();
        (fault, answer)
    };
    let mut stream = stream;
    match (fault, answer) {
        (Some(Fault::Before | Fault::After), _) | (_, None) => {}
        // Until the other side lets go.
        (Some(Fault::Hang), _) => drop(stream.read_to_end(&mut Vec::new())),
        (fault, Some((status, headers, body))) => {
            let body = body.to_string();
            let more = if fault == Some(Fault::Limited) { "retry-after: 7\r\n" } else { "" };
            let length = body.len();
            let head = format!(
                "HTTP/1.1 {status} Said\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\
                 request-id: req_double\r\nconnection: close\r\n{headers}{more}\r\n"
            );
            drop(stream.write_all(format!("{head}{body}").as_bytes()));
        }
    }
}

impl State {
    fn answer(&mut self, call: &Call, fault: Option<&Fault>) -> (u16, &'static str, Value) {
        let given = call.headers.iter().find(|(name, _)| name == "authorization").map(|(_, value)| value.as_str());
        let expected = format!("Bearer {}", self.key.as_deref().unwrap_or(KEY));
        if given != Some(expected.as_str()) {
            return (401, "", error("invalid_request_error", "", "", "Invalid API Key provided: sk_test_***"));
        }
        match fault {
            Some(Fault::Answer(status, kind, code)) => return (*status, "", error(kind, code, "", "as the test says")),
            Some(Fault::Limited) => {
                let message = "Request rate limit exceeded.";
                return (429, "stripe-should-retry: true\r\n", error("rate_limit_error", "rate_limit", "", message));
            }
            _ => {}
        }
        self.versions.push(call.header("stripe-version").to_owned());
        let (method, path) = call.line.split_once(' ').unwrap();
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        if method == "GET" {
            let fields = fields(query);
            let answer = self.look(path, &fields);
            return answer.map_or(
                (404, "", error("invalid_request_error", "resource_missing", "id", "No such object")),
                |found| (200, "", found),
            );
        }
        let key = call.header("idempotency-key").to_owned();
        assert!(!key.is_empty() && key.len() <= 255, "{key}");
        let asked = format!("{path} {}", call.body);
        self.keys.retain(|_, (at, ..)| self.now - *at < DAY_S);
        if let Some((_, before, status, body)) = self.keys.get(&key) {
            if *before == asked {
                return (*status, "idempotent-replayed: true\r\n", body.clone());
            }
            let message = format!(
                "Keys for idempotent requests can only be used with the same parameters they were first used with. \
                 Try using a key other than '{key}' if you meant to execute a different request."
            );
            return (400, "", error("idempotency_error", "", "", &message));
        }
        if fault == Some(&Fault::Broken) {
            let broken = error("api_error", "", "", "An unknown error occurred");
            self.keys.insert(key, (self.now, asked, 500, broken.clone()));
            return (500, "", broken);
        }
        match self.act(path, &fields(&call.body)) {
            Ok(_) if fault == Some(&Fault::DoneBroken) => {
                let broken = error("api_error", "", "", "An unknown error occurred");
                self.keys.insert(key, (self.now, asked, 500, broken.clone()));
                (500, "", broken)
            }
            Ok(body) => {
                self.keys.insert(key, (self.now, asked, 200, body.clone()));
                (200, "", body)
            }
            // What is refused before it is begun is not kept.
            Err((status, body)) => (status, "", body),
        }
    }

    fn look(&self, path: &str, fields: &Fields) -> Option<Value> {
        let list = |all: &[Value], is_it: &dyn Fn(&Value) -> bool| {
            let since: i64 = fields.get("created[gte]").map_or(0, |text| text.parse().unwrap());
            let found = all.iter().rev().filter(|one| is_it(one) && one["created"].as_i64().unwrap() >= since);
            let data: Vec<Value> = found.cloned().collect();
            json!({"object": "list", "data": data, "has_more": false})
        };
        if path == "/v1/customers/search" {
            let wanted = fields["query"].strip_prefix("metadata['tenant_id']:'")?.strip_suffix('\'')?.to_owned();
            return Some(list(&self.customers, &|one| one["metadata"]["tenant_id"] == wanted.as_str()));
        }
        let same = |name: &'static str| move |one: &Value| fields.get(name).is_none_or(|id| one[name] == id.as_str());
        match path {
            "/v1/invoices" => Some(list(&self.invoices, &same("customer"))),
            "/v1/invoiceitems" => Some(list(&self.items, &same("invoice"))),
            _ => self
                .invoices
                .iter()
                .find(|one| Some(one["id"].as_str().unwrap()) == path.strip_prefix("/v1/invoices/"))
                .cloned(),
        }
    }

    fn act(&mut self, path: &str, fields: &Fields) -> Answered {
        let parts: Vec<&str> = path.trim_start_matches("/v1/").split('/').collect();
        match parts[..] {
            ["customers"] => {
                let id = self.id("cus");
                let mut customer = json!({"id": id, "object": "customer", "created": self.now});
                put(&mut customer, fields);
                self.customers.push(customer.clone());
                Ok(customer)
            }
            ["customers", id] => {
                let own = self.customers.iter_mut().find(|one| one["id"] == id);
                let own = own.ok_or_else(|| invalid("id", "No such customer"))?;
                put(own, fields);
                Ok(own.clone())
            }
            ["invoices"] => self.make_invoice(fields),
            ["invoices", id, verb] => self.turn_invoice(id, verb, fields),
            ["invoiceitems"] => self.add_item(fields),
            ["billing", "meter_events"] => self.take_event(fields),
            ["billing", "meter_event_adjustments"] => {
                let now = self.now;
                let id = fields.get("cancel[identifier]").map(String::as_str).unwrap_or_default();
                let event = self.events.iter_mut().find(|event| event["identifier"] == id);
                let event = event.ok_or_else(|| invalid("cancel[identifier]", "No such event"))?;
                if now - event["created"].as_i64().unwrap() > DAY_S {
                    return Err(invalid("cancel[identifier]", "You can only cancel events within 24 hours"));
                }
                event["cancelled"] = true.into();
                Ok(json!({"object": "billing.meter_event_adjustment", "status": "pending", "type": "cancel"}))
            }
            _ => {
                Err((404, error("invalid_request_error", "", "", &format!("Unrecognized request URL (POST: {path})"))))
            }
        }
    }

    fn make_invoice(&mut self, fields: &Fields) -> Answered {
        let customer = fields.get("customer").cloned().unwrap_or_default();
        if !self.customers.iter().any(|one| one["id"] == customer.as_str()) {
            let message = format!("No such customer: '{customer}'");
            return Err((400, error("invalid_request_error", "resource_missing", "customer", &message)));
        }
        let is_sent = fields.get("collection_method").is_some_and(|method| method == "send_invoice");
        if is_sent != fields.contains_key("days_until_due") {
            return Err(invalid("days_until_due", "You can only set days_until_due for send_invoice"));
        }
        let id = self.id("in");
        let mut invoice = json!({"id": id, "object": "invoice", "created": self.now, "status": "draft", "total": 0,
            "amount_due": 0, "amount_paid": 0});
        put(&mut invoice, fields);
        self.invoices.push(invoice.clone());
        Ok(invoice)
    }

    fn add_item(&mut self, fields: &Fields) -> Answered {
        let id = fields.get("invoice").cloned().unwrap_or_default();
        let invoice = self.invoices.iter_mut().find(|one| one["id"] == id.as_str());
        let invoice = invoice.ok_or_else(|| invalid("invoice", "No such invoice"))?;
        if invoice["status"] != "draft" {
            return Err(invalid("invoice", "The invoice is not a draft"));
        }
        if invoice["currency"] != fields["currency"].as_str() {
            return Err(invalid("currency", "The currency of the invoice is another"));
        }
        let amount: i64 = fields["amount"].parse().map_err(|_| invalid("amount", "Invalid integer"))?;
        let total = invoice["total"].as_i64().unwrap() + amount;
        invoice["total"] = total.into();
        invoice["amount_due"] = total.max(0).into();
        let id = self.id("ii");
        let mut item = json!({"id": id, "object": "invoiceitem", "created": self.now});
        put(&mut item, fields);
        item["amount"] = amount.into();
        self.items.push(item.clone());
        Ok(item)
    }

    fn turn_invoice(&mut self, id: &str, verb: &str, fields: &Fields) -> Answered {
        let invoice = self.invoices.iter_mut().find(|one| one["id"] == id);
        let invoice = invoice.ok_or_else(|| invalid("invoice", "No such invoice"))?;
        let status = invoice["status"].as_str().unwrap().to_owned();
        let next = match (verb, status.as_str()) {
            ("finalize", "draft") => "open",
            ("finalize", _) => {
                let message = "This invoice is already finalized, you can't re-finalize a non-draft invoice.";
                return Err(invalid("", message));
            }
            ("void", "open" | "uncollectible") => "void",
            ("pay", "open") if fields.get("paid_out_of_band").is_some_and(|yes| yes == "true") => "paid",
            ("pay", "paid") => return Err(invalid("", "Invoice is already paid")),
            _ => {
                return Err(invalid(
                    "",
                    &format!("You can only pass in open invoices. This invoice isn't open: {status}"),
                ));
            }
        };
        invoice["status"] = next.into();
        Ok(invoice.clone())
    }

    fn take_event(&mut self, fields: &Fields) -> Answered {
        let identifier = fields["identifier"].clone();
        if identifier.len() > 100 {
            return Err(invalid("identifier", "Invalid string: must be at most 100 characters"));
        }
        let recent = |event: &Value| self.now - event["created"].as_i64().unwrap() < DAY_S;
        if self.events.iter().any(|event| event["identifier"] == identifier.as_str() && recent(event)) {
            let message = format!("An event already exists with identifier {identifier}.");
            return Err((400, error("invalid_request_error", "duplicate_meter_event", "identifier", &message)));
        }
        let timestamp: i64 = fields["timestamp"].parse().unwrap();
        if timestamp < self.now - 35 * DAY_S || timestamp > self.now + 300 {
            return Err(invalid("timestamp", "The timestamp must be within the past 35 calendar days"));
        }
        let value: i64 =
            fields["payload[value]"].parse().map_err(|_| invalid("payload[value]", "must be a whole number"))?;
        if !self.customers.iter().any(|one| one["id"] == fields["payload[stripe_customer_id]"].as_str()) {
            return Err(invalid("payload[stripe_customer_id]", "No such customer"));
        }
        let event = json!({"object": "billing.meter_event", "identifier": identifier, "created": self.now,
            "event_name": fields["event_name"], "timestamp": timestamp, "value": value});
        self.events.push(event.clone());
        Ok(event)
    }
}

type Fields = HashMap<String, String>;

fn fields(form: &str) -> Fields {
    url::form_urlencoded::parse(form.as_bytes()).into_owned().collect()
}

/// Puts fields in brackets where they belong; an empty one is taken off.
fn put(object: &mut Value, fields: &Fields) {
    for (name, value) in fields {
        let (name, inner) =
            name.split_once('[').map_or((name.as_str(), None), |(name, inner)| (name, inner.strip_suffix(']')));
        let value = if value.is_empty() { Value::Null } else { Value::String(value.clone()) };
        match inner {
            None => object[name] = value,
            Some(inner) => {
                if !object[name].is_object() {
                    object[name] = json!({});
                }
                object[name][inner] = value;
            }
        }
    }
}
