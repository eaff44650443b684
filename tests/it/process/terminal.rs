//! Commands on a terminal.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::process::{Child, Command};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// A running command and its terminal.
pub(super) struct Terminal {
    child: Child,
    keyboard: File,
    screen: String,
}

impl Terminal {
    /// Starts a command on a terminal with this many columns.
    pub(super) fn start(mut command: Command, columns: u16) -> Self {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let path = ptsname(&ours, Vec::new()).unwrap().into_string().unwrap();
        let theirs = OpenOptions::new().read(true).write(true).open(path).unwrap();
        let size = Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&theirs, size).unwrap();
        command.stdin(theirs.try_clone().unwrap());
        command.stdout(theirs.try_clone().unwrap()).stderr(theirs);
        // Dropping the command closes its side of the terminal, so that a read can see the end.
        let child = command.spawn().unwrap();
        Self { child, keyboard: File::from(ours), screen: String::new() }
    }

    /// Waits until the screen ends with this text.
    pub(super) fn until(&mut self, text: &str) {
        while !self.screen.ends_with(text) {
            assert!(self.read_more(), "{text:?} is not on the screen: {}", self.screen);
        }
    }

    pub(super) fn type_line(&mut self, line: &str) {
        writeln!(self.keyboard, "{line}").unwrap();
    }

    /// Waits for the end. Returns the exit code and the screen.
    pub(super) fn finish(mut self) -> (Option<i32>, String) {
        while self.read_more() {}
        let code = self.child.wait().unwrap().code();
        (code, self.screen.replace("\r\n", "\n"))
    }

    /// Reading fails once the command has ended.
    fn read_more(&mut self) -> bool {
        let mut bytes = [0; 4096];
        let Ok(count @ 1..) = self.keyboard.read(&mut bytes) else { return false };
        self.screen.push_str(&String::from_utf8_lossy(&bytes[..count]));
        true
    }
}
