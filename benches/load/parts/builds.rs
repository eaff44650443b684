//! Compares two builds of Keyward: this one, and the program that `--other` names. The cost of a
//! change is smaller than the noise between two runs, so both builds are measured in each round.

use std::path::Path;
use std::sync::Arc;

use keyward::proto::access::CheckAccessRequest;
use keyward::proto::admin::credential::Kind;

use crate::callers::{AsksForTokens, AsksOverHttp, Checks};
use crate::harness::question;
use crate::load::{Caller, Measured, Shape};
use crate::report::Figure;
use crate::rounds::{Side, each, in_turns};
use crate::scene::{SCOPES, Scene, application};
use crate::settings::{Part, Settings};

const HTTP_CONNECTIONS: usize = 64;

/// A running build, and the requests of its callers.
struct Build {
    scene: Scene,
    verifier: String,
    token: Arc<[CheckAccessRequest]>,
    key: Arc<[CheckAccessRequest]>,
}

impl Build {
    async fn start(binary: &Path) -> Self {
        let mut scene = Scene::of(binary, &[]).await;
        let verifier = scene.verifier().await;
        let token = scene.clients[0].token(&scene.keyward.grpc()).await;
        let partner = application(&mut scene.admin, "partner", None).await;
        let (_, key) = scene.admin.credential(&partner, Kind::ApiKey).await;
        // The first use of a key is a hash.
        assert!(scene.admin.check(&key.secret, &SCOPES[..1]).await.allowed);
        let [token, key] = [token, key.secret].map(|secret| [question(&secret, &SCOPES[..1])]);
        Self { scene, verifier, token: token.into(), key: key.into() }
    }

    fn side<C: Caller>(&self, callers: Vec<C>) -> Side<'_, C> {
        Side::new(self.scene.keyward.process(), callers)
    }

    async fn tokens(&self, shape: Shape) -> Side<'_, AsksForTokens> {
        let grpc = self.scene.keyward.grpc();
        self.side(AsksForTokens::connect(&grpc, shape, &self.scene.clients).await)
    }

    async fn checks(
        &self,
        shape: Shape,
        questions: &Arc<[CheckAccessRequest]>,
    ) -> Side<'_, Checks> {
        let grpc = self.scene.keyward.grpc();
        self.side(Checks::connect(&grpc, &self.verifier, shape, questions, false).await)
    }

    async fn http(&self) -> Side<'_, AsksOverHttp> {
        let http = self.scene.keyward.http();
        self.side(AsksOverHttp::connect(&http, HTTP_CONNECTIONS, &self.scene.clients).await)
    }
}

pub(super) async fn measure(settings: &Settings) -> Vec<Figure> {
    let other = settings.other.as_deref().expect("`builds` needs --other PROGRAM");
    let this = Build::start(Path::new(env!("CARGO_BIN_EXE_keyward"))).await;
    let other = Build::start(other).await;
    let mut figures = Vec::new();
    for shape in [Shape::MANY, Shape::FEW] {
        let title = shape.title();
        let sides = [this.tokens(shape).await, other.tokens(shape).await];
        figures.extend(compare(settings, format!("tokens, {title}"), sides).await);
        let sides =
            [this.checks(shape, &this.token).await, other.checks(shape, &other.token).await];
        figures.extend(compare(settings, format!("checks of a token, {title}"), sides).await);
        let sides = [this.checks(shape, &this.key).await, other.checks(shape, &other.key).await];
        figures.extend(compare(settings, format!("checks of a key, {title}"), sides).await);
    }
    let sides = [this.http().await, other.http().await];
    figures.extend(compare(settings, "tokens over HTTP".to_owned(), sides).await);
    figures
}

/// Measures calls per second and processor time per call of both builds.
async fn compare<C: Caller>(
    settings: &Settings,
    name: String,
    sides: [Side<'_, C>; 2],
) -> [Figure; 2] {
    let [this, other] = in_turns(settings, settings.rounds(), sides).await;
    let figure = |name, unit, number: fn(&Measured) -> f64| {
        Figure::new(Part::Builds, name, unit, each(&this, number))
            .beside("other", each(&other, number))
    };
    let time = format!("processor time of {name}");
    [figure(name, "/s", Measured::rate), figure(time, "µs", Measured::cpu_each)]
}
