//! `cargo bench --bench load`: whole servers under load, compared with their baselines.
//!
//! Every figure is a ratio of two rates, times or sizes that were measured in turns in one run on
//! one machine: Keyward as it is shipped, in a separate process, and a server that does only the
//! unavoidable part of the work (`baseline`). The measurements are in `parts`, one file each.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a figure that cannot be had fails by panicking, and others go on"
)]
#![expect(clippy::print_stdout, reason = "this is where figures are printed")]

mod baseline;
mod callers;
mod curve;
mod database;
mod harness;
mod keyward;
mod load;
mod machine;
mod parts;
mod process;
mod report;
mod rounds;
mod scene;
mod settings;

use std::process::ExitCode;

use ::keyward::internals::clock::Stopwatch;
use clap::Parser;

use self::report::{Figure, Report};
use self::settings::Settings;

fn main() -> ExitCode {
    let settings = Settings::parse();
    if let Some(kind) = settings.serve {
        let templates = settings.templates.expect("a baseline has templates");
        baseline::serve(kind, &templates, settings.redis.as_deref());
        return ExitCode::SUCCESS;
    }
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        tokio::select! {
            code = run(settings) => code,
            // Dropping the future also stops every server.
            _ = tokio::signal::ctrl_c() => ExitCode::from(130),
        }
    })
}

async fn run(settings: Settings) -> ExitCode {
    let older = settings.compare.as_deref().map(Report::read);
    let mut report = Report::new(&settings);
    let mut failed = Vec::new();
    for part in settings.parts() {
        let watch = Stopwatch::start();
        match parts::run(part, &settings).await {
            Ok(figures) => {
                println!("\n{part} ({:.0} s)", watch.elapsed().as_secs_f64());
                println!("{}", report::table(&figures));
                report.add(figures);
            }
            Err(why) => {
                println!("\n{part} FAILED: {why}");
                failed.push(part);
            }
        }
    }
    if let Some(older) = &older {
        println!("\n{}", report.compare(older));
    }
    let missed = report.figures().filter(|figure| figure.is_met() == Some(false));
    let missed: Vec<_> = missed.map(Figure::title).collect();
    println!("\nwritten to {}", report.write(&settings.json).display());
    if !missed.is_empty() {
        println!("targets missed: {}", missed.join("; "));
    }
    if !failed.is_empty() {
        println!("parts that FAILED: {failed:?}");
        return ExitCode::FAILURE;
    }
    let strict = settings.strict && !missed.is_empty();
    if strict { ExitCode::from(3) } else { ExitCode::SUCCESS }
}
