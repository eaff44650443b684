//! The command line.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::baseline;

/// Measures whole servers with their baselines, and prints ratios
///
/// Keyward runs as it is shipped, in a separate process with an embedded database (or PostgreSQL
/// and Redis, started here on free ports). Its baselines do only what cannot be avoided: `echo`
/// answers immediately, `sign` signs a token, `verify` verifies one. They are measured in turns,
/// and a ratio is the median of the rounds.
#[derive(Clone, Debug, Parser)]
#[command(after_help = "\
Examples:
  cargo bench                                             everything, some minutes
  cargo bench --bench load -- tokens checks               two parts
  cargo bench --bench load -- tokens --rounds 19          less noise
  cargo bench --bench load -- growth --full               up to the largest sizes
  cargo bench --bench load -- --compare old.json          with the change since then
  cargo bench --bench load -- builds --other ../old/keyward   beside another build

Figures go to standard output and, with every sample, to a JSON file. A part that fails (an
error where none belongs, a server that is missing) ends the run with 1, once the others are
through; a missed target does with 3, where --strict asks for it.")]
pub(crate) struct Settings {
    /// The parts to measure; all, unless parts are named
    #[arg(value_enum)]
    parts: Vec<Part>,

    /// Rounds of each comparison
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..=20))]
    rounds: u32,

    /// Seconds of each measurement
    #[arg(long, default_value_t = 1.0, value_parser = seconds)]
    pub(crate) seconds: f64,

    /// Credentials that the part `warm` uses
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    pub(crate) warm: u32,

    /// Let the part `growth` go up to the largest sizes: 1,000,000 revocations and applications,
    /// 10,000,000 audit events, 100,000 tenants
    #[arg(long)]
    pub(crate) full: bool,

    /// What grows in the part `growth`; everything, unless it is named
    #[arg(long = "growing", value_name = "WHAT", value_enum)]
    growing: Vec<Growing>,

    /// Where to draw the curves of the part `growth`
    #[arg(long, value_name = "FOLDER", default_value = "target/keyward-curves")]
    pub(crate) curves: PathBuf,

    /// Where to write the figures, as JSON
    #[arg(long, value_name = "FILE", default_value = "target/keyward-bench.json")]
    pub(crate) json: PathBuf,

    /// Print the change since another run, from its JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) compare: Option<PathBuf>,

    /// Another build of the `keyward` program, for the part `builds`
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) other: Option<PathBuf>,

    /// End with 3 if a target is missed
    #[arg(long)]
    pub(crate) strict: bool,

    /// Passed by cargo
    #[arg(long, hide = true)]
    bench: bool,

    /// Serve as a baseline: the program starts itself with it
    #[arg(long, hide = true, requires = "templates")]
    pub(crate) serve: Option<baseline::Kind>,

    /// The folder with the baseline's answers
    #[arg(long, hide = true)]
    pub(crate) templates: Option<PathBuf>,

    /// The Redis that the baseline counts in
    #[arg(long, hide = true)]
    pub(crate) redis: Option<String>,
}

/// A measured part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Tokens over gRPC for known clients
    Tokens,
    /// Tokens over gRPC for clients that sign an assertion
    Assertions,
    /// Tokens over HTTP for known clients
    Http,
    /// Access checks: of known tokens and keys, and of new tokens
    Checks,
    /// What Envoy asks about a request, beside access checks
    Gateways,
    /// Tokens with PostgreSQL and Redis
    Replicas,
    /// How long it takes until another replica refuses a revoked token
    Revocations,
    /// How long it takes until the tokens of a revoked signing key are refused
    Keys,
    /// The first use of secrets, and its effect on others
    Secrets,
    /// Idle memory and start time
    Memory,
    /// Memory with many cached credentials
    Warm,
    /// The effect of many revocations, watchers, audit events, tenants, rules and applications
    Growth,
    /// A flood of wrong secrets, and its effect on others
    Attack,
    /// Tokens over TLS beside plaintext, and new handshakes
    Tls,
    /// This build beside the one of --other, in turns
    Builds,
}

/// What grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Growing {
    /// Live revocations: memory and start
    Revocations,
    /// Watchers of revocations: time to the last of them
    Watchers,
    /// Audit events of a tenant: pages of each filter
    Audit,
    /// Tenants: access checks
    Tenants,
    /// Endpoint rules of a tenant: access checks
    Endpoints,
    /// Applications of a tenant: tokens, starts and pages of searches
    Applications,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Part {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tokens => "tokens",
            Self::Assertions => "assertions",
            Self::Http => "http",
            Self::Checks => "checks",
            Self::Gateways => "gateways",
            Self::Replicas => "replicas",
            Self::Revocations => "revocations",
            Self::Keys => "keys",
            Self::Secrets => "secrets",
            Self::Memory => "memory",
            Self::Warm => "warm",
            Self::Growth => "growth",
            Self::Attack => "attack",
            Self::Tls => "tls",
            Self::Builds => "builds",
        }
    }
}

impl Settings {
    /// The selected parts.
    pub(crate) fn parts(&self) -> Vec<Part> {
        let asked = |part: &Part| {
            let unasked = *part != Part::Builds || self.other.is_some();
            self.parts.contains(part) || self.parts.is_empty() && unasked
        };
        Part::value_variants().iter().copied().filter(asked).collect()
    }

    /// What grows in the part `growth`.
    pub(crate) fn growing(&self) -> Vec<Growing> {
        let all = Growing::value_variants();
        if self.growing.is_empty() { all.to_vec() } else { self.growing.clone() }
    }

    /// The number of rounds of a comparison.
    pub(crate) fn rounds(&self) -> RangeInclusive<u32> {
        1..=self.rounds
    }

    /// The duration of each measurement.
    pub(crate) fn measured(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }
}

/// Tokens live a quarter of an hour, which is longer than a part.
fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "must be a number".to_owned())?;
    let fits = (0.1..=5.0).contains(&seconds);
    fits.then_some(seconds).ok_or_else(|| "must be 0.1 to 5".to_owned())
}
