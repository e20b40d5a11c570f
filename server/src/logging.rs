//! Log lines on stderr: one JSON object each, or plain text.
//!
//! `ts` (RFC 3339, microseconds, UTC), `level`, `component`, `msg`, `node`, then the event's own fields. Lines are formatted by
//! the thread that logs and written by a thread of their own: a slow reader of stderr never stalls a shard. When the
//! writer falls behind, lines are dropped and counted, and the count is a line of its own.

use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};

use distric_core::config::{LogConfig, LogFormat, LogLevel};
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

/// Lines that may wait for the writer.
const LINES_WAITING_MAX: usize = 8_192;
/// Longest text of one field, bytes; the rest is cut off.
const FIELD_BYTES_MAX: usize = 4_096;

/// Keeps the writer alive; dropping it writes what is waiting.
pub struct LogWriter {
    lines: Option<SyncSender<String>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        if let Some(lines) = self.lines.take() {
            // The subscriber is global and keeps its sender: an empty line is the sign to finish.
            if lines.send(String::new()).is_ok()
                && let Some(thread) = self.thread.take()
            {
                let _ = thread.join();
            }
        }
    }
}

/// Installs the log output of this process. `node` is the name in every line.
///
/// Returns `None` when a subscriber is installed already; then nothing changes.
pub fn install(config: &LogConfig, node: &str) -> Option<LogWriter> {
    let (lines, waiting) = sync_channel(LINES_WAITING_MAX);
    let dropped = Arc::new(AtomicU64::new(0));
    let layer = LineLayer {
        level_max: level_of(config.level),
        format: config.format,
        node: node.to_owned(),
        lines: lines.clone(),
        dropped: Arc::clone(&dropped),
    };
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer)).ok()?;
    let thread = thread::Builder::new().name("log".to_owned()).spawn(move || write_lines(&waiting, &dropped)).ok()?;
    Some(LogWriter { lines: Some(lines), thread: Some(thread) })
}

fn level_of(level: LogLevel) -> Level {
    match level {
        LogLevel::Error => Level::ERROR,
        LogLevel::Warn => Level::WARN,
        LogLevel::Info => Level::INFO,
        LogLevel::Debug => Level::DEBUG,
        LogLevel::Trace => Level::TRACE,
    }
}

fn write_lines(waiting: &Receiver<String>, dropped: &AtomicU64) {
    let mut stderr = std::io::stderr();
    while let Ok(line) = waiting.recv() {
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let _ = writeln!(
                stderr,
                "{{\"level\":\"warn\",\"component\":\"log\",\"msg\":\"log lines dropped\",\"lines_dropped_count\":{lost}}}"
            );
        }
        if line.is_empty() {
            break;
        }
        // Nowhere is left to report that stderr cannot be written to.
        let _ = stderr.write_all(line.as_bytes());
    }
}

struct LineLayer {
    level_max: Level,
    format: LogFormat,
    node: String,
    lines: SyncSender<String>,
    dropped: Arc<AtomicU64>,
}

