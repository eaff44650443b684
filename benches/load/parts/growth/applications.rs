//! The effect of many applications: a curve, each point compared with a server that has a thousand.

use keyward::internals::clock::Stopwatch;
use keyward::proto::admin::ListApplicationsRequest;

use super::{Grown, postgres, up_to};
use crate::callers::AsksForTokens;
use crate::curve::Curve;
use crate::load::{Measured, Shape};
use crate::report::{Figure, Target};
use crate::rounds::{Side, each, in_turns};
use crate::scene::copied::Copied;
use crate::scene::{CLIENTS, first_uses};
use crate::settings::{Part, Settings};

const FEW: u32 = 1_000;
const SIZES: [u32; 3] = [10_000, 100_000, 1_000_000];
const USUAL: u32 = 100_000;
/// How often rare operations are repeated.
const TIMES: usize = 5;
/// The longest page, in milliseconds: of a search with up to 10,000 matches, and with more.
const NARROW: f64 = 50.0;
const BROAD: f64 = 250.0;
/// What is searched, the text, the order, and the longest page. The names are `Integration 0000002`
/// and so on. In each order, one in 30 after those is an `Omnichannel`, one in 50 after these is a
/// `Telephony`, and one in 100 at the end is a `Webchat`: 10,000 of a million.
const SEARCHES: [(&str, &str, &str, f64); 13] = [
    ("the first page", "", "", NARROW),
    ("a search that finds one", "0000777", "", NARROW),
    ("the same by last use", "0000777", "last_use_time", NARROW),
    ("a search that finds none", "unknown", "", NARROW),
    ("a search that finds nearly all", "integration", "", BROAD),
    ("one in 100, the last by name", "webchat", "display_name", NARROW),
    ("one in 100, the last by creation", "webchat", "create_time", NARROW),
    ("one in 100, the last by last use", "webchat", "last_use_time", NARROW),
    ("one in 50, far on by name", "telephony", "display_name", BROAD),
    ("one in 50, far on by last use", "telephony", "last_use_time", BROAD),
    ("one in 30, far on by name", "omnichannel", "display_name", BROAD),
    ("one in 30, far on by creation", "omnichannel", "create_time", BROAD),
    ("one in 30, far on by last use", "omnichannel", "last_use_time", BROAD),
];

pub(super) async fn measure(settings: &Settings) -> Grown {
    let name = ["applications-tokens", "applications-pages"];
    let title = ["Tokens, beside a tenant with 1,000 applications", "Pages of a list"];
    let mut rates = Curve::new(name[0], title[0], "applications", "ratio", None);
    let mut times = Curve::new(name[1], title[1], "applications", "ms", Some(NARROW));
    let mut few = Copied::start(None).await;
    few.grow_to(FEW).await;
    let mut many = Copied::start(None).await;
    let sizes = up_to(&SIZES, settings, USUAL);
    let mut figures = Vec::new();
    for &size in &sizes {
        let took = many.grow_to(size).await;
        let name = |what: &str| format!("{size} applications: {what}");
        let start =
            Figure::new(Part::Growth, name("start to ready"), "ms", starts(&mut many).await)
                .beside("1000", starts(&mut few).await)
                .note(format!("made in {:.0} s", took.as_secs_f64()));
        let tokens = tokens(settings, size, &many, &few).await;
        rates.add("tokens", size, tokens.median());
        figures.push(tokens);
        figures.push(start);
        let memory = |copied: &Copied| vec![copied.keyward.process().memory()];
        figures.push(
            Figure::new(Part::Growth, name("memory"), "MiB", memory(&many))
                .beside("1000", memory(&few)),
        );
        let pages = pages(&many, name).await;
        times.add("longest page, SQLite", size, longest(&pages));
        figures.extend(pages);
    }
    drop(many);
    let (_server, url) = postgres().await;
    let mut many = Copied::start(Some(url)).await;
    for &size in &sizes {
        many.grow_to(size).await;
        let name = |what: &str| format!("{size} applications on PostgreSQL: {what}");
        let pages = pages(&many, name).await;
        times.add("longest page, PostgreSQL", size, longest(&pages));
        figures.extend(pages);
    }
    Grown { figures, curves: vec![rates, times] }
}

/// The longest page of a search with up to 10,000 matches.
fn longest(pages: &[Figure]) -> f64 {
    let narrow = SEARCHES.iter().zip(pages).filter(|((.., longest), _)| *longest == NARROW);
    narrow.map(|(_, page)| page.median()).fold(0.0, f64::max)
}

/// The durations of pages of the list.
async fn pages(copied: &Copied, name: impl Fn(&str) -> String) -> Vec<Figure> {
    let mut figures = Vec::new();
    for (what, search, order, longest) in SEARCHES {
        let times = list(copied, search, order).await;
        let figure = Figure::new(Part::Growth, name(what), "ms", times);
        figures.push(figure.target(Target::AtMost(longest)));
    }
    figures
}

async fn tokens(settings: &Settings, size: u32, many: &Copied, few: &Copied) -> Figure {
    let mut sides = Vec::new();
    for (copied, size) in [(many, size), (few, FEW)] {
        let every = usize::try_from(size).unwrap() / CLIENTS;
        let clients: Vec<_> = copied.clients(size).into_iter().step_by(every).collect();
        let grpc = copied.keyward.grpc();
        first_uses(&grpc, &clients, CLIENTS).await;
        let callers = AsksForTokens::connect(&grpc, Shape::MANY, &clients).await;
        sides.push(Side::new(copied.keyward.process(), callers));
    }
    let sides = <[_; 2]>::try_from(sides).ok().unwrap();
    let [many, few] = in_turns(settings, settings.rounds(), sides).await;
    Figure::new(
        Part::Growth,
        format!("{size} applications: tokens"),
        "/s",
        each(&many, Measured::rate),
    )
    .beside("1000", each(&few, Measured::rate))
    .target(Target::AtLeast(0.9))
    .note(many[0].in_words())
}

async fn starts(copied: &mut Copied) -> Vec<f64> {
    let mut times = Vec::new();
    for _ in 0..TIMES {
        copied.keyward.stop();
        times.push(copied.keyward.start_again().await.as_secs_f64() * 1e3);
    }
    times
}

/// The duration of a page of the list, in milliseconds.
async fn list(copied: &Copied, search: &str, order: &str) -> Vec<f64> {
    let mut admin = copied.keyward.admin().await;
    let mut times = Vec::new();
    for _ in 0..TIMES {
        let request = ListApplicationsRequest {
            parent: "tenants/acme".to_owned(),
            search: search.to_owned(),
            order_by: order.to_owned(),
            ..Default::default()
        };
        let watch = Stopwatch::start();
        let listed = admin.applications.list_applications(request).await.unwrap().into_inner();
        times.push(watch.elapsed().as_secs_f64() * 1e3);
        assert_eq!(listed.applications.is_empty(), search == "unknown", "{search}");
    }
    times
}
