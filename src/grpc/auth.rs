//! Authenticates the caller from the `authorization` metadata, and reads the user to act for from
//! `keyward-user`. Both happen before the body of a request is read.

use std::sync::Arc;

use axum::http::{Extensions, HeaderMap, HeaderValue, header};
use tonic::{Request, Status};

use super::Adapter;
use super::methods::Callers;
use crate::admission::RequestPermit;
use crate::domain::{Authorization, ClientCertificate, PresentedProof, UserName};
use crate::error::{Error, Result};
use crate::secrets::Secret;
use crate::service::{Caller, CallerCredential, RequestContext};

const USER: &str = "keyward-user";
const DPOP: &str = "dpop";

impl Adapter {
    /// The caller, which must be a manager, and the request.
    pub(super) async fn manager<T>(&self, request: Request<T>) -> Result<(Arc<Caller>, T), Status> {
        let caller = self.caller(&request).await?;
        caller.require_manager()?;
        Ok((caller, request.into_inner()))
    }

    /// The caller. [`Self::admit`] has authenticated it, except for methods that are open to
    /// anyone.
    pub(super) async fn caller<T>(&self, request: &Request<T>) -> Result<Arc<Caller>, Status> {
        if let Some(caller) = request.extensions().get::<Arc<Caller>>() {
            return Ok(Arc::clone(caller));
        }
        let headers = request.metadata().clone().into_headers();
        let credential = credential(&headers)?;
        let context = self.context(request.extensions());
        Ok(Arc::new(self.service.auth.caller(&context, credential).await?))
    }

    /// Authenticates the caller, and checks that the method's [`Callers`] allows it.
    pub(super) async fn admit(
        &self,
        callers: Callers,
        headers: &HeaderMap,
        extensions: &Extensions,
    ) -> Result<Arc<Caller>> {
        let context = self.context(extensions).with_user(acting_user(headers)?);
        let caller = self.service.auth.caller(&context, credential(headers)?).await?;
        if callers == Callers::Manager {
            caller.require_manager()?;
        }
        Ok(Arc::new(caller))
    }

    /// The context of a request that acts for no user.
    pub(super) fn context<'a>(&self, extensions: &'a Extensions) -> RequestContext<'a> {
        RequestContext::new(permit(extensions).map(Arc::as_ref), self.service.now())
            .with_certificate(certificate(extensions))
            .with_proof(extensions.get())
    }

    /// The `DPoP` proof of a request to the method with this path, if it has one (RFC 9449). Its URL
    /// is that of the settings, whatever address the request came to.
    pub(super) fn proof(&self, headers: &HeaderMap, path: &str) -> Option<PresentedProof> {
        let mut values = headers.get_all(DPOP).iter();
        let first = values.next()?;
        let only = values.next().is_none();
        Some(PresentedProof {
            proof: only.then(|| String::from_utf8_lossy(first.as_bytes()).into_owned()),
            method: "POST".to_owned(),
            url: format!("{}{path}", self.service.grpc_url().trim_end_matches('/')),
        })
    }
}

/// The permit of a request, which the server adds to its extensions.
pub(super) fn permit(extensions: &Extensions) -> Option<&Arc<RequestPermit>> {
    extensions.get()
}

/// The client certificate of the connection, which the server adds to the extensions.
pub(super) fn certificate(extensions: &Extensions) -> Option<&ClientCertificate> {
    extensions.get()
}

/// Refuses repeated `authorization` or `keyward-user` metadata: a gateway may have checked another
/// of the values. Returns whether the request names a user.
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

/// The error for `keyward-user` on a method that cannot act for a user.
pub(super) fn refuse_user() -> Error {
    Error::invalid(USER, "is not taken here: this method answers services, and acts for no user")
}

/// What `authorization: Bearer …` (RFC 6750) or `authorization: DPoP …` (RFC 9449) has.
fn credential(headers: &HeaderMap) -> Result<CallerCredential> {
    const MISSING: Error =
        Error::Unauthenticated("this needs the metadata `authorization: Bearer …`");
    let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    match value.and_then(Authorization::parse) {
        Some(Authorization::Bearer(token)) => Ok(CallerCredential::Bearer(Secret::new(token))),
        Some(Authorization::Dpop(token)) => Ok(CallerCredential::Dpop(Secret::new(token))),
        _ => Err(MISSING),
    }
}

/// The user of `keyward-user: tenants/{tenant}/users/{user}`.
fn acting_user(headers: &HeaderMap) -> Result<Option<UserName>> {
    let Some(name) = headers.get(USER).map(HeaderValue::to_str) else {
        return Ok(None);
    };
    let name = name.map_err(|_| Error::invalid(USER, "must be ASCII: percent-encode the id"))?;
    UserName::parse(name).map(Some).map_err(|fault| fault.of(USER))
}
