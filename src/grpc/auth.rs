//! Who calls, from the `authorization` metadata, and for whom, from `keyward-user`.

use std::net::{IpAddr, SocketAddr};

use tonic::{Request, Status};

use super::Face;
use crate::domain::UserName;
use crate::error::Error;
use crate::secrets::Secret;
use crate::service::Caller;

impl Face {
    /// A caller who may manage and his request, which nobody has looked at yet.
    pub(super) async fn manager<T>(&self, request: Request<T>) -> Result<(Caller, T), Status> {
        let user = acting_user(&request)?;
        let caller = self.caller(&request).await?.acting_for(user);
        caller.require_manager()?;
        Ok((caller, request.into_inner()))
    }

    /// The caller.
    pub(super) async fn caller<T>(&self, request: &Request<T>) -> Result<Caller, Status> {
        Ok(self.service.authenticate_bearer(&bearer(request)?, source(request)).await?)
    }
}

/// The address that a request came from: the server puts it there.
pub(super) fn source<T>(request: &Request<T>) -> Option<IpAddr> {
    request.extensions().get::<SocketAddr>().map(SocketAddr::ip)
}

/// The bearer string of `authorization: Bearer …` (RFC 6750).
fn bearer<T>(request: &Request<T>) -> Result<Secret, Error> {
    const MISSING: Error =
        Error::Unauthenticated("this needs the metadata `authorization: Bearer …`");
    let header = request.metadata().get("authorization").ok_or(MISSING)?;
    let (scheme, token) =
        header.to_str().ok().and_then(|value| value.split_once(' ')).ok_or(MISSING)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(Secret::new(token.trim())) } else { Err(MISSING) }
}

/// The user of `keyward-user: tenants/{tenant}/users/{user}`.
fn acting_user<T>(request: &Request<T>) -> Result<Option<UserName>, Error> {
    const FIELD: &str = "keyward-user";
    let Some(header) = request.metadata().get(FIELD) else {
        return Ok(None);
    };
    let name = header.to_str().unwrap_or_default();
    UserName::parse(name).map(Some).map_err(|fault| fault.of(FIELD))
}
