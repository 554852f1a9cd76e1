//! Paging on the wire: `?limit=&cursor=` and `{"items":[…],"next_cursor":null}`.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Problem;
use crate::kernel::{Page, PageRequest};

/// The query parameters of every list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// Items on the page, 1 to 500; 50 when absent.
    pub limit: Option<u16>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

impl TryFrom<PageQuery> for PageRequest {
    type Error = Problem;

    fn try_from(query: PageQuery) -> Result<Self, Problem> {
        let after = query.cursor.as_deref().map(str::parse).transpose();
        let after = after.map_err(|_| Problem::invalid_field("cursor", "is not a cursor this list gave"))?;
        Self::new(query.limit, after)
            .ok_or_else(|| Problem::invalid_field("limit", format!("must be from 1 to {}", Self::MAX_LIMIT)))
    }
}

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct List<T> {
    /// The items, oldest first.
    pub items: Vec<T>,
    /// Send it as `cursor` for the next page; `null` on the last.
    #[schema(value_type = Option<String>)]
    pub next_cursor: Option<String>,
}

impl<T> List<T> {
    /// The wire form of a page, every item converted.
    pub fn of<U>(page: Page<U>, view: impl FnMut(U) -> T) -> Self {
        let page = page.map(view);
        Self { items: page.items, next_cursor: page.next_cursor.map(|cursor| cursor.to_string()) }
    }
}
