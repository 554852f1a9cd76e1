//! Which addresses are called, what an answer means, when a try is made again, and what is signed.

use std::net::IpAddr;

use super::model::{Answer, OutboxEvent};
use crate::kernel::Timestamp;

/// Waits between tries, in seconds: the schedule of the Standard Webhooks specification ("Deliverability and reliability").
/// After the last, nobody tries again.
const SCHEDULE_S: [i64; 9] = [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400];
/// Waits are longer by up to this part of themselves, by lot, so that what failed together does not come again together.
const JITTER: i64 = 5;
/// `Retry-After` is heeded up to this, in seconds: a day.
const MOST_RETRY_AFTER_S: i64 = 86_400;
/// After failures in a row an address is left alone, doubled each time from the first to the most, in seconds.
const FIRST_HOLD_S: i64 = 5;
const MOST_HOLD_S: i64 = 300;
/// The longest address.
const MAX_URL: usize = 2_000;

/// Why an address is not called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UrlFault {
    /// Not an address of the web.
    #[error("must be an https address without user, password or fragment, of {MAX_URL} characters at most")]
    NotWeb,
    /// Without TLS.
    #[error("must be https; `webhooks.allow_private` lets http be called, too")]
    Plain,
    /// Written out, and not public.
    #[error("is not public; `webhooks.allow_private` lets such addresses be called")]
    Private,
}

/// Whether an address may be called. What a name resolves to is looked at when it is called.
pub fn check_url(text: &str, allow_private: bool, is_public: impl Fn(IpAddr) -> bool) -> Result<(), UrlFault> {
    let printable = text.len() <= MAX_URL && text.bytes().all(|byte| byte.is_ascii_graphic());
    let url = url::Url::parse(text).ok().filter(|_| printable).ok_or(UrlFault::NotWeb)?;
    let plain = url.fragment().is_none() && url.username().is_empty() && url.password().is_none();
    let host = url.host().filter(|_| plain).ok_or(UrlFault::NotWeb)?;
    match url.scheme() {
        "https" => {}
        "http" if allow_private => {}
        "http" => return Err(UrlFault::Plain),
        _ => return Err(UrlFault::NotWeb),
    }
    let address = match host {
        url::Host::Domain(_) => None,
        url::Host::Ipv4(address) => Some(IpAddr::V4(address)),
        url::Host::Ipv6(address) => Some(IpAddr::V6(address)),
    };
    match address {
        Some(address) if !allow_private && !is_public(address) => Err(UrlFault::Private),
        _ => Ok(()),
    }
}

/// What an answer means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The event is taken.
    Taken,
    /// Nobody wants any more.
    Gone,
    /// Not now.
    Refused {
        /// Why.
        error: String,
        /// Seconds that were asked for.
        retry_after_s: Option<i64>,
    },
}

/// Reads an answer; a redirection is a failure like any other.
pub fn verdict(answer: &Answer, now: Timestamp) -> Verdict {
    let asked = || answer.retry_after.as_deref().and_then(|text| retry_after_s(text, now));
    match &answer.status {
        Ok(200..=299) => Verdict::Taken,
        Ok(410) => Verdict::Gone,
        Ok(status @ (429 | 503)) => {
            Verdict::Refused { error: format!("the answer was {status}"), retry_after_s: asked() }
        }
        Ok(status @ 300..=399) => Verdict::Refused {
            error: format!("the answer was {status}; redirections are not followed"),
            retry_after_s: None,
        },
        Ok(status) => Verdict::Refused { error: format!("the answer was {status}"), retry_after_s: None },
        Err(error) => Verdict::Refused { error: error.clone(), retry_after_s: None },
    }
}

/// `Retry-After` (RFC 9110 section 10.2.3) in seconds, held to what is heeded; `None` for what is neither form.
fn retry_after_s(text: &str, now: Timestamp) -> Option<i64> {
    let text = text.trim();
    let seconds = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        text.parse().unwrap_or(i64::MAX)
    } else {
        let at = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
        at.as_second() - now.as_secs()
    };
    Some(seconds.clamp(0, MOST_RETRY_AFTER_S))
}

/// When a delivery is tried again that has failed so often, at the earliest when it was asked for; `None` when no more. `lot` is
/// random.
pub fn next_try(attempts: i64, retry_after_s: Option<i64>, now: Timestamp, lot: u16) -> Option<Timestamp> {
    let wait_s = usize::try_from(attempts - 1).ok().and_then(|made| SCHEDULE_S.get(made).copied())?;
    let wait_s = wait_s.max(retry_after_s.unwrap_or(0));
    let jitter_micros = wait_s * 1_000_000 / JITTER * i64::from(lot) / i64::from(u16::MAX);
    Some(now.plus_secs(wait_s).plus_micros(jitter_micros))
}

