//! An idle server: its memory and its start time.

use std::time::Duration;

use crate::keyward::Keyward;
use crate::report::{Figure, Target};
use crate::settings::Part;

const STARTS: usize = 5;
/// How long the server is idle before its memory is measured.
const REST: Duration = Duration::from_secs(3);

pub(super) async fn measure() -> Vec<Figure> {
    let mut keyward = Keyward::start(&[]).await;
    let mut starts = Vec::new();
    for _ in 0..STARTS {
        keyward.stop();
        starts.push(keyward.start_again().await.as_secs_f64() * 1e3);
    }
    tokio::time::sleep(REST).await;
    let memory = keyward.process().memory();
    vec![
        Figure::new(Part::Memory, "start to ready, existing database", "ms", starts)
            .target(Target::AtMost(300.0)),
        Figure::new(Part::Memory, "idle memory", "MiB", vec![memory]).target(Target::AtMost(40.0)),
    ]
}
