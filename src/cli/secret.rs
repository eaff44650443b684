//! Secrets from files and standard input. Other users of the machine can see a command line.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use super::Failure;
use crate::domain::pasted;

const STDIN: &str = "-";

/// Reads a secret from a file, or from standard input for `-`. Trims whitespace.
pub(super) fn read(path: &Path) -> Result<String, Failure> {
    let text = if path.as_os_str() == STDIN {
        io::read_to_string(io::stdin()).map_err(Failure::new)?
    } else {
        let fault = |error| Failure::usage(format!("{}: {error}", path.display()));
        std::fs::read_to_string(path).map_err(fault)?
    };
    let secret = pasted(&text);
    if secret.is_empty() {
        return Err(Failure::usage(format!("{}: there is no secret", path.display())));
    }
    Ok(secret.to_owned())
}

/// A token or API key, from an argument or a file.
#[derive(Debug, Args)]
pub(super) struct Presented {
    /// The token or API key, or - to read it from standard input
    #[arg(required_unless_present = "token_file", conflicts_with = "token_file")]
    token: Option<String>,
    /// A file with the token or API key, or - for standard input
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl Presented {
    pub(super) fn read(&self) -> Result<String, Failure> {
        match (&self.token_file, self.token.as_deref().map_or("", pasted)) {
            (Some(file), _) => read(file),
            (None, STDIN) => read(Path::new(STDIN)),
            (None, "") => Err(Failure::usage("the token is empty")),
            (None, token) => Ok(token.to_owned()),
        }
    }
}

/// Prompts for a line on the terminal.
pub(super) fn ask(what: &str) -> Result<String, Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::usage(format!("there is no {what}, and no terminal to ask on")));
    }
    write!(io::stderr(), "{what}: ").map_err(Failure::new)?;
    let mut line = String::new();
    io::stdin().read_line(&mut line).map_err(Failure::new)?;
    let answer = pasted(&line);
    if answer.is_empty() {
        return Err(Failure::usage(format!("the {what} is empty")));
    }
    Ok(answer.to_owned())
}

/// The same without echo.
pub(super) fn ask_hidden(what: &str) -> Result<String, Failure> {
    let stdin = io::stdin();
    let Ok(before) = tcgetattr(&stdin) else { return ask(what) };
    let mut hidden = before.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    tcsetattr(&stdin, OptionalActions::Flush, &hidden).map_err(Failure::new)?;
    let answer = ask(what);
    tcsetattr(&stdin, OptionalActions::Flush, &before).map_err(Failure::new)?;
    writeln!(io::stderr()).ok();
    answer
}
