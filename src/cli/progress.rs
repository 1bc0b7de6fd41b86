//! The progress of a long command on stderr: a bar on a terminal, otherwise a line every few seconds.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// The shortest time between two lines about the same step.
const PAUSE: Duration = Duration::from_secs(5);

/// The progress display of one command.
pub(super) struct Progress {
    /// `None` where stderr is no terminal.
    bar: Option<ProgressBar>,
    what: String,
    said: Option<Instant>,
}

impl Progress {
    pub(super) fn new() -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(0);
            let style = "{msg:24} {wide_bar} {human_pos}/{human_len}";
            if let Ok(style) = ProgressStyle::with_template(style) {
                bar.set_style(style);
            }
            bar
        });
        Self {
            bar,
            what: String::new(),
            said: None,
        }
    }

    /// Shows that `done` of `all` items of the step `what` are done.
    pub(super) fn step(&mut self, what: &str, done: u64, all: u64) {
        let is_new = self.what != what;
        if is_new {
            what.clone_into(&mut self.what);
            self.said = None;
        }
        if let Some(bar) = &self.bar {
            if is_new {
                bar.set_message(what.to_owned());
            }
            bar.set_length(all);
            bar.set_position(done);
            return;
        }
        let is_due = self.said.is_none_or(|said| said.elapsed() >= PAUSE);
        if is_due {
            self.said = Some(Instant::now());
            self.say(&format!("{what}: {done} of {all}"));
        }
    }

    /// Writes a line to stderr, above the bar.
    pub(super) fn say(&self, line: &str) {
        let write = || writeln!(io::stderr(), "{line}");
        let written = match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        };
        if written.is_err() {
            // Standard error is closed; the exit code still gives the result.
        }
    }

    /// Removes the bar.
    pub(super) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
