//! Who calls, from the `authorization` metadata.

use tonic::{Request, Status};

use super::Face;
use crate::error::Error;
use crate::secrets::Secret;
use crate::service::Caller;

impl Face {
    /// The request of a caller who may manage: authorised before it is looked at.
    pub(super) async fn admin<T>(&self, request: Request<T>) -> Result<T, Status> {
        self.caller(&request).await?.require_admin()?;
        Ok(request.into_inner())
    }

    /// The caller.
    pub(super) async fn caller<T>(&self, request: &Request<T>) -> Result<Caller, Status> {
        Ok(self.service.authenticate_bearer(&bearer(request)?).await?)
    }
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
