//! Token exchange (RFC 8693): clients that may exchange tokens, and their requests.

use keyward::proto::admin as pb;
use keyward::proto::admin::credential::Kind;
use keyward::proto::token as tokens;
use keyward::proto::token::exchange_token_request::Credential as Proof;
use keyward::proto::token::token_service_client::TokenServiceClient;
use tonic::Status;

use super::{Admin, Credential, connect, mask};

pub(crate) const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
pub(crate) const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
pub(crate) const API_KEY: &str = "urn:keyward:params:oauth:token-type:api_key";

/// A request to exchange an access token, before more is asked for.
pub(crate) fn exchange_of(token: &str) -> tokens::ExchangeTokenRequest {
    tokens::ExchangeTokenRequest {
        subject_token: token.to_owned(),
        subject_token_type: ACCESS_TOKEN.to_owned(),
        ..Default::default()
    }
}

impl Credential {
    /// Sends a request over gRPC, with this credential.
    pub(crate) async fn exchange_token(
        &self,
        grpc: &str,
        request: tokens::ExchangeTokenRequest,
    ) -> Result<tokens::ExchangeTokenResponse, Status> {
        let credential = Some(if self.client_id.is_empty() {
            Proof::ApiKey(self.secret.clone())
        } else {
            Proof::ClientSecret(tokens::ClientSecret {
                client_id: self.client_id.clone(),
                client_secret: self.secret.clone(),
            })
        });
        let request = tokens::ExchangeTokenRequest { credential, ..request };
        let mut client = TokenServiceClient::new(connect(grpc).await);
        client.exchange_token(request).await.map(tonic::Response::into_inner)
    }

    /// The token for the only audience of this client, in exchange for another.
    pub(crate) async fn exchanged(&self, grpc: &str, token: &str) -> String {
        self.exchange_token(grpc, exchange_of(token)).await.unwrap().access_token
    }

    /// The same, for an actor.
    pub(crate) async fn exchanged_for(&self, grpc: &str, token: &str, actor: &str) -> String {
        let request = tokens::ExchangeTokenRequest {
            actor_token: actor.to_owned(),
            actor_token_type: ACCESS_TOKEN.to_owned(),
            ..exchange_of(token)
        };
        self.exchange_token(grpc, request).await.unwrap().access_token
    }
}

impl Admin {
    /// An application without scopes that may exchange tokens for these audiences of its tenant,
    /// and its client secret.
    pub(crate) async fn exchanger(
        &mut self,
        tenant: &str,
        id: &str,
        audiences: &[&str],
    ) -> (pb::Credential, Credential) {
        let application = self.application(tenant, id, &[]).await;
        self.allow_exchange(&application.name, audiences).await.unwrap();
        self.credential(&application.name, Kind::ClientSecret).await
    }

    /// Sets the audiences for which an application may exchange tokens.
    pub(crate) async fn allow_exchange(
        &mut self,
        application: &str,
        audiences: &[&str],
    ) -> Result<pb::Application, Status> {
        let application = pb::Application {
            name: application.to_owned(),
            exchange_audiences: audiences.iter().map(|audience| (*audience).to_owned()).collect(),
            ..Default::default()
        };
        let request = pb::UpdateApplicationRequest {
            application: Some(application),
            update_mask: mask(&["exchange_audiences"]),
        };
        let answer = self.applications.update_application(request).await?;
        Ok(answer.into_inner().application.unwrap())
    }
}
