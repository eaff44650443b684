//! Lists in pages (AIP-158).

use super::Service;
use crate::domain::{Page, PageRequest};
use crate::error::{Error, Result};

/// What part of a list a caller wants.
#[derive(Clone, Debug, Default)]
pub struct ListRequest {
    /// Most items; 0 is the default.
    pub page_size: i32,
    /// The `next_page_token` of the page before; empty for the first.
    pub page_token: String,
}

/// A part of a list.
#[derive(Clone, Debug)]
pub struct List<T> {
    /// The items.
    pub items: Vec<T>,
    /// The token of the next part; empty on the last.
    pub next_page_token: String,
}

impl Service {
    /// The page wanted of the list that `call` names.
    pub(super) fn page_request(&self, call: &str, request: &ListRequest) -> Result<PageRequest> {
        let after = self.page_tokens.open(call, &request.page_token)?;
        PageRequest::new(request.page_size, after)
            .ok_or_else(|| Error::invalid("page_size", "must not be negative"))
    }

    /// A page as its caller gets it.
    pub(super) fn list<T>(&self, call: &str, page: Page<T>) -> List<T> {
        let next = page.next.map(|cursor| self.page_tokens.seal(call, &cursor));
        List { items: page.items, next_page_token: next.unwrap_or_default() }
    }
}
