//! What the user sees: words on stderr, data on stdout.

use std::fmt;
use std::io::{self, ErrorKind as IoErrorKind, Write};

use anstyle::{AnsiColor, Style};
use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use relprop::{Error, ErrorKind, Result};
use serde::Serialize;

const RED: Style = AnsiColor::Red.on_default().bold();
const YELLOW: Style = AnsiColor::Yellow.on_default().bold();

/// Words on stderr; a console told to be quiet says nothing but errors.
#[derive(Debug, Clone, Copy)]
pub struct Console {
    quiet: bool,
}

impl Console {
    /// A console that speaks unless `quiet`.
    pub fn new(quiet: bool) -> Self {
        Console { quiet }
    }

    /// Something the user should know.
    pub fn note(self, text: &str) {
        if !self.quiet {
            to_stderr(&format!("{YELLOW}note:{YELLOW:#} {text}"));
        }
    }

    /// What was done.
    pub fn done(self, text: &str) {
        if !self.quiet {
            to_stderr(text);
        }
    }

    /// A bar over `samples` samples. It is drawn on a terminal only.
    pub fn progress(self, samples: usize) -> ProgressBar {
        if self.quiet {
            return ProgressBar::hidden();
        }
        let style =
            ProgressStyle::with_template("{bar:40} {human_pos}/{human_len} samples, {rate} samples/s, {eta} left");
        let bar = ProgressBar::new(samples as u64);
        let rate = |state: &ProgressState, out: &mut dyn fmt::Write| {
            let _ = out.write_str(&rate_of(state.per_sec()));
        };
        match style {
            Ok(style) => bar.with_style(style.with_key("rate", rate)),
            Err(_) => bar,
        }
    }

    /// A line that says what is being done, on a terminal only.
    pub fn activity(self) -> ProgressBar {
        if self.quiet { ProgressBar::hidden() } else { ProgressBar::new_spinner() }
    }
}

/// An error with its node and advice.
pub fn report_error(error: &Error) {
    to_stderr(&format!("{RED}error:{RED:#} {error}"));
}

/// A closed stderr must not turn words into a failure.
fn to_stderr(text: &str) {
    let _ = writeln!(anstream::stderr().lock(), "{text}");
}

/// Data on stdout. A reader that stops early, as `head` does, is no error.
///
/// # Errors
/// [`ErrorKind::Io`] where stdout cannot be written to, for example on a full disk.
pub fn to_stdout(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == IoErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(Error::new(ErrorKind::Io, format!("stdout cannot be written to: {error}"))
            .help("check where it is redirected to")
            .caused_by(error)),
    }
}

/// A value as an indented JSON document for stdout.
///
/// # Errors
/// [`ErrorKind::Internal`] for what has no JSON form; nothing that the program prints is such.
pub fn to_json(value: &impl Serialize) -> Result<String> {
    let json = serde_json::to_string_pretty(value).map_err(|error| {
        Error::new(ErrorKind::Internal, format!("this has no JSON form: {error}"))
            .help("leave --json out, and report this fault in relprop")
            .caused_by(error)
    })?;
    Ok(json + "\n")
}

/// A rate: whole from 100 on, with three digits below.
pub fn rate_of(rate: f64) -> String {
    match rate {
        _ if rate >= 99.95 => thousands(rate.round() as usize),
        _ if rate >= 9.995 => format!("{rate:.1}"),
        _ => format!("{rate:.2}"),
    }
}

/// A number with separators between thousands.
pub fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_have_three_digits_or_are_whole() {
        let texts = [0.34, 9.994, 9.996, 99.94, 99.96, 12_345.6].map(rate_of);
        assert_eq!(texts, ["0.34", "9.99", "10.0", "99.9", "100", "12,346"]);
    }
}
