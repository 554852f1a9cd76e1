//! Scopes of Microsoft Entra ID, v2.0. Each names its API, `api://{id}/{permission}`; the token has the permission alone, and
//! the API's client id as its audience. `.default` stands for all that the client was granted at an API.
//!
//! Sources: "Scopes and permissions in the Microsoft identity platform" (`.default`, one API a request) and "Access token
//! claims reference" (`aud`, `scp`, `roles`), learn.microsoft.com.

use uuid::Uuid;

use super::dialects::is_of_openid;

/// All that the client was granted.
const DEFAULT: &str = ".default";

/// The API that a scope names, and what it allows there.
fn parts(value: &str) -> (Option<&str>, &str) {
    match value.rsplit_once('/') {
        Some((api, permission)) if api.contains("://") || Uuid::try_parse(api).is_ok() => (Some(api), permission),
        _ => (None, value),
    }
}

fn of_apis(scope: &str) -> impl Iterator<Item = &str> {
    scope.split_ascii_whitespace().filter(|value| !is_of_openid(value))
}

/// What is granted of a scope to a client that has registered another: `.default` written out. An error says what Entra
/// refuses.
pub fn granted(asked: &str, registered: &str) -> Result<String, &'static str> {
    let own: Vec<_> = of_apis(asked).map(parts).collect();
    if own.iter().any(|(api, _)| *api != own[0].0) {
        return Err("all scopes must be of one API");
    }
    if own.len() > 1 && own.iter().any(|(_, permission)| *permission == DEFAULT) {
        return Err(".default stands for all scopes of an API and goes with no other");
    }
    let written_out = |value: &str| match parts(value) {
        (Some(api), DEFAULT) if of_apis(registered).next().is_some() => {
            of_apis(registered).map(|permission| format!("{api}/{permission}")).collect()
        }
        (None, DEFAULT) => of_apis(registered).map(str::to_owned).collect(),
        _ => vec![value.to_owned()],
    };
    Ok(asked.split_ascii_whitespace().flat_map(written_out).collect::<Vec<_>>().join(" "))
}

/// The client id of the API that a scope names; `None` where it names none, or one whose id is not in its URI.
pub fn api(scope: &str) -> Option<&str> {
    let api = of_apis(scope).find_map(|value| parts(value).0)?;
    Some(api.strip_prefix("api://").unwrap_or(api)).filter(|id| Uuid::try_parse(id).is_ok())
}

/// What a scope allows at its API, in the API's own words.
pub fn permissions(scope: &str) -> Vec<&str> {
    of_apis(scope).map(|value| parts(value).1).filter(|permission| *permission != DEFAULT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "11111111-2222-4333-8444-555555555555";

    #[test]
    fn a_scope_is_its_api_and_what_it_allows_there() {
        let named = format!("openid api://{ID}/orders.read api://{ID}/orders.write offline_access");
        assert_eq!(granted(&named, "").unwrap(), named);
        assert_eq!((api(&named), permissions(&named)), (Some(ID), vec!["orders.read", "orders.write"]));
        let bare = format!("{ID}/orders.read");
        assert_eq!((api(&bare), permissions(&bare)), (Some(ID), vec!["orders.read"]));
        // No id is in a URI of one's own choice, and none in a scope of no API.
        for other in ["https://orders.example/orders.read", "orders.read"] {
            assert_eq!((api(other), permissions(other)), (None, vec!["orders.read"]));
        }
        assert_eq!((api("openid profile"), permissions("openid profile").len()), (None, 0));
    }

    #[test]
    fn default_is_what_was_granted_and_goes_alone() {
        let registered = "usage:read usage:write openid";
        let default = format!("openid api://{ID}/.default");
        assert_eq!(
            granted(&default, registered).unwrap(),
            format!("openid api://{ID}/usage:read api://{ID}/usage:write")
        );
        // Nothing granted: the API is named all the same.
        assert_eq!(granted(&default, "openid").unwrap(), default);
        assert_eq!((api(&default), permissions(&default).len()), (Some(ID), 0));
        assert!(granted(&format!("{default} api://{ID}/read"), registered).unwrap_err().starts_with(".default"));
        assert_eq!(granted("api://one/read api://two/read", registered), Err("all scopes must be of one API"));
    }
}
