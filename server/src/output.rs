//! What a person or a script sees on stdout and stderr.

use std::io::{self, IsTerminal, Write};

use serde_json::Value;

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Output {
    /// JSON for scripts instead of text for people.
    pub json: bool,
    /// Colours and movement: stdout is a terminal and `NO_COLOR` is not set.
    pub color: bool,
}

impl Output {
    /// Decides from the flag, the terminal and `NO_COLOR` (<https://no-color.org>: any non-empty value).
    pub fn new(json: bool) -> Self {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { json, color: !json && !no_color && io::stdout().is_terminal() }
    }

    /// One line of text, or nothing when JSON is wanted.
    pub fn text(&self, line: impl AsRef<str>) {
        if !self.json {
            write_line(line.as_ref());
        }
    }

    /// One JSON document on one line, or nothing when text is wanted.
    pub fn json(&self, value: &Value) {
        if self.json {
            write_line(&value.to_string());
        }
    }

    /// Paints `text` where colours are wanted.
    pub fn paint(&self, paint: Paint, text: &str) -> String {
        let code = match paint {
            Paint::Good => "32",
            Paint::Bad => "31",
            Paint::Dim => "2",
            Paint::Strong => "1",
        };
        if self.color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// What a colour means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    /// Succeeded.
    Good,
    /// Failed.
    Bad,
    /// Less important.
    Dim,
    /// A heading.
    Strong,
}

/// Prints to stdout; a reader that went away (`| head`) ends the line, not the program.
pub fn write_line(line: &str) {
    let mut stdout = io::stdout().lock();
    if writeln!(stdout, "{line}").and_then(|()| stdout.flush()).is_err() {
        // Nobody reads: there is nobody to tell either.
    }
}

/// The state of a workflow or task, painted by its meaning.
pub fn painted_state(output: &Output, state: &str) -> String {
    let paint = match state {
        "completed" => Paint::Good,
        "failed" | "timed_out" | "cancelled" => Paint::Bad,
        _ => Paint::Dim,
    };
    output.paint(paint, state)
}
