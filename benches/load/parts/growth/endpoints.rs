//! Endpoint rules of one tenant: access checks, beside a tenant with one rule.

use std::sync::Arc;

use keyward::proto::access::check_access_request::Requirement;
use keyward::proto::access::{CheckAccessRequest, RequestedEndpoint};

use super::{Grown, up_to};
use crate::curve::Curve;
use crate::load::Measured;
use crate::report::{Figure, Target};
use crate::rounds::{Side, each, in_turns};
use crate::scene::SCOPES;
use crate::scene::copied::Copied;
use crate::settings::{Part, Settings};

const SIZES: [u32; 4] = [10, 100, 500, 5_000];
const USUAL: u32 = 5_000;

pub(super) async fn measure(settings: &Settings) -> Grown {
    let title = "Access checks, beside a tenant with one endpoint rule";
    let mut curve = Curve::new("endpoints", title, "endpoint rules", "ratio", None);
    let mut figures = Vec::new();
    let (one, mut many) = (with_rules(1).await, with_rules(1).await);
    let (asks_one, mut last) = (asks(&one, 1).await, 1);
    for size in up_to(&SIZES, settings, USUAL) {
        add_rules(&mut many, last + 1, size).await;
        last = size;
        let sides = [
            Side::new(many.keyward.process(), many.checks(&asks(&many, size).await).await),
            Side::new(one.keyward.process(), one.checks(&asks_one).await),
        ];
        let [many, one] = in_turns(settings, settings.rounds(), sides).await;
        let name = format!("{size} endpoint rules: checks");
        let figure = Figure::new(Part::Growth, name, "/s", each(&many, Measured::rate))
            .beside("1", each(&one, Measured::rate))
            .target(Target::AtLeast(0.9))
            .note(many[0].in_words());
        curve.add("checks", size, figure.median());
        figures.push(figure);
    }
    Grown { figures, curves: vec![curve] }
}

async fn with_rules(size: u32) -> Copied {
    let mut copied = Copied::start(None).await;
    copied.grow_to(1).await;
    add_rules(&mut copied, 1, size).await;
    copied
}

/// Adds rules for the parts of things, of which one path in eight has no variable.
async fn add_rules(copied: &mut Copied, first: u32, last: u32) {
    copied.keyward.stop();
    let mut database = copied.database().await;
    let scope = SCOPES[0];
    let sql = format!(
        "with recursive numbers (n) as \
         (select {first} union all select n + 1 from numbers where n < {last}) \
         insert into endpoints (tenant_id, method, path, all_of, any_of, description) \
         select 'acme', 'GET', case when n % 8 = 0 then '/v1/reports/' || n \
           else '/v1/things/{{thing}}/parts/' || n end, '{scope}', '', '' from numbers"
    );
    database.execute(sql).await;
    drop(database);
    copied.keyward.start_again().await;
}

/// Questions about requests that different rules match.
async fn asks(copied: &Copied, size: u32) -> Arc<[CheckAccessRequest]> {
    let token = copied.tokens(&copied.clients(1)).await.swap_remove(0);
    let question = |n: u32| {
        let path = match n % 8 {
            0 => format!("/v1/reports/{n}"),
            _ => format!("/v1/things/{n}/parts/{n}"),
        };
        let endpoint = RequestedEndpoint { method: "GET".to_owned(), path };
        CheckAccessRequest {
            token: token.clone(),
            requirement: Some(Requirement::Endpoint(endpoint)),
            ..Default::default()
        }
    };
    (1..=size).map(question).collect()
}
