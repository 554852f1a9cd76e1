//! What somebody who was asked by the `webhook` driver says came of it: who says it, about what, and what.

use serde_json::Value;
use uuid::Uuid;

use super::{
    Error,
    answer::Answer,
    driver::Callback,
    model::{Answered, Asked, Verb},
    webhook::{SCOPE, WebhookDriver, sealed_as},
};
use crate::kernel::{
    TenantId, Timestamp,
    signature::{Signed, is_signed},
};

/// What a callback says.
#[derive(Debug, PartialEq)]
struct Said {
    succeeded: bool,
    /// What was to be done, where the name of the event says so.
    verb: Option<Verb>,
    /// What was asked for.
    request: Option<Uuid>,
    /// For whom.
    tenant: Option<TenantId>,
    /// What was made, or `error`.
    data: Value,
}

/// The names of AWS's SaaS Builder Toolkit, with and without its prefix.
const SBT_PREFIX: &str = "sbt_aws_";

impl Said {
    fn parse(body: &str) -> Result<Self, &'static str> {
        let value: Value = serde_json::from_str(body).map_err(|_| "the callback is not JSON")?;
        let name = value["type"].as_str().or_else(|| value["detail-type"].as_str());
        let name = name.ok_or("the callback has neither `type` nor `detail-type`")?;
        let (verb, succeeded) = match name.strip_prefix(SBT_PREFIX).unwrap_or(name) {
            "provisioning.succeeded" => (None, true),
            "provisioning.failed" => (None, false),
            "provisionSuccess" => (Some(Verb::Apply), true),
            "provisionFailure" => (Some(Verb::Apply), false),
            "deprovisionSuccess" => (Some(Verb::Destroy), true),
            "deprovisionFailure" => (Some(Verb::Destroy), false),
            _ => {
                return Err("the callback must be provisioning.succeeded, provisioning.failed, provisionSuccess, \
                    provisionFailure, deprovisionSuccess or deprovisionFailure");
            }
        };
        let of_sbt = value["detail"].is_object() && verb.is_some();
        let about = if of_sbt { &value["detail"] } else { &value["data"] };
        let text = |names: [&str; 2]| names.into_iter().find_map(|name| about[name].as_str());
        let request = text(["request_id", "tenantRegistrationId"]).and_then(|text| text.parse().ok());
        let tenant = text(["tenant_id", "tenantId"]).and_then(|text| text.parse().ok());
        if request.is_none() && tenant.is_none() {
            return Err("the callback names neither the request nor the tenant");
        }
        let data = if of_sbt { of_job(&about["jobOutput"], succeeded) } else { about.clone() };
        if succeeded && Answer::of(data.clone()).and_then(|answer| answer.made(String::new)).is_err() {
            return Err("`location`, `upstream` or `credentials` of the callback are not of the form that is expected");
        }
        Ok(Self { succeeded, verb, request, tenant, data })
    }
}

/// What was made is in `tenantData`, or in `tenantConfig`, which is JSON in a text.
fn of_job(output: &Value, succeeded: bool) -> Value {
    if !succeeded {
        let why = output["tenantStatus"].as_str().unwrap_or("it is not said why");
        return serde_json::json!({ "error": why });
    }
    let config = || output["tenantConfig"].as_str().and_then(|text| serde_json::from_str::<Value>(text).ok());
    let data = Some(output["tenantData"].clone()).filter(Value::is_object).or_else(config);
    data.filter(Value::is_object).unwrap_or_else(|| serde_json::json!({}))
}

impl WebhookDriver {
    /// Takes a callback. The first answer to a request counts; the same again is no error, for calls are repeated.
    pub(super) async fn take(&self, callback: &Callback) -> Result<(), Error> {
        let now = self.clock.now();
        let Callback { id, at, signatures, body } = callback;
        let at = at.parse().ok().and_then(|secs: i64| Timestamp::from_secs(secs)).ok_or(Error::Callback)?;
        if !is_signed(&self.config.key, &Signed { id, at, body }, signatures, now) {
            return Err(Error::Callback);
        }
        let said = Said::parse(body).map_err(|why| Error::CallbackBody(why.to_owned()))?;
        let mut tx = self.store.begin(SCOPE).await?;
        let asked = match (said.request, said.tenant) {
            (Some(request), _) => tx.asked_by_id(request).await?,
            (None, Some(tenant)) => tx.asked_of(tenant, said.verb).await?,
            (None, None) => None,
        };
        let fits = |asked: &Asked| {
            said.verb.is_none_or(|verb| verb == asked.verb)
                && said.tenant.is_none_or(|tenant| tenant == asked.tenant_id)
        };
        let asked = asked.filter(fits).ok_or(Error::Callback)?;
        let sealed = self.identity.seal_secret(&sealed_as(&asked), said.data.to_string().as_bytes())?;
        tx.asked_answer(asked.id, &Answered { succeeded: said.succeeded, sealed }, now).await?;
        tx.commit().await?;
        self.heard.notify_waiters();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "01900000-0000-7000-8000-000000000000";

    #[test]
    fn callbacks_are_read_in_both_vocabularies() {
        let own = format!(r#"{{"type":"provisioning.succeeded","data":{{"request_id":"{ID}","location":"eu"}}}}"#);
        let own = Said::parse(&own).unwrap();
        assert_eq!((own.succeeded, own.verb, own.data["location"].as_str()), (true, None, Some("eu")));
        for name in ["provisionSuccess", "sbt_aws_provisionSuccess"] {
            let sbt = format!(
                r#"{{"detail-type":"{name}","detail":{{"tenantRegistrationId":"{ID}",
                    "jobOutput":{{"tenantData":{{"upstream":"http://10.0.0.7"}}}}}}}}"#
            );
            let sbt = Said::parse(&sbt).unwrap();
            assert_eq!((sbt.succeeded, sbt.verb, sbt.request), (true, Some(Verb::Apply), ID.parse().ok()));
            assert_eq!(sbt.data["upstream"], "http://10.0.0.7");
        }
        let failed = format!(
            r#"{{"detail-type":"sbt_aws_deprovisionFailure","detail":{{"tenantId":"{ID}","jobOutput":{{"tenantStatus":"no"}}}}}}"#
        );
        let failed = Said::parse(&failed).unwrap();
        assert_eq!(
            (failed.succeeded, failed.verb, failed.data["error"].as_str()),
            (false, Some(Verb::Destroy), Some("no"))
        );
        for text in [
            "",
            "{}",
            r#"{"type":"provisioning.done","data":{}}"#,
            r#"{"type":"provisioning.failed","data":{}}"#,
            &format!(r#"{{"type":"provisioning.succeeded","data":{{"request_id":"{ID}","upstream":"no"}}}}"#),
        ] {
            assert!(Said::parse(text).is_err(), "{text}");
        }
    }
}
