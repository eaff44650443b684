//! Who calls, from the `authorization` metadata, and for whom, from `keyward-user`: found out
//! from the headers, before the body of a request is read.

use std::net::IpAddr;
use std::sync::Arc;

use axum::http::{Extensions, HeaderMap, HeaderValue, header};
use tonic::{Request, Status};

use super::Face;
use super::methods::Access;
use crate::admission::RequestPermit;
use crate::domain::UserName;
use crate::error::{Error, Result};
use crate::secrets::Secret;
use crate::service::Caller;

const USER: &str = "keyward-user";

impl Face {
    /// A caller who may manage, and the request.
    pub(super) async fn manager<T>(&self, request: Request<T>) -> Result<(Arc<Caller>, T), Status> {
        let caller = self.caller(&request).await?;
        caller.require_manager()?;
        Ok((caller, request.into_inner()))
    }

    /// The caller. Where the method is for anyone, the headers say who it is.
    pub(super) async fn caller<T>(&self, request: &Request<T>) -> Result<Arc<Caller>, Status> {
        if let Some(caller) = request.extensions().get::<Arc<Caller>>() {
            return Ok(Arc::clone(caller));
        }
        let headers = request.metadata().clone().into_headers();
        let permit = request.extensions().get::<Arc<RequestPermit>>().map(Arc::as_ref);
        Ok(Arc::new(self.authenticate(&headers, permit).await?))
    }

    /// The caller that these headers prove, if such a one may call the method.
    pub(super) async fn admit(
        &self,
        access: Access,
        headers: &HeaderMap,
        permit: Option<&RequestPermit>,
    ) -> Result<Arc<Caller>> {
        let user = acting_user(headers)?;
        let for_user = user.is_some();
        let caller = self.authenticate(headers, permit).await?.acting_for(user);
        if for_user || access == Access::Manager {
            caller.require_manager()?;
        }
        Ok(Arc::new(caller))
    }

    async fn authenticate(
        &self,
        headers: &HeaderMap,
        permit: Option<&RequestPermit>,
    ) -> Result<Caller> {
        let address = permit.map(RequestPermit::address);
        let caller = self.service.authenticate_bearer(&bearer(headers)?, address).await?;
        if let (Some(permit), Some(client)) = (permit, caller.client()) {
            permit.identified(client);
        }
        Ok(caller)
    }
}

/// The address that a request came from: the server puts it there.
pub(super) fn source<T>(request: &Request<T>) -> Option<IpAddr> {
    permit(request.extensions()).map(|permit| permit.address())
}

/// What the request holds until it is answered: the server puts it there.
pub(super) fn permit(extensions: &Extensions) -> Option<&Arc<RequestPermit>> {
    extensions.get()
}

/// Refuses a request that says more than once who calls or for whom, since a gateway in front may
/// have looked at another one. Whether it says for whom.
pub(super) fn refuse_repeated(headers: &HeaderMap) -> Result<bool> {
    if headers.get_all(header::AUTHORIZATION).iter().nth(1).is_some() {
        return Err(Error::Unauthenticated("the metadata `authorization` is repeated"));
    }
    let mut users = headers.get_all(USER).iter();
    let names_user = users.next().is_some();
    if users.next().is_some() {
        return Err(Error::invalid(USER, "is repeated"));
    }
    Ok(names_user)
}

/// Refuses to act for a user where that would be ignored.
pub(super) fn refuse_user() -> Error {
    Error::invalid(USER, "is not taken here: this method answers services, and acts for no user")
}

/// The bearer string of `authorization: Bearer …` (RFC 6750).
fn bearer(headers: &HeaderMap) -> Result<Secret> {
    const MISSING: Error =
        Error::Unauthenticated("this needs the metadata `authorization: Bearer …`");
    let header = headers.get(header::AUTHORIZATION).ok_or(MISSING)?;
    let (scheme, token) =
        header.to_str().ok().and_then(|value| value.split_once(' ')).ok_or(MISSING)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(Secret::new(token.trim())) } else { Err(MISSING) }
}

/// The user of `keyward-user: tenants/{tenant}/users/{user}`.
fn acting_user(headers: &HeaderMap) -> Result<Option<UserName>> {
    let Some(name) = headers.get(USER).map(HeaderValue::to_str) else {
        return Ok(None);
    };
    let name = name.map_err(|_| Error::invalid(USER, "must be ASCII: percent-encode the id"))?;
    UserName::parse(name).map(Some).map_err(|fault| fault.of(USER))
}
