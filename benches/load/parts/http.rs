//! Tokens over HTTP: the token endpoint with Basic credentials over persistent HTTP/1.1
//! connections, compared with a minimal server that signs and answers the same.

use crate::baseline::Kind;
use crate::callers::AsksOverHttp;
use crate::load::Measured;
use crate::report::Figure;
use crate::rounds::{Side, each, in_turns};
use crate::scene::Scene;
use crate::settings::{Part, Settings};

const CONNECTIONS: usize = 64;

pub(super) async fn measure(settings: &Settings) -> Vec<Figure> {
    let scene = Scene::new(&[]).await;
    let sign = scene.baseline(Kind::SignHttp);
    let callers = async |at: String| AsksOverHttp::connect(&at, CONNECTIONS, &scene.clients).await;
    let sides = [
        Side::new(scene.keyward.process(), callers(scene.keyward.http()).await),
        Side::new(&sign.process, callers(sign.http()).await),
    ];
    let [keyward, sign] = in_turns(settings, settings.rounds(), sides).await;
    let figure = |name, unit, number: fn(&Measured) -> f64| {
        Figure::new(Part::Http, name, unit, each(&keyward, number))
            .beside("sign", each(&sign, number))
    };
    vec![
        figure("tokens, 64 connections", "/s", Measured::rate).note(keyward[0].in_words()),
        figure("processor time of a token", "µs", Measured::cpu_each),
    ]
}
