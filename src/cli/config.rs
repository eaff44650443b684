//! `keyward config`

use clap::Args;
use serde_json::json;

use super::output::{Column, Output, Tabular, listed};
use super::{Failure, ServerOptions};
use crate::config::Setting;

/// Print the effective configuration, with secrets masked, and the source of each setting
///
/// If it is invalid, exits with 2 and lists every error.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  keyward config --config deploy/keyward.toml")]
pub(super) struct ShowConfig {
    #[command(flatten)]
    options: ServerOptions,
    #[command(flatten)]
    output: Output,
}

impl Tabular for Setting {
    const COLUMNS: &'static [Column<Self>] = &[
        listed(1, "setting", |setting| json!(setting.key)),
        listed(2, "value", |setting| json!(setting.value)),
        listed(3, "source", |setting| json!(setting.source)),
    ];
}

impl ShowConfig {
    pub(super) fn run(self) -> Result<(), Failure> {
        self.output.many(&self.options.read()?.settings)
    }
}
