//! `keyward check`

use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};

use super::output::{Column, Tabular, listed, member};
use super::secret::Presented;
use super::tls::{Thumbprint, thumbprint};
use super::{Failure, ServerConnection, names};
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
  keyward check TOKEN --peek          what remains of its limits")]
pub(super) struct Check {
    #[command(flatten)]
    token: Presented,
    /// A required scope; repeat it for more, all of which are required
    #[arg(long, value_name = "SCOPE")]
    scope: Vec<String>,
    /// An alternative scope; repeat it for more, one of which is required
    #[arg(long, value_name = "SCOPE")]
    any_scope: Vec<String>,
    /// A method and path in place of scopes. The tenant's endpoint rules have the required scopes
    #[arg(long, value_name = "METHOD PATH", conflicts_with_all = ["scope", "any_scope"])]
    endpoint: Option<String>,
    /// The number of items in the request
    #[arg(long, value_name = "N", default_value_t = 0)]
    items: i64,
    /// The audience that the token must have [default: the tenant's default audience]
    #[arg(long, value_name = "AUDIENCE", default_value = "", hide_default_value = true)]
    audience: String,
    /// The address that the request came from
    #[arg(long, value_name = "IP", default_value = "", hide_default_value = true)]
    source_address: String,
    /// A file with the client certificate (PEM) that came with the token, for a bound token
    #[arg(long, value_name = "FILE", value_parser = thumbprint)]
    certificate: Option<Thumbprint>,
    /// Report only; count nothing
    #[arg(long)]
    peek: bool,
    #[command(flatten)]
    connection: ServerConnection,
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

impl Tabular for pb::CheckAccessResponse {
    const COLUMNS: &'static [Column<Self>] = &[
        listed(1, "allowed", |answer| json!(answer.allowed)),
        listed(2, "outcome", |answer| {
            let outcome = answer.outcome().as_str_name().trim_start_matches("OUTCOME_");
            json!(outcome.to_lowercase())
        }),
        member("message", |answer| json!(answer.message)),
        member("tenant", |answer| of_principal(answer, |principal| json!(principal.tenant))),
        listed(3, "application", |answer| {
            of_principal(answer, |principal| json!(principal.application))
        }),
        member("credential", |answer| {
            of_principal(answer, |principal| json!(principal.credential))
        }),
        member("roles", |answer| of_principal(answer, |principal| json!(principal.roles))),
        member("scopes", |answer| of_principal(answer, |principal| json!(principal.scopes))),
        member("token_id", |answer| of_principal(answer, |principal| json!(principal.token_id))),
        member("expire_time", |answer| {
            of_principal(answer, |principal| json!(names::moment(principal.expire_time.as_ref())))
        }),
        member("missing_scopes", |answer| json!(answer.missing_scopes)),
        member("max_items", |answer| json!(Some(answer.max_items).filter(|max| *max > 0))),
        member("limits", |answer| {
            json!(answer.limits.iter().cloned().map(LimitView::from).collect::<Vec<_>>())
        }),
        member("retry_after", |answer| json!(names::wait(answer.retry_after.as_ref()))),
        member("max_age", |answer| json!(names::seconds(answer.max_age.as_ref()))),
    ];
}

/// A member of the principal, or of an empty principal if the answer has none.
fn of_principal(answer: &pb::CheckAccessResponse, member: fn(&pb::Principal) -> Value) -> Value {
    answer.principal.as_ref().map_or_else(|| member(&pb::Principal::default()), member)
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
            token: self.token.read()?,
            requirement: Some(requirement),
            items: self.items,
            audience: self.audience,
            source_address: self.source_address,
            peek: self.peek,
            possession: self.certificate.map(|Thumbprint(certificate_thumbprint)| pb::Possession {
                certificate_thumbprint,
                dpop: None,
            }),
        };
        let mut client = AccessServiceClient::new(self.connection.authorized().await?);
        let answer = client.check_access(request).await?.into_inner();
        self.connection.output.one(&answer)?;
        if answer.allowed { Ok(()) } else { Err(Failure::new(answer.message)) }
    }
}
