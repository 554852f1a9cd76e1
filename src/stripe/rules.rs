//! What an answer of Stripe's means, and how a job goes on after it.
//!
//! After Stripe's pages "Advanced error handling" and "Idempotent requests": an answer is kept under its idempotency key
//! once the endpoint has begun, failures and status 500 among them, for a day at least. So a call without an answer is made again
//! with the same key within a day; after that, or when the key brings back a failure of Stripe's own, it is looked up whether the
//! step was done, and done under another key when it was not.

use serde_json::Value;

use super::model::{Answer, Call, Job, Lane, Settled, Step, Turn};
use crate::kernel::Timestamp;

/// The first wait after a failure, which doubles up to the longest, in seconds.
const FIRST_WAIT_S: i64 = 2;
const MOST_WAIT_S: i64 = 600;
/// Waits are longer by up to this part of themselves, by lot.
const JITTER: i64 = 2;
/// `Retry-After` is heeded up to this, in seconds.
const MOST_RETRY_AFTER_S: i64 = 3_600;
/// A key is relied on for so long: Stripe forgets it after a day at the earliest.
const KEY_S: i64 = 23 * 3_600;
/// What is to be looked up may need so long until a search finds it (Stripe, "Search", "Data freshness": a minute).
const SEARCHABLE_S: i64 = 90;
/// The longest error that is kept, in characters.
const MAX_ERROR: usize = 500;

/// What an answer means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is done, or this is what there is.
    Done,
    /// It was done before.
    Known,
    /// Not now; the same again later.
    Later(String),
    /// It is not known whether it was done, and asking again says no more.
    Doubt(String),
    /// It is wrong, and will be until somebody changes something.
    Refused(String),
    /// Nothing will be taken from us.
    Halt(String),
}

/// Reads an answer.
pub fn verdict(answer: &Answer) -> Verdict {
    let Some(status) = answer.status else {
        return Verdict::Later(answer.failure.clone().unwrap_or_else(|| "there was no answer".to_owned()));
    };
    let (kind, code) = (field(&answer.body, "type"), field(&answer.body, "code"));
    let text = said(status, answer);
    match status {
        200..=299 => Verdict::Done,
        401 | 403 => Verdict::Halt(text),
        400 if kind == "idempotency_error" && code != "idempotency_key_in_use" => Verdict::Doubt(text),
        400 if is_known(answer) => Verdict::Known,
        409 | 429 => Verdict::Later(text),
        _ if code == "idempotency_key_in_use" || code == "lock_timeout" || code == "rate_limit" => Verdict::Later(text),
        500..=599 if answer.replayed || answer.should_retry == Some(false) => Verdict::Doubt(text),
        500..=599 => Verdict::Later(text),
        _ if answer.should_retry == Some(true) && !answer.replayed => Verdict::Later(text),
        300..=399 => Verdict::Later(format!("{text}; redirections are not followed")),
        _ => Verdict::Refused(text),
    }
}

/// A meter event that Stripe has already is refused, which says that it has it. The identifier is made of what the event is.
fn is_known(answer: &Answer) -> bool {
    field(&answer.body, "code") == "duplicate_meter_event"
        || field(&answer.body, "message").starts_with("An event already exists with identifier")
}

fn field<'a>(body: &'a Value, name: &str) -> &'a str {
    body["error"][name].as_str().unwrap_or_default()
}

/// What an error says, for people: its status, type, code, parameter, message and number.
fn said(status: u16, answer: &Answer) -> String {
    let mut text = format!("the answer was {status}");
    for name in ["type", "code", "param", "message"] {
        let value = field(&answer.body, name);
        if !value.is_empty() {
            text.push_str(if name == "message" { ": " } else { ", " });
            text.extend(value.chars().map(|c| if c.is_control() { ' ' } else { c }));
        }
    }
    if let Some(id) = &answer.request_id {
        text.push_str(" (");
        text.push_str(id);
        text.push(')');
    }
    text.chars().take(MAX_ERROR).collect()
}

/// A job whose key is older than what is relied on is in doubt.
pub(super) fn doubted(job: Job, now: Timestamp) -> Job {
    let old = job.tried_at.is_some_and(|at| now >= at.plus_secs(KEY_S));
    Job { in_doubt: job.in_doubt || old, ..job }
}

