//! What a person is asked on a client's behalf: for which tenant, and whether it may.

use maud::{Markup, html};

use crate::{
    identity::{Authorization, ScopeSet, oauth::Params},
    kernel::{CustomerName, TenantId},
    web::html::{Page, hidden},
};

/// Which tenant to go to.
pub(in crate::identity) fn choose_tenant(params: &Params, places: &[(TenantId, CustomerName)]) -> Page {
    let link = |tenant: &TenantId| {
        let mut params = params.clone();
        params.set("tenant", &tenant.to_string());
        format!("/oauth2/authorize?{}", params.to_query())
    };
    let body = html! {
        p { "You belong to several. Which one do you want to go on with?" }
        ul { @for (tenant, name) in places { li { a href=(link(tenant)) { (name.as_str()) } } } }
    };
    Page::new("Choose an organization", body)
}

/// Whether the client may have what it asks for in a tenant, which the decision names; the answer leads to `target`, the
/// client's origin.
pub(in crate::identity) fn consent(
    params: &Params,
    request: &Authorization,
    (tenant, tenant_name): (TenantId, &str),
    form_token: &str,
    target: &str,
) -> Page {
    let mut params = params.clone();
    params.set("tenant", &tenant.to_string());
    let body = html! {
        p { strong { (request.client.name) } " wants to:" }
        (wishes(&request.scope))
        p { "In the organization " strong { (tenant_name) } "." }
        form method="post" action="/oauth2/authorize" {
            @for (name, value) in params.iter() { (hidden(name, value)) }
            (hidden("form_token", form_token))
            button name="decision" value="allow" { "Allow" }
            button.other name="decision" value="deny" { "Cancel" }
        }
    };
    Page::new("Allow access?", body).forms_lead_to(target)
}

/// What a scope means to people.
pub(in crate::identity) fn wishes(scope: &ScopeSet) -> Markup {
    html! { ul { @for value in scope.iter() { li { (wish(value)) } } } }
}

/// What a scope value means to people.
fn wish(value: &str) -> &str {
    match value {
        "openid" => "know who you are",
        "profile" => "see your name",
        "email" => "see your email address",
        "offline_access" => "stay signed in for you",
        "usage:read" => "see your organization's usage",
        "usage:write" => "report usage for your organization",
        other => other,
    }
}
