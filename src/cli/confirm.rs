//! The confirmation before an action that cannot be undone.

use std::io::{self, BufRead, IsTerminal, Write};

use clap::Args;

use super::Failure;

#[derive(Debug, Args)]
pub(super) struct Confirm {
    /// Do not ask before what cannot be undone; needed where there is no terminal
    #[arg(long, short = 'y')]
    yes: bool,
}

impl Confirm {
    /// Asks the user. Fails without a terminal.
    pub(super) fn ask(&self, question: &str) -> Result<(), Failure> {
        if self.yes {
            return Ok(());
        }
        if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
            return Err(Failure::usage(format!(
                "{question} This cannot be undone: there is no terminal to ask on, so confirm it \
                 with --yes"
            )));
        }
        write!(io::stderr(), "{question} This cannot be undone. [y/N] ").map_err(Failure::new)?;
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer).map_err(Failure::new)?;
        match answer.trim().to_ascii_lowercase().as_str() {
            "y" | "yes" => Ok(()),
            _ => Err(Failure::new("not confirmed: nothing was changed")),
        }
    }
}
