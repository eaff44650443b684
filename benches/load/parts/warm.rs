//! Memory with many cached credentials, each used once.

use crate::load::count;
use crate::report::{Figure, Target};
use crate::scene::copied::Copied;
use crate::scene::first_uses;
use crate::settings::{Part, Settings};

/// What the target refers to.
const MANY: usize = 100_000;
const TARGET: f64 = 150.0;
const AT_ONCE: usize = 64;

pub(super) async fn measure(settings: &Settings) -> Vec<Figure> {
    let mut copied = Copied::start(None).await;
    copied.grow_to(settings.warm).await;
    let clients: Vec<_> = copied.clients(settings.warm);
    let grpc = copied.keyward.grpc();
    let memory = || copied.keyward.process().memory();
    let (some, others) = clients.split_at(clients.len() / 2);
    first_uses(&grpc, some, AT_ONCE).await;
    let half = memory();
    first_uses(&grpc, others, AT_ONCE).await;
    let all = memory();
    let each = (all - half) * 1024.0 * 1024.0 / count(others.len());
    let name = format!("memory with {} warm credentials", clients.len());
    let figure = Figure::new(Part::Warm, name, "MiB", vec![all])
        .note(format!("at most {:.0} MiB", copied.keyward.process().peak_memory()));
    let at_target = clients.len() == MANY;
    let figure = if at_target { figure.target(Target::AtMost(TARGET)) } else { figure };
    let name = "memory of one more, from the second half";
    vec![figure, Figure::new(Part::Warm, name, "bytes", vec![each])]
}
