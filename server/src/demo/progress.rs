//! Showing that something happens: a bar on a terminal, a line now and then elsewhere, nothing with `--json`.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::Output;

/// Between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(2);

/// Progress of one phase.
pub struct Progress {
    bar: Option<ProgressBar>,
    lines: bool,
    what: &'static str,
    total: u64,
    said_at: Instant,
}

impl Progress {
    /// A phase of `total` steps.
    pub fn new(output: Output, what: &'static str, total: u64) -> Self {
        let terminal = output.color && std::io::stderr().is_terminal();
        let bar = terminal.then(|| {
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
            let style =
                ProgressStyle::with_template("{msg:24} [{bar:32}] {pos}/{len} {elapsed_precise}").expect("the template is constant");
            bar.set_style(style.progress_chars("=> "));
            bar.set_message(what);
            bar
        });
        Self { lines: bar.is_none() && !output.json, bar, what, total, said_at: Instant::now() }
    }

    /// So many steps are done.
    pub fn at(&mut self, done: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(done.min(self.total));
        } else if self.lines && self.said_at.elapsed() >= LINE_EVERY {
            self.said_at = Instant::now();
            eprintln!("{}: {done}/{}", self.what, self.total);
        }
    }

    /// The phase is over.
    pub fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}
