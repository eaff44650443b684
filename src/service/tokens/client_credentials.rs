//! The client credentials grant (RFC 6749, section 4.4).

use jiff::Timestamp;

use crate::domain::{Client, Grant, GrantRequest};
use crate::error::Result;

/// What the client is permitted: everything that it asks for, or an error.
pub(super) fn permit(client: &Client, request: GrantRequest, now: Timestamp) -> Result<Grant> {
    client.grant(request, now)
}
