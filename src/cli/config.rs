//! `keyward config`

use clap::Args;
use serde::Serialize;

use super::output::{Format, View};
use super::{Failure, ServerOptions};

/// Print the configuration in force, with secrets masked, and where each setting comes from
///
/// Exits with 2, naming every fault, if it is not valid.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  keyward config --config deploy/keyward.toml")]
pub(super) struct Show {
    #[command(flatten)]
    options: ServerOptions,
    /// How to print it
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
}

#[derive(Serialize)]
struct Row {
    setting: &'static str,
    value: Option<String>,
    source: String,
}

impl View for Row {
    const COLUMNS: &'static [&'static str] = &["setting", "value", "source"];
    const MEMBERS: &'static [&'static str] = Self::COLUMNS;
}

impl Show {
    pub(super) fn run(self) -> Result<(), Failure> {
        let settings = self.options.read()?.settings;
        let rows: Vec<_> = settings
            .into_iter()
            .map(|setting| Row {
                setting: setting.key,
                value: setting.value,
                source: setting.source,
            })
            .collect();
        self.output.many(&rows)
    }
}
