//! What a grant decides about a new token.

use std::sync::Arc;

use crate::domain::{Client, Confirmation, Grant, TokenActor, TokenParent, TokenType};

/// A token that a grant permits, before it is counted and signed.
pub(super) struct TokenDraft {
    pub(super) sub: String,
    pub(super) roles: Vec<String>,
    /// `None` if there are parents.
    pub(super) epochs: Option<[i64; 3]>,
    pub(super) grant: Grant,
    /// What the token is bound to.
    pub(super) confirmation: Option<Confirmation>,
    pub(super) act: Option<Box<TokenActor>>,
    pub(super) parents: Option<Box<[TokenParent]>>,
    /// Whose access it is, if it is not that of the client that gets it.
    pub(super) subject: Option<Arc<Client>>,
    /// The type that the client wants.
    pub(super) requested: Option<TokenType>,
}

impl TokenDraft {
    /// A token for the access of the client itself.
    pub(super) fn of(client: &Client, grant: Grant, confirmation: Option<Confirmation>) -> Self {
        let epochs = client.epochs;
        Self {
            sub: client.subject.to_string(),
            roles: client.role_ids(),
            epochs: Some([epochs.tenant, epochs.application, epochs.credential]),
            grant,
            confirmation,
            act: None,
            parents: None,
            subject: None,
            requested: None,
        }
    }
}
