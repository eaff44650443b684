//! Tokens over gRPC for known clients, signed with ES256, with the embedded database: compared with
//! a server that only signs, and one that only answers.

use crate::baseline::Kind;
use crate::callers::AsksForTokens;
use crate::load::{Measured, Shape};
use crate::report::{Figure, Target};
use crate::rounds::{Side, each, in_turns};
use crate::scene::Scene;
use crate::settings::{Part, Settings};

pub(super) async fn measure(settings: &Settings) -> Vec<Figure> {
    let scene = Scene::new(&[]).await;
    let (sign, echo) = (scene.baseline(Kind::Sign), scene.baseline(Kind::Echo));
    let mut figures = Vec::new();
    for shape in [Shape::MANY, Shape::FEW] {
        let callers =
            async |grpc: String| AsksForTokens::connect(&grpc, shape, &scene.clients).await;
        let sides = [
            Side::new(scene.keyward.process(), callers(scene.keyward.grpc()).await),
            Side::new(&sign.process, callers(sign.grpc()).await),
            Side::new(&echo.process, callers(echo.grpc()).await),
        ];
        let [keyward, sign, echo] = in_turns(settings, settings.rounds(), sides).await;
        let title = shape.title();
        let figure = |name: &str, unit, number: fn(&Measured) -> f64| {
            Figure::new(Part::Tokens, format!("{name}, {title}"), unit, each(&keyward, number))
        };
        figures.extend([
            figure("tokens", "/s", Measured::rate)
                .beside("sign", each(&sign, Measured::rate))
                .target(Target::AtLeast(0.85))
                .note(keyward[0].in_words()),
            figure("tokens", "/s", Measured::rate)
                .beside("echo", each(&echo, Measured::rate))
                .note(format!("sign: {}", sign[0].in_words())),
            figure("processor time of a token", "µs", Measured::cpu_each)
                .beside("sign", each(&sign, Measured::cpu_each))
                .target(Target::AtMost(1.2)),
            figure("written for a token", "bytes", Measured::written_each),
        ]);
    }
    figures
}