/// How a job goes on after a call. What Stripe calls the customer is put into its lane. `lot` is random.
pub(super) fn after(call: &Call, answer: &Answer, lane: &mut Lane, now: Timestamp, lot: u16) -> Job {
    let job = Job { attempts: call.job.attempts + 1, ..call.job.clone() };
    match verdict(answer) {
        Verdict::Done => done(call, job, &answer.body, lane, now),
        Verdict::Known => advanced(call, job, now),
        Verdict::Later(why) => {
            let tried_at = if answer.unsent && call.is_first { None } else { job.tried_at };
            later(Job { tried_at, ..job }, why, answer, now, lot)
        }
        // A look-up that comes to nothing leaves everything as it is.
        Verdict::Doubt(why) if call.request.post.is_none() => later(job, why, answer, now, lot),
        Verdict::Doubt(why) => {
            let next_try_at = now.plus_secs(SEARCHABLE_S);
            Job { in_doubt: true, next_try_at, error: Some(why), ..job }
        }
        Verdict::Refused(why) => parked(job, why, now),
        // Refused as a whole, so it was not done: with another key it is another request.
        Verdict::Halt(why) => Job { next_try_at: now, error: Some(why), ..renewed(job, now) },
    }
}

fn later(job: Job, why: String, answer: &Answer, now: Timestamp, lot: u16) -> Job {
    let asked = answer.retry_after_s.unwrap_or(0).clamp(0, MOST_RETRY_AFTER_S);
    Job { next_try_at: now.plus_micros(wait_micros(job.attempts, lot).max(asked * 1_000_000)), error: Some(why), ..job }
}

/// The wait after so many failures, in microseconds.
fn wait_micros(attempts: i64, lot: u16) -> i64 {
    let doublings = u32::try_from((attempts - 1).clamp(0, 16)).unwrap_or(16);
    let wait_s = (FIRST_WAIT_S << doublings).min(MOST_WAIT_S);
    wait_s * 1_000_000 + wait_s * 1_000_000 / JITTER * i64::from(lot) / i64::from(u16::MAX)
}

fn parked(job: Job, why: String, now: Timestamp) -> Job {
    Job { parked_at: Some(now), error: Some(why), ..job }
}

/// The same step under another key.
fn renewed(job: Job, now: Timestamp) -> Job {
    let generation = job.generation + 1;
    Job { generation, tried_at: None, in_doubt: false, next_try_at: now, error: None, ..job }
}

/// What somebody wants to be tried again: as it is not done, under another key.
pub(super) fn again(job: Job, now: Timestamp) -> Job {
    let parked = job.parked_at.is_some();
    let job = Job { parked_at: None, attempts: 0, next_try_at: now, ..job };
    if parked { renewed(job, now) } else { job }
}

fn settled(job: Job, now: Timestamp) -> Job {
    Job { settled: Some((now, Settled::Done)), in_doubt: false, error: None, ..job }
}

/// The next step, or the end.
fn advanced(call: &Call, job: Job, now: Timestamp) -> Job {
    if job.step + 1 >= call.steps {
        return settled(job, now);
    }
    let step = job.step + 1;
    Job { step, generation: 1, tried_at: None, in_doubt: false, attempts: 0, next_try_at: now, error: None, ..job }
}

fn done(call: &Call, job: Job, body: &Value, lane: &mut Lane, now: Timestamp) -> Job {
    let id = |body: &Value| body["id"].as_str().filter(|id| !id.is_empty()).map(str::to_owned);
    match &call.step {
        Step::MakeCustomer => match id(body) {
            Some(customer) => {
                lane.customer = Some(customer);
                settled(job, now)
            }
            None => parked(job, "Stripe's customer has no id".to_owned(), now),
        },
        Step::FindCustomer => {
            lane.customer = body["data"].as_array().and_then(|found| found.iter().find_map(id));
            renewed(job, now)
        }
        Step::MakeInvoice => match id(body) {
            Some(invoice) => advanced(call, Job { remote: Some(invoice), ..job }, now),
            None => parked(job, "Stripe's invoice has no id".to_owned(), now),
        },
        Step::FindInvoice => match find(body, "tollgate_invoice", &job.subject) {
            Ok(Some(found)) => advanced(call, Job { remote: id(found), ..job }, now),
            Ok(None) => renewed(job, now),
            Err(why) => parked(job, why, now),
        },
        Step::FindItem(place) => match find(body, "tollgate_line", &place.to_string()) {
            Ok(Some(_)) => advanced(call, job, now),
            Ok(None) => renewed(job, now),
            Err(why) => parked(job, why, now),
        },
        Step::Check(due) => match (body["total"].as_i64(), body["status"].as_str()) {
            (Some(total), Some("draft")) if total == *due => advanced(call, job, now),
            (Some(total), Some("open" | "paid")) if total == *due => settled(job, now),
            (total, status) => {
                let total = total.map_or_else(|| "nothing".to_owned(), |total| total.to_string());
                let why =
                    format!("Stripe's invoice is {} and comes to {total}, ours to {due}", status.unwrap_or("gone"));
                parked(job, why, now)
            }
        },
        Step::FindState(turn) => found_state(call, job, *turn, body, now),
        Step::ChangeCustomer | Step::AddItem(_) | Step::Turn(_) | Step::Send | Step::Cancel => advanced(call, job, now),
    }
}