/// Whether an event is the project's own, or that of a `log` task; not a library's.
fn is_ours(target: &str) -> bool {
    target.starts_with("distric") || target.starts_with("task.")
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for LineLayer {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        // Libraries below the project speak only when something is wrong.
        *metadata.level() <= if is_ours(metadata.target()) { self.level_max } else { self.level_max.min(Level::WARN) }
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let metadata = event.metadata();
        let line = match self.format {
            LogFormat::Json => json_line(&self.node, metadata.level(), metadata.target(), fields),
            LogFormat::Text => text_line(metadata.level(), metadata.target(), fields),
        };
        if let Err(TrySendError::Full(_)) = self.lines.try_send(line) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn timestamp() -> String {
    let now = jiff::Timestamp::now();
    format!("{now:.6}")
}

/// `distric_core::reactor::shard` is the component `core.reactor.shard`.
fn component(target: &str) -> String {
    target.strip_prefix("distric_").unwrap_or(target).replace("::", ".")
}

fn level_name(level: &Level) -> &'static str {
    match *level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

fn json_line(node: &str, level: &Level, target: &str, fields: Fields) -> String {
    let mut line = String::with_capacity(256);
    let text = |text: &str| Value::from(text).to_string();
    let _ = write!(
        line,
        "{{\"ts\":\"{}\",\"level\":\"{}\",\"component\":{},\"msg\":{},\"node\":{}",
        timestamp(),
        level_name(level),
        text(&component(target)),
        text(&fields.message),
        text(node)
    );
    for (name, value) in fields.others {
        let _ = write!(line, ",{}:{value}", text(&name));
    }
    line.push_str("}\n");
    line
}

fn text_line(level: &Level, target: &str, fields: Fields) -> String {
    let mut line = format!("{} {:5} {}: {}", timestamp(), level_name(level), component(target), fields.message);
    for (name, value) in fields.others {
        let _ = write!(line, " {name}={value}");
    }
    line.push('\n');
    line
}

/// The fields of one event: the message apart, the others by name.
#[derive(Default)]
struct Fields {
    message: String,
    others: Map<String, Value>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            ("message", other) => self.message = other.to_string(),
            (name @ ("ts" | "level" | "component" | "msg" | "node"), value) => {
                // The fixed names come first and once.
                self.others.insert(format!("field_{name}"), value);
            }
            (name, value) => {
                self.others.insert(name.to_owned(), value);
            }
        }
    }
}

fn cut(mut text: String) -> String {
    if text.len() > FIELD_BYTES_MAX {
        let end = (0..=FIELD_BYTES_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, Value::String(cut(format!("{value:?}"))));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, Value::String(cut(value.to_owned())));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.put(field, Value::String(cut(value.to_string())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(message: &str, others: &[(&str, Value)]) -> Fields {
        Fields { message: message.to_owned(), others: others.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect() }
    }

    #[test]
    fn a_json_line_has_the_fixed_members_first_and_parses() {
        let line = json_line(
            "alpha",
            &Level::WARN,
            "distric_core::reactor::shard",
            fields("a \"quoted\"\nword", &[("peer", "x".into()), ("count", 3.into())]),
        );
        assert!(line.starts_with("{\"ts\":\"2") && line.ends_with("}\n") && line.matches('\n').count() == 1, "{line}");
        let value: Value = serde_json::from_str(&line).unwrap();
        assert_eq!((value["level"].as_str(), value["component"].as_str()), (Some("warn"), Some("core.reactor.shard")));
        assert_eq!((value["msg"].as_str(), value["node"].as_str()), (Some("a \"quoted\"\nword"), Some("alpha")));
        assert_eq!((value["peer"].as_str(), value["count"].as_u64()), (Some("x"), Some(3)));
        let ts = value["ts"].as_str().unwrap();
        assert!(ts.len() == "2026-01-01T00:00:00.000000Z".len() && ts.ends_with('Z'), "{ts}");
    }

    /// A target that nobody takes for the project's own would silence what is said under it.
    #[test]
    fn every_target_that_the_sources_name_is_heard() {
        let mut folders = vec![
            std::path::PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../core/src")),
            concat!(env!("CARGO_MANIFEST_DIR"), "/src").into(),
        ];
        let mut named = 0;
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    let text = std::fs::read_to_string(&path).unwrap();
                    for target in text.split("target: \"").skip(1).filter_map(|rest| rest.split('"').next()) {
                        named += 1;
                        assert!(is_ours(target), "{}: {target}", path.display());
                    }
                }
            }
        }
        assert!(named > 20 && !is_ours("hyper::proto") && is_ours("task.log"));
    }

    #[test]
    fn long_fields_are_cut_at_a_character() {
        let text = cut("\u{e9}".repeat(FIELD_BYTES_MAX));
        assert!(text.len() <= FIELD_BYTES_MAX + '…'.len_utf8() && text.ends_with('…'));
    }
}
