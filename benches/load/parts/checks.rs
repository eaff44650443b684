//! Access checks: of known tokens and keys, compared with a server that only answers; and of new
//! tokens, compared with one that only verifies.

use std::sync::Arc;
use std::time::Duration;

use keyward::proto::access::CheckAccessRequest;
use keyward::proto::admin::credential::Kind as CredentialKind;

use crate::baseline::Kind;
use crate::callers::Checks;
use crate::harness::question;
use crate::load::{Measured, Shape};
use crate::report::{Figure, Target};
use crate::rounds::{Side, each, in_turns};
use crate::scene::{SCOPES, Scene, application};
use crate::settings::{Part, Settings};

/// How many new tokens are created for each round, and the time limit for it.
const FRESH: usize = 25_000;
const FRESH_WITHIN: Duration = Duration::from_secs(4);

pub(super) async fn measure(settings: &Settings) -> Vec<Figure> {
    let mut scene = Scene::new(&[]).await;
    let mut figures = seen_before(settings, &mut scene).await;
    figures.push(never_seen(settings, &scene).await);
    figures
}

async fn seen_before(settings: &Settings, scene: &mut Scene) -> Vec<Figure> {
    let (echo, verifier) = (scene.baseline(Kind::Echo), scene.verifier().await);
    let token = scene.clients[0].token(&scene.keyward.grpc()).await;
    let partner = application(&mut scene.admin, "partner", None).await;
    let (_, key) = scene.admin.credential(&partner, CredentialKind::ApiKey).await;
    // The first use of a key is a hash, so 128 concurrent ones are many hashes.
    assert!(scene.admin.check(&key.secret, &SCOPES[..1]).await.allowed);
    let (token, key) = (questions([token]), questions([key.secret]));
    let mut figures = Vec::new();
    for shape in [Shape::MANY, Shape::FEW] {
        let callers = async |grpc: String, questions: &Arc<[CheckAccessRequest]>| {
            Checks::connect(&grpc, &verifier, shape, questions, false).await
        };
        let (keyward, grpc) = (scene.keyward.process(), scene.keyward.grpc());
        let sides = [
            Side::new(keyward, callers(grpc.clone(), &token).await),
            Side::new(keyward, callers(grpc, &key).await),
            Side::new(&echo.process, callers(echo.grpc(), &token).await),
        ];
        let [of_token, of_key, echo] = in_turns(settings, settings.rounds(), sides).await;
        for (what, keyward) in [("a token", of_token), ("a key", of_key)] {
            let name = format!("checks of {what} seen before, {}", shape.title());
            let figure = Figure::new(Part::Checks, name, "/s", each(&keyward, Measured::rate));
            let cpu = each(&keyward, Measured::cpu_each);
            figures.push(
                figure
                    .beside("echo", each(&echo, Measured::rate))
                    .target(Target::AtLeast(0.70))
                    .note(keyward[0].in_words()),
            );
            let name = format!("processor time of a check of {what}, {}", shape.title());
            let figure = Figure::new(Part::Checks, name, "µs", cpu);
            figures.push(figure.beside("echo", each(&echo, Measured::cpu_each)));
        }
    }
    figures
}

async fn never_seen(settings: &Settings, scene: &Scene) -> Figure {
    let (verify, verifier) = (scene.baseline(Kind::Verify), scene.verifier().await);
    let (mut rates, mut beside) = (Vec::new(), Vec::new());
    let (mut tokens, mut latencies) = (0, String::new());
    for round in settings.rounds() {
        let fresh = questions(scene.tokens(FRESH, FRESH_WITHIN).await);
        let callers =
            async |grpc: String| Checks::connect(&grpc, &verifier, Shape::MANY, &fresh, true).await;
        let sides = [
            Side::new(scene.keyward.process(), callers(scene.keyward.grpc()).await).cold(),
            Side::new(&verify.process, callers(verify.grpc()).await).cold(),
        ];
        let [keyward, verify] = in_turns(settings, round..=round, sides).await;
        rates.extend(each(&keyward, Measured::rate));
        beside.extend(each(&verify, Measured::rate));
        tokens += fresh.len();
        latencies = keyward[0].in_words();
    }
    let name = format!("checks of tokens never seen, {}", Shape::MANY.title());
    Figure::new(Part::Checks, name, "/s", rates)
        .beside("verify", beside)
        .target(Target::AtLeast(0.85))
        .note(format!("{tokens} tokens, {latencies}"))
}

/// Checks a scope that the tokens have.
fn questions(tokens: impl IntoIterator<Item = String>) -> Arc<[CheckAccessRequest]> {
    tokens.into_iter().map(|token| question(&token, &SCOPES[..1])).collect()
}