/// What of a list has a value in its metadata. The newest come first, and it is one of the newest.
fn find<'a>(body: &'a Value, name: &str, value: &str) -> Result<Option<&'a Value>, String> {
    let found = body["data"].as_array().map(Vec::as_slice).unwrap_or_default();
    let is_it = |item: &&Value| item["metadata"][name].as_str() == Some(value) && item["status"] != "void";
    match found.iter().find(is_it) {
        None if body["has_more"] == true => Err("Stripe has too many to look through".to_owned()),
        found => Ok(found),
    }
}

fn found_state(call: &Call, job: Job, turn: Turn, body: &Value, now: Timestamp) -> Job {
    match (turn, body["status"].as_str().unwrap_or_default()) {
        (Turn::Finalized, "open" | "paid") | (Turn::Void, "void") | (Turn::Paid, "paid" | "void" | "uncollectible") => {
            settled(job, now)
        }
        (Turn::Paid, "open") if job.step == 0 => advanced(call, job, now),
        (Turn::Finalized, "draft") | (Turn::Void, "open" | "uncollectible") | (Turn::Paid, "open") => renewed(job, now),
        (_, status) => parked(job, format!("Stripe's invoice is {status:?}"), now),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer(status: u16, kind: &str, code: &str) -> Answer {
        let body = json!({"error": {"type": kind, "code": code, "message": "no"}});
        Answer { status: Some(status), body, ..Answer::default() }
    }

    #[test]
    fn answers_mean_what_stripe_says_they_do() {
        let of = |status, kind: &str, code: &str| verdict(&answer(status, kind, code));
        assert_eq!(of(200, "", ""), Verdict::Done);
        assert!(matches!(of(400, "invalid_request_error", "parameter_missing"), Verdict::Refused(_)));
        assert!(matches!(of(402, "card_error", ""), Verdict::Refused(_)));
        assert!(matches!(of(404, "invalid_request_error", "resource_missing"), Verdict::Refused(_)));
        assert!(matches!(of(400, "idempotency_error", ""), Verdict::Doubt(_)));
        assert_eq!(of(400, "invalid_request_error", "duplicate_meter_event"), Verdict::Known);
        for halts in [401, 403] {
            assert!(matches!(of(halts, "invalid_request_error", ""), Verdict::Halt(_)), "{halts}");
        }
        for later in [409, 429, 500, 502, 503, 504, 302] {
            assert!(matches!(of(later, "api_error", ""), Verdict::Later(_)), "{later}");
        }
        assert!(matches!(of(400, "idempotency_error", "idempotency_key_in_use"), Verdict::Later(_)));
        let kept = Answer { replayed: true, ..answer(500, "api_error", "") };
        assert!(matches!(verdict(&kept), Verdict::Doubt(_)));
        let retry = Answer { should_retry: Some(true), ..answer(400, "api_error", "") };
        assert!(matches!(verdict(&retry), Verdict::Later(_)));
        let never = Answer { should_retry: Some(false), ..answer(500, "api_error", "") };
        assert!(matches!(verdict(&never), Verdict::Doubt(_)));
        assert!(matches!(verdict(&Answer::default()), Verdict::Later(_)), "no answer at all");
    }

    #[test]
    fn an_error_is_said_in_one_line_of_bounded_length() {
        let body = json!({"error": {"type": "card_error", "message": format!("a\nb{}", "x".repeat(1_000))}});
        let said = said(402, &Answer { request_id: Some("req_1".into()), body, ..Answer::default() });
        assert!(said.starts_with("the answer was 402, card_error: a b") && said.chars().count() == MAX_ERROR, "{said}");
    }

    #[test]
    fn waits_double_up_to_ten_minutes_and_are_longer_by_a_half_at_most() {
        let seconds = |lot| [1, 2, 3, 9, 10, 1_000].map(|attempts| wait_micros(attempts, lot) / 1_000_000);
        assert_eq!(seconds(0), [2, 4, 8, 512, 600, 600]);
        assert_eq!(seconds(u16::MAX), [3, 6, 12, 768, 900, 900]);
    }
}
