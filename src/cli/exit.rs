//! How a command fails: a sentence for the person, a code for the script.

use std::fmt;
use std::process::ExitCode;

use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::output::note;
use crate::config::Faults;
use crate::server::StartError;

/// A failed command.
#[derive(Debug)]
pub(super) struct Failure {
    code: u8,
    message: String,
}

const FAILED: u8 = 1;
const USAGE: u8 = 2;
const NOT_FOUND: u8 = 3;
const NOT_PERMITTED: u8 = 4;
const UNREACHABLE: u8 = 5;

impl Failure {
    /// Something did not work.
    pub(super) fn new(message: impl fmt::Display) -> Self {
        Self { code: FAILED, message: message.to_string() }
    }

    /// The command was not used as it must be.
    pub(super) fn usage(message: impl fmt::Display) -> Self {
        Self { code: USAGE, message: message.to_string() }
    }

    /// There is nothing that this could be done to.
    pub(super) fn not_found(message: impl fmt::Display) -> Self {
        Self { code: NOT_FOUND, message: message.to_string() }
    }

    /// No server answers.
    pub(super) fn unreachable(message: impl fmt::Display) -> Self {
        Self { code: UNREACHABLE, message: message.to_string() }
    }

    /// Says why the command failed, and gives the code.
    pub(super) fn report(self) -> ExitCode {
        note(&format!("keyward: {}", self.message));
        ExitCode::from(self.code)
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let code = match status.code() {
            Code::NotFound => NOT_FOUND,
            Code::Unauthenticated | Code::PermissionDenied => NOT_PERMITTED,
            Code::Unavailable => UNREACHABLE,
            Code::InvalidArgument => USAGE,
            _ => FAILED,
        };
        let reason = status.get_details_error_info().map(|info| info.reason);
        // What the server calls by its field, the command line has as a flag.
        let words = status.message().replace("`force`", "--force");
        let message = match reason {
            Some(reason) => format!("{words} ({reason})"),
            None => format!("{words} ({})", status.code()),
        };
        Self { code, message }
    }
}

impl From<Faults> for Failure {
    fn from(faults: Faults) -> Self {
        Self::usage(faults)
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        Self::new(error)
    }
}
