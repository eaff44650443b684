//! What an interface knows of a request besides what it asks for.

use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;

use crate::admission::RequestPermit;
use crate::domain::{Client, UserName};

/// A request, as the interface that received it describes it.
#[derive(Clone, Debug)]
pub struct RequestContext<'a> {
    /// The memory that the request holds, and the address of its sender. `None` where no listener
    /// received it.
    pub permit: Option<&'a RequestPermit>,
    /// The user that the caller says it acts for.
    pub user: Option<UserName>,
    /// When the request was received. Work that has waited since then reads the clock again.
    pub now: Timestamp,
}

impl<'a> RequestContext<'a> {
    /// A request that acts for no user.
    pub fn new(permit: Option<&'a RequestPermit>, now: Timestamp) -> Self {
        Self { permit, user: None, now }
    }

    /// The address of the sender, if that is known.
    pub fn address(&self) -> Option<IpAddr> {
        self.permit.map(RequestPermit::address)
    }

    /// Marks the sender as a known client: admission favours those.
    pub(super) fn identified(&self, client: &Arc<Client>) {
        if let Some(permit) = self.permit {
            permit.identified(client);
        }
    }
}
