//! Tenants: access checks of tokens of many tenants, beside tokens of one.

use std::sync::Arc;

use keyward::proto::access::CheckAccessRequest;

use super::{Grown, up_to};
use crate::curve::Curve;
use crate::harness::question;
use crate::load::Measured;
use crate::report::{Figure, Target};
use crate::rounds::{Side, each, in_turns};
use crate::scene::SCOPES;
use crate::scene::copied::Copied;
use crate::settings::{Part, Settings};

const SIZES: [u32; 3] = [1_000, 10_000, 100_000];
const USUAL: u32 = 100_000;
/// The number of tokens: of as many tenants, or of as many applications of one.
const TOKENS: u32 = 1_000;

pub(super) async fn measure(settings: &Settings) -> Grown {
    let title = "Access checks, beside tokens of one tenant";
    let mut curve = Curve::new("tenants", title, "tenants", "ratio", None);
    let mut figures = Vec::new();
    let mut one = Copied::start(None).await;
    one.grow_to(TOKENS).await;
    let of_one = questions(&one, TOKENS).await;
    let mut many = Copied::start(None).await;
    for size in up_to(&SIZES, settings, USUAL) {
        many.grow_to_tenants(size).await;
        let of_many = questions(&many, size).await;
        let sides = [
            Side::new(many.keyward.process(), many.checks(&of_many).await),
            Side::new(one.keyward.process(), one.checks(&of_one).await),
        ];
        let [checks, beside] = in_turns(settings, settings.rounds(), sides).await;
        let name = |what: &str| format!("{size} tenants: {what}");
        let figure = Figure::new(Part::Growth, name("checks"), "/s", each(&checks, Measured::rate))
            .beside("1", each(&beside, Measured::rate))
            .target(Target::AtLeast(0.9))
            .note(checks[0].in_words());
        curve.add("checks", size, figure.median());
        figures.push(figure);
        let memory = |copied: &Copied| vec![copied.keyward.process().memory()];
        figures.push(
            Figure::new(Part::Growth, name("memory"), "MiB", memory(&many))
                .beside("1", memory(&one)),
        );
    }
    Grown { figures, curves: vec![curve] }
}

/// Questions about tokens, evenly of all copies.
async fn questions(copied: &Copied, size: u32) -> Arc<[CheckAccessRequest]> {
    let every = usize::try_from(size / TOKENS).unwrap();
    let clients: Vec<_> = copied.clients(size).into_iter().step_by(every).collect();
    let tokens = copied.tokens(&clients).await;
    tokens.iter().map(|token| question(token, &SCOPES[..1])).collect()
}
