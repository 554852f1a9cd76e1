//! Keyset paging: `?limit=&cursor=` in, `{"items":[…],"next_cursor":null}` out.
//!
//! A cursor is the last id of a page. Ids are `UUIDv7`, so a list in id order is in order of creation and a page never
//! skips or repeats a row that was there when the walk began.

use uuid::Uuid;

/// Where a page starts: strictly after this id.
pub type Cursor = Uuid;

/// What a caller asked for, already checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageRequest {
    limit: u16,
    after: Option<Cursor>,
}

impl PageRequest {
    /// Items on a page when the caller does not say.
    pub const DEFAULT_LIMIT: u16 = 50;
    /// The most items on a page.
    pub const MAX_LIMIT: u16 = 500;

    /// `None` when the limit is 0 or above [`Self::MAX_LIMIT`].
    pub fn new(limit: Option<u16>, after: Option<Cursor>) -> Option<Self> {
        let limit = limit.unwrap_or(Self::DEFAULT_LIMIT);
        (1..=Self::MAX_LIMIT).contains(&limit).then_some(Self { limit, after })
    }

    /// One more than the page holds: the store reads it to learn whether there is a next page.
    pub fn fetch_limit(self) -> i64 {
        i64::from(self.limit) + 1
    }

    /// The id after which the page starts; the nil id when it starts at the beginning.
    pub fn after(self) -> Uuid {
        self.after.unwrap_or(Uuid::nil())
    }

    /// Cuts the extra row off and keeps the cursor of the last item left.
    pub fn page<T>(self, mut rows: Vec<T>, id: impl Fn(&T) -> Uuid) -> Page<T> {
        let more = rows.len() > usize::from(self.limit);
        rows.truncate(usize::from(self.limit));
        let next_cursor = if more { rows.last().map(id) } else { None };
        Page { items: rows, next_cursor }
    }
}

impl Default for PageRequest {
    fn default() -> Self {
        Self { limit: Self::DEFAULT_LIMIT, after: None }
    }
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The items, in id order.
    pub items: Vec<T>,
    /// The cursor of the next page; `None` on the last.
    pub next_cursor: Option<Cursor>,
}

impl<T> Page<T> {
    /// The same page with every item converted.
    pub fn map<U>(self, f: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(f).collect(), next_cursor: self.next_cursor }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extra_row_becomes_the_cursor_of_the_row_before_it() {
        let request = PageRequest::new(Some(2), None).unwrap();
        let ids: Vec<Uuid> = (1..=3_u128).map(Uuid::from_u128).collect();
        let page = request.page(ids.clone(), |id| *id);
        assert_eq!(page.items, ids[..2]);
        assert_eq!(page.next_cursor, Some(ids[1]));
        let last = request.page(ids[..2].to_vec(), |id| *id);
        assert_eq!(last.next_cursor, None);
    }

    #[test]
    fn a_limit_of_zero_or_above_the_most_is_refused() {
        assert_eq!(PageRequest::new(Some(0), None), None);
        assert_eq!(PageRequest::new(Some(501), None), None);
    }
}
