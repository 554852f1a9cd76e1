//! The outbox, as administrators see it.

use axum::extract::{FromRef, State};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{Mail, OutboxLetter};
use crate::{
    kernel::Timestamp,
    web::{AdminScope, Json, List, PageQuery, Problem, Query, Verifier},
};

/// The routes.
pub fn routes<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Mail: FromRef<S>,
    Verifier: FromRef<S>,
{
    OpenApiRouter::new().routes(routes!(list_mails))
}

/// A letter in the outbox.
#[derive(Debug, Serialize, ToSchema)]
pub struct MailView {
    #[schema(value_type = String)]
    mail_id: Uuid,
    to: String,
    subject: String,
    /// What it says, where mail goes to a folder; `null` where it goes to people, whose links are their own.
    text: Option<String>,
    /// `waiting`, `sent` or `given_up`.
    status: &'static str,
    attempts: i64,
    /// Why the last try failed.
    error: Option<String>,
    created_at: Timestamp,
    sent_at: Option<Timestamp>,
}

impl MailView {
    fn new(mail: OutboxLetter, with_text: bool) -> Self {
        Self {
            mail_id: mail.id,
            status: mail.state(),
            to: mail.letter.to.to_string(),
            subject: mail.letter.subject,
            text: with_text.then_some(mail.letter.text),
            attempts: mail.attempts,
            error: mail.error,
            created_at: mail.created_at,
            sent_at: mail.sent_at,
        }
    }
}

/// Lists mail of the last seven days, the newest first.
#[utoipa::path(get, path = "/admin/v1/mails", tag = "running", params(PageQuery), responses((status = 200, body = List<MailView>)))]
async fn list_mails(
    scope: AdminScope,
    State(mail): State<Mail>,
    Query(page): Query<PageQuery>,
) -> Result<Json<List<MailView>>, Problem> {
    let page = mail.newest((&scope).into(), page.try_into()?).await?;
    Ok(Json(List::of(page, |letter| MailView::new(letter, mail.is_folder()))))
}
