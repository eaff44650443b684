//! Lists in pages (AIP-158).

use std::sync::Arc;

use crate::domain::{Page, PageRequest};
use crate::error::{Error, Result};
use crate::secrets::{MasterKeys, PageTokens};

/// The part of a list that a caller asks for.
#[derive(Clone, Debug, Default)]
pub struct ListRequest {
    /// The largest number of items; 0 is the default.
    pub page_size: i32,
    /// The `next_page_token` of the previous page; empty for the first.
    pub page_token: String,
}

/// A part of a list.
#[derive(Clone, Debug)]
pub struct List<T> {
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
    next: Option<String>,
}

impl Rest {
    /// The token of the part after the first `count` items; empty if there is none.
    pub fn token_after(&self, count: usize) -> String {
        let key = if count < self.keys.len() {
            count.checked_sub(1).and_then(|last| self.keys.get(last))
        } else {
            self.next.as_ref()
        };
        key.map_or_else(String::new, |key| self.tokens.seal(&self.call, key))
    }
}

/// Opens and seals the tokens of lists.
#[derive(Clone, Debug)]
pub(super) struct Pages(Arc<PageTokens>);

impl Pages {
    /// Tokens that are sealed with a key derived from the primary master key.
    pub(super) fn new(master_keys: &MasterKeys) -> Result<Self> {
        Ok(Self(Arc::new(PageTokens::new(master_keys)?)))
    }

    /// The page that is asked for of the list that `call` names.
    pub(super) fn request(&self, call: &str, request: &ListRequest) -> Result<PageRequest> {
        let after = self.0.open(call, &request.page_token)?;
        PageRequest::new(request.page_size, after)
            .ok_or_else(|| Error::invalid("page_size", "must not be negative"))
    }

    /// The cursor in a token of `call`; `None` if the token is empty.
    pub(super) fn cursor(&self, call: &str, token: &str) -> Result<Option<String>> {
        self.0.open(call, token)
    }

    /// The token for a cursor of `call`.
    pub(super) fn token(&self, call: &str, cursor: &str) -> String {
        self.0.seal(call, cursor)
    }

    /// A page as its caller gets it.
    pub(super) fn list<T>(&self, call: &str, page: Page<T>) -> List<T> {
        let Page { items, keys, next } = page;
        let tokens = Arc::clone(&self.0);
        List { items, rest: Rest { call: call.to_owned(), tokens, keys, next } }
    }
}
