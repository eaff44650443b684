//! Revoking a token by its holder (RFC 7009) or for a user.

use std::sync::Arc;

use super::base::{Tokens, second};
use crate::domain::{Action, ApplicationName, Authority, Call, NewRevocation, Subject};
use crate::error::{Error, Result};
use crate::keys::jwt;
use crate::secrets::Secret;
use crate::service::audit::{Attempt, reached};
use crate::service::auth::{Caller, TokenState};

impl Tokens {
    /// Revokes a token (RFC 7009), and returns whether there was something to revoke. When this
    /// returns, the token is refused; one that is not accepted anyway is left as it is. An
    /// application does not learn whether a token of another tenant could be revoked.
    pub async fn revoke(&self, caller: &Caller, token: &Secret) -> Result<bool> {
        if self.auth.is_api_key(token) {
            return Err(Error::UnsupportedTokenType);
        }
        // Before the token is looked at, so that a user who may not act always gets this answer.
        let authority = self.sessions.acting_user(caller).await?;
        // A token that was issued by a clock that was ahead can be revoked before its time.
        let now = self.clock.now();
        let at = jwt::claimed_issuance(token.expose()).map_or(now, |issued| issued.max(now));
        let tokens = self.auth.tokens();
        let Ok(token) = tokens.signed(token.expose(), at) else { return Ok(false) };
        let claims = &token.claims;
        // The holder can revoke it, and whose access it is: the same, unless it was exchanged.
        let parse = |name| ApplicationName::parse(name).map_err(|f| Error::internal(f.0));
        let holder = parse(claims.holder())?;
        if !caller.may_know_of(&holder, authority.is_some()) {
            return Ok(false);
        }
        let name = format!("{holder}/credentials/{}", claims.client_id);
        let attempt = Attempt::new(caller, Action::RevokeToken, &holder.tenant, &name);
        self.sessions
            .audited(&attempt, async {
                // Before its state, so that a caller that may not revoke it does not learn the state.
                match &authority {
                    Some(authority) if claims.sub == claims.holder() => {
                        self.require_revoker(authority, &holder).await?;
                    }
                    Some(authority) => {
                        // What is missing is said of the application whose access it is.
                        if self.require_revoker(authority, &holder).await.is_err() {
                            self.require_revoker(authority, &parse(&claims.sub)?).await?;
                        }
                    }
                    None if caller.may_revoke(&claims.sub)
                        || caller.may_revoke(claims.holder()) => {}
                    None => return Err(Error::NotYourToken),
                }
                let state = tokens.state_of(Arc::clone(&token), at).await?;
                let TokenState::Live(_, client) = state else { return Ok(false) };
                let expires_at = second(claims.exp)?;
                let mut work = self.sessions.begin(&attempt).await?;
                if work.lock_tenant(&client.tenant.id).await?.is_none() {
                    // The tenant was deleted meanwhile, and the token with it.
                    return Ok(false);
                }
                let subject = Subject::Token(claims.jti.clone());
                work.revoke(NewRevocation { subject, epoch: 0, expires_at });
                let detail = format!("the token {} was revoked", claims.jti);
                work.note_with(Action::RevokeToken, &name, Vec::new(), detail).await?;
                work.commit().await?;
                Ok(true)
            })
            .await
    }

    /// Refuses an acting user who may not revoke tokens of this application.
    async fn require_revoker(
        &self,
        authority: &Authority,
        application: &ApplicationName,
    ) -> Result<()> {
        let mut session = self.store.read().await?;
        reached(&mut session, authority, Call::RevokeToken, application).await.map(drop)
    }
}
