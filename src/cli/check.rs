//! `keyward check`

use clap::Args;
use serde::Serialize;

use super::output::View;
use super::token::presented;
use super::{Connection, Failure, names};
use crate::proto::access as pb;
use crate::proto::access::access_service_client::AccessServiceClient;
use crate::proto::access::check_access_request::Requirement;
use crate::proto::access::limit_status::Counted;

/// Ask whether a token or API key allows a request, as services do for every request
///
/// The caller needs the scope `keyward.verify` or `keyward.admin`. Counts towards the limits
/// that apply, unless --peek is given. Exits with 1 if the request is not allowed.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  keyward check TOKEN --scope campaigns.read
  keyward check - --endpoint 'GET /v4/campaigns/17' --items 10 < token.txt
  keyward check TOKEN --peek          what is left of its limits")]
pub(super) struct Check {
    /// The token or API key, or - to read it from standard input
    token: String,
    /// A scope that is needed, again for more: all of them
    #[arg(long, value_name = "SCOPE")]
    scope: Vec<String>,
    /// A scope of which one is needed, again for more
    #[arg(long, value_name = "SCOPE")]
    any_scope: Vec<String>,
    /// A request, in place of scopes: its method and path; the tenant's endpoint rules say
    /// what it needs
    #[arg(long, value_name = "METHOD PATH", conflicts_with_all = ["scope", "any_scope"])]
    endpoint: Option<String>,
    /// How many items are in the request
    #[arg(long, value_name = "N", default_value_t = 0)]
    items: i64,
    /// Whom the token must be for [default: the tenant's default audience]
    #[arg(long, value_name = "AUDIENCE", default_value = "", hide_default_value = true)]
    audience: String,
    /// The address that the request came from
    #[arg(long, value_name = "IP", default_value = "", hide_default_value = true)]
    source_address: String,
    /// Only tell: count nothing
    #[arg(long)]
    peek: bool,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Serialize)]
struct AnswerView {
    allowed: bool,
    outcome: String,
    message: String,
    tenant: String,
    application: String,
    credential: String,
    roles: Vec<String>,
    scopes: Vec<String>,
    token_id: String,
    expire_time: Option<String>,
    missing_scopes: Vec<String>,
    max_items: Option<i64>,
    limits: Vec<LimitView>,
    retry_after: Option<String>,
    max_age: Option<String>,
}

#[derive(Serialize)]
struct LimitView {
    name: String,
    counted: &'static str,
    limit: i64,
    window: Option<String>,
    remaining: i64,
    reset: Option<String>,
    exceeded: bool,
    observe_only: bool,
}

impl View for AnswerView {
    const COLUMNS: &'static [&'static str] = &["allowed", "outcome", "application"];
    const MEMBERS: &'static [&'static str] = &[
        "allowed",
        "outcome",
        "message",
        "tenant",
        "application",
        "credential",
        "roles",
        "scopes",
        "token_id",
        "expire_time",
        "missing_scopes",
        "max_items",
        "limits",
        "retry_after",
        "max_age",
    ];
}

impl From<pb::CheckAccessResponse> for AnswerView {
    fn from(answer: pb::CheckAccessResponse) -> Self {
        let outcome = answer.outcome().as_str_name().trim_start_matches("OUTCOME_");
        let outcome = outcome.to_lowercase();
        let principal = answer.principal.unwrap_or_default();
        Self {
            allowed: answer.allowed,
            outcome,
            message: answer.message,
            tenant: principal.tenant,
            application: principal.application,
            credential: principal.credential,
            roles: principal.roles,
            scopes: principal.scopes,
            token_id: principal.token_id,
            expire_time: names::moment(principal.expire_time.as_ref()),
            missing_scopes: answer.missing_scopes,
            max_items: Some(answer.max_items).filter(|most| *most > 0),
            limits: answer.limits.into_iter().map(LimitView::from).collect(),
            retry_after: names::wait(answer.retry_after.as_ref()),
            max_age: names::seconds(answer.max_age.as_ref()),
        }
    }
}

impl From<pb::LimitStatus> for LimitView {
    fn from(limit: pb::LimitStatus) -> Self {
        Self {
            counted: match limit.counted() {
                Counted::Unspecified => "unknown",
                Counted::Requests => "requests",
                Counted::Tokens => "tokens",
            },
            window: names::seconds(limit.window.as_ref()),
            reset: names::wait(limit.reset.as_ref()),
            name: limit.name,
            limit: limit.limit,
            remaining: limit.remaining,
            exceeded: limit.exceeded,
            observe_only: limit.observe_only,
        }
    }
}

impl Check {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let requirement = match &self.endpoint {
            Some(request) => {
                let (method, path) = request.split_once(' ').ok_or_else(|| {
                    Failure::usage("--endpoint must be a method and a path: 'GET /v4/campaigns'")
                })?;
                let (method, path) = (method.to_owned(), path.to_owned());
                Requirement::Endpoint(pb::RequestedEndpoint { method, path })
            }
            None => Requirement::Scopes(pb::RequiredScopes {
                all_of: self.scope,
                any_of: self.any_scope,
            }),
        };
        let request = pb::CheckAccessRequest {
            token: presented(&self.token)?,
            requirement: Some(requirement),
            items: self.items,
            audience: self.audience,
            source_address: self.source_address,
            peek: self.peek,
        };
        let mut client = AccessServiceClient::new(self.connection.authorized().await?);
        let answer = client.check_access(request).await?.into_inner();
        let refused = (!answer.allowed).then(|| Failure::new(&answer.message));
        self.connection.output.one(&AnswerView::from(answer))?;
        refused.map_or(Ok(()), Err)
    }
}
