//! Lists in pages (AIP-158).

use std::sync::Arc;

use super::Service;
use crate::domain::{Page, PageRequest};
use crate::error::{Error, Result};
use crate::secrets::PageTokens;

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
    /// How the list goes on.
    pub rest: Rest,
}

/// What follows a part of a list.
#[derive(Clone, Debug)]
pub struct Rest {
    call: String,
    tokens: Arc<PageTokens>,
    keys: Vec<String>,
    more: bool,
}

impl Rest {
    /// The token of the part behind the first `count` items; empty where there is none.
    pub fn token_after(&self, count: usize) -> String {
        let key = count.checked_sub(1).and_then(|last| self.keys.get(last));
        let is_end = count >= self.keys.len() && !self.more;
        key.filter(|_| !is_end).map_or_else(String::new, |key| self.tokens.seal(&self.call, key))
    }
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
        let Page { items, keys, more } = page;
        let tokens = Arc::clone(&self.page_tokens);
        List { items, rest: Rest { call: call.to_owned(), tokens, keys, more } }
    }
}