/// Until when an address that has failed so often in a row is left alone by all that waits for it.
pub fn held_until(failures: i64, retry_after_s: Option<i64>, now: Timestamp) -> Timestamp {
    let doublings = u32::try_from((failures - 1).clamp(0, 16)).unwrap_or(16);
    let hold_s = (FIRST_HOLD_S << doublings).min(MOST_HOLD_S);
    now.plus_secs(hold_s.max(retry_after_s.unwrap_or(0)))
}

/// Whether an address has failed for so long that nothing goes there any more.
pub fn is_lasting(failing_since: Timestamp, now: Timestamp, disable_after_s: i64) -> bool {
    now >= failing_since.plus_secs(disable_after_s)
}

/// The body that tells of an event. It is the same at each try.
pub fn body(event: &OutboxEvent) -> String {
    // A name is of letters, dots and underscores, and an instant of digits and signs.
    format!(r#"{{"type":"{}","timestamp":"{}","data":{}}}"#, event.name, event.occurred_at, event.data)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-10T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn waits_are_those_of_the_specification_and_longer_by_a_fifth_at_most() {
        let waits = |lot| {
            (1..=10).map_while(move |attempts| next_try(attempts, None, now(), lot)).map(|at| at.micros_since(now()))
        };
        let least: Vec<i64> = waits(0).map(|micros| micros / 1_000_000).collect();
        assert_eq!(least, SCHEDULE_S);
        for (least, most) in waits(0).zip(waits(u16::MAX)) {
            assert_eq!(most, least + least / 5);
        }
        assert_eq!(next_try(10, None, now(), 0), None, "the tenth try is the last");
        assert_eq!(next_try(10, Some(60), now(), 0), None, "whatever is asked for");
    }

    #[test]
    fn what_is_asked_for_is_waited_for_within_bounds() {
        let wait = |text: &str| {
            let answer = Answer { status: Ok(503), retry_after: Some(text.into()) };
            let Verdict::Refused { retry_after_s, .. } = verdict(&answer, now()) else { panic!("{text}") };
            next_try(1, retry_after_s, now(), 0).unwrap().as_secs() - now().as_secs()
        };
        assert_eq!(wait("120"), 120);
        assert_eq!(wait("1"), 5, "no sooner than by the schedule");
        assert_eq!(wait("Tue, 10 Nov 2026 12:02:00 GMT"), 120);
        assert_eq!(wait("Tue, 10 Nov 2026 11:00:00 GMT"), 5);
        assert_eq!(wait("99999999999999999999999"), 86_400);
        for nonsense in ["", "soon", "-5", "1.5"] {
            assert_eq!(wait(nonsense), 5, "{nonsense}");
        }
        assert_eq!(held_until(1, Some(600), now()), now().plus_secs(600));
    }

    #[test]
    fn an_address_is_left_alone_for_longer_with_each_failure() {
        let holds =
            [1, 2, 3, 6, 7, 1_000].map(|failures| held_until(failures, None, now()).as_secs() - now().as_secs());
        assert_eq!(holds, [5, 10, 20, 160, 300, 300]);
        assert!(!is_lasting(now(), now().plus_secs(431_999), 432_000));
        assert!(is_lasting(now(), now().plus_secs(432_000), 432_000));
    }

    #[test]
    fn an_answer_is_a_success_a_farewell_or_a_failure() {
        let of = |status| verdict(&Answer { status: Ok(status), retry_after: None }, now());
        for taken in [200, 201, 202, 204, 299] {
            assert_eq!(of(taken), Verdict::Taken);
        }
        assert_eq!(of(410), Verdict::Gone);
        for refused in [199, 300, 302, 308, 400, 404, 429, 500, 502, 503] {
            assert!(matches!(of(refused), Verdict::Refused { .. }), "{refused}");
        }
    }

    #[test]
    fn only_https_addresses_of_the_internet_are_called_unless_settings_say_otherwise() {
        let public = |address: IpAddr| !address.is_loopback() && address != IpAddr::from([10, 0, 0, 1]);
        let check = |text: &str, allow_private| check_url(text, allow_private, public);
        assert_eq!(check("https://hooks.example.com/a?b=c", false), Ok(()));
        assert_eq!(check("http://hooks.example.com/", false), Err(UrlFault::Plain));
        assert_eq!(check("http://hooks.example.com/", true), Ok(()));
        for private in
            ["https://127.0.0.1/", "https://10.0.0.1/", "https://[::1]:8/", "https://2130706433/", "https://0x7f.1/"]
        {
            assert_eq!(check(private, false), Err(UrlFault::Private), "{private}");
            assert_eq!(check(private, true), Ok(()), "{private}");
        }
        let long = format!("https://hooks.example.com/{}", "a".repeat(MAX_URL));
        for wrong in [
            "",
            "hooks",
            "/path",
            "ftp://a.example/",
            "https://u:p@a.example/",
            "https://a.example/#f",
            "https:///",
            "https://a.example/ b",
            "javascript:1",
            &long,
        ] {
            assert_eq!(check(wrong, true), Err(UrlFault::NotWeb), "{wrong}");
        }
    }
}
