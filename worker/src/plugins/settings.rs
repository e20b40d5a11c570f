//! What is decided about one plugin: the file `NAME.yaml` beside `NAME.so`. Without one, the defaults hold and nothing is granted.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use distric_plugins_host::{Grants, Isolation, Limits, Spec};
use distric_rules::Problems;
use distric_rules::document::{Cursor, Members, parse_document};
use distric_rules::parse_duration_ms;

use super::{PluginsError, SETTINGS_BYTES_MAX};

const MEMBERS: &[&str] = &["config", "in_process", "isolation", "limits", "grants"];
const LIMITS: &[&str] =
    &["memory_mb", "cpu_s", "files", "file_mb", "output_bytes", "timeout", "start_timeout", "processes", "calls_per_process"];
/// Most attempts at one time that a limit may allow.
pub(crate) const AT_ONCE_MAX: i64 = 1_024;
const GRANTS: &[&str] = &["read", "write", "network", "threads", "secrets"];
const LEVELS: &[&str] = &["process", "syscalls", "full"];

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The plugin's own config, JSON.
    pub config_json: String,
    /// It is trusted to run in the worker's process.
    pub in_process: bool,
    /// The weakest isolation with which it may run.
    pub isolation: Isolation,
    /// What it may use up.
    pub limits: Limits,
    /// What it may do.
    pub grants: Grants,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            config_json: "{}".to_owned(),
            in_process: false,
            isolation: Isolation::Process,
            limits: Limits::default(),
            grants: Grants::default(),
        }
    }
}

impl Settings {
    /// Reads the file beside a library. Secrets are taken from the environment of this process.
    ///
    /// Errors: [`PluginsError::Read`] and [`PluginsError::Settings`]; a missing file is none.
    pub fn beside(library: &Path) -> Result<Self, PluginsError> {
        let path = library.with_extension("yaml");
        let read = |source| PluginsError::Read { path: path.clone(), source };
        let text = match text_of(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            text => text.map_err(read)?,
        };
        Self::parse(&path.display().to_string(), &text, |name| std::env::var(name).ok())
            .map_err(|problems| PluginsError::Settings { path: path.clone(), problems: problems.into_sorted() })
    }

    /// Reads settings. `secret` gives the value of a secret by its name. Errors: everything that is wrong, with its place.
    pub fn parse(file: &str, text: &str, secret: impl Fn(&str) -> Option<String>) -> Result<Self, Problems> {
        let mut problems = Problems::new(file);
        let mut settings = Self::default();
        match parse_document(file, text) {
            Ok(document) => settings.read(&Cursor::root(&document.root), &secret, &mut problems),
            Err(problem) => problems.push(problem),
        }
        if problems.has_errors() { Err(problems) } else { Ok(settings) }
    }

    fn read(&mut self, root: &Cursor<'_>, secret: &dyn Fn(&str) -> Option<String>, problems: &mut Problems) {
        let Some(members) = root.map(problems, MEMBERS) else { return };
        if let Some(config) = members.get("config") {
            self.config_json = config.node.to_json().to_string();
        }
        if let Some(in_process) = members.get("in_process").and_then(|value| value.bool(problems)) {
            self.in_process = in_process;
        }
        if let Some(level) = read_isolation(members.get("isolation"), problems) {
            self.isolation = level;
        }
        if let Some(limits) = members.get("limits").and_then(|value| value.map(problems, LIMITS)) {
            read_limits(&mut self.limits, &limits, problems);
        }
        if let Some(grants) = members.get("grants").and_then(|value| value.map(problems, GRANTS)) {
            read_grants(&mut self.grants, &grants, secret, problems);
        }
    }

    /// The whole decision about a library, with what this worker requires.
    pub fn spec(&self, library: &Path, required: Isolation) -> Spec {
        Spec {
            path: library.to_owned(),
            config_json: self.config_json.clone(),
            limits: self.limits.clone(),
            grants: self.grants.clone(),
            isolation_required: self.isolation.max(required),
        }
    }
}

/// The text of a file of settings. Errors: as when a file is read, and one of more than [`SETTINGS_BYTES_MAX`].
pub(crate) fn text_of(path: &Path) -> io::Result<String> {
    let bytes = fs::metadata(path)?.len();
    if bytes > SETTINGS_BYTES_MAX {
        let words = format!("it has {bytes} bytes, at most {SETTINGS_BYTES_MAX}");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, words));
    }
    fs::read_to_string(path)
}

/// Reads the weakest isolation with which something may run.
pub(crate) fn read_isolation(value: Option<Cursor<'_>>, problems: &mut Problems) -> Option<Isolation> {
    let word = value?.word(problems, LEVELS)?;
    Some(Isolation::of_name(LEVELS[word]).expect("the words are names of levels"))
}

fn read_limits(limits: &mut Limits, members: &Members<'_>, problems: &mut Problems) {
    read_numbers(limits, members, problems);
    count(members, "processes", AT_ONCE_MAX, &mut limits.processes, problems);
    number(members, "calls_per_process", 1, i64::MAX, 1, &mut limits.calls_per_process, problems);
    read_durations(limits, members, problems);
}

/// Reads the limits that plugins and programs have alike.
pub(crate) fn read_numbers(limits: &mut Limits, members: &Members<'_>, problems: &mut Problems) {
    let mut output_bytes = limits.output_bytes as u64;
    number(members, "memory_mb", 64, 1 << 20, 1 << 20, &mut limits.memory_bytes, problems);
    number(members, "cpu_s", 1, 86_400, 1, &mut limits.cpu_s, problems);
    number(members, "files", 8, 65_536, 1, &mut limits.files, problems);
    number(members, "file_mb", 0, 1 << 20, 1 << 20, &mut limits.file_bytes, problems);
    number(members, "output_bytes", 1, Limits::default().output_bytes as i64, 1, &mut output_bytes, problems);
    limits.output_bytes = output_bytes as usize;
}

fn number(members: &Members<'_>, key: &str, min: i64, max: i64, unit: u64, into: &mut u64, problems: &mut Problems) {
    if let Some(value) = members.get(key).and_then(|value| value.integer(problems, min, max)) {
        *into = value.unsigned_abs() * unit;
    }
}

/// Reads how many there may be.
pub(crate) fn count(members: &Members<'_>, key: &str, max: i64, into: &mut usize, problems: &mut Problems) {
    let mut counted = *into as u64;
    number(members, key, 1, max, 1, &mut counted, problems);
    *into = counted as usize;
}

/// Reads how long an attempt and a start may take.
pub(crate) fn read_durations(limits: &mut Limits, members: &Members<'_>, problems: &mut Problems) {
    for (key, into) in [("timeout", &mut limits.timeout_ms), ("start_timeout", &mut limits.start_timeout_ms)] {
        let Some(value) = members.get(key) else { continue };
        match parse_duration_ms(value.node) {
            Ok(ms) if ms > 0 => *into = ms,
            Ok(_) => value.error(problems, "must be more than zero", None),
            Err(problem) => value.error(problems, problem.to_string(), Some("a duration such as 30s")),
        }
    }
}

fn read_grants(grants: &mut Grants, members: &Members<'_>, secret: &dyn Fn(&str) -> Option<String>, problems: &mut Problems) {
    grants.read = paths(members.get("read"), problems);
    grants.write = paths(members.get("write"), problems);
    read_flags(grants, members, problems);
    grants.secrets = read_variables(members.get("secrets"), secret, problems);
}

/// Reads the grants that are there or not.
pub(crate) fn read_flags(grants: &mut Grants, members: &Members<'_>, problems: &mut Problems) {
    for (key, into) in [("network", &mut grants.network), ("threads", &mut grants.threads)] {
        if let Some(value) = members.get(key).and_then(|value| value.bool(problems)) {
            *into = value;
        }
    }
}

/// Reads a list of variables of the worker's environment, and takes their values.
pub(crate) fn read_variables(
    list: Option<Cursor<'_>>,
    variable: &dyn Fn(&str) -> Option<String>,
    problems: &mut Problems,
) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    for item in list.and_then(|list| list.list(problems)).unwrap_or_default() {
        let Some(name) = item.string_or(problems, "the name of an environment variable of the worker") else { continue };
        match variable(name) {
            Some(value) => drop(variables.insert(name.to_owned(), value)),
            None => item.error(problems, format!("the worker's environment has no variable `{name}`"), None),
        }
    }
    variables
}

/// Reads a list of paths, absolute and there.
pub(crate) fn paths(list: Option<Cursor<'_>>, problems: &mut Problems) -> Vec<PathBuf> {
    let items = list.and_then(|list| list.list(problems)).unwrap_or_default();
    let mut paths = Vec::new();
    for item in items {
        let Some(text) = item.string_or(problems, "a path") else { continue };
        let path = Path::new(text);
        if !path.is_absolute() {
            item.error(problems, format!("{text} is not absolute"), Some("a path that begins with /"));
        } else if !path.exists() {
            item.error(problems, format!("{text} does not exist"), Some("a file or directory that exists when the worker starts"));
        } else {
            paths.push(path.to_owned());
        }
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Settings, String> {
        let secret = |name: &str| (name == "KEY").then(|| "value".to_owned());
        Settings::parse("p.yaml", text, secret)
            .map_err(|problems| problems.into_sorted().iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    }

    #[test]
    fn everything_can_be_decided() {
        let text = "config: { model: small }\nisolation: full\nlimits: { memory_mb: 128, timeout: 5s, processes: 2 }\n\
                    grants: { read: [/], network: true, secrets: [KEY] }\n";
        let settings = parse(text).unwrap();
        assert_eq!(settings.config_json, r#"{"model":"small"}"#);
        assert_eq!((settings.limits.memory_bytes, settings.limits.timeout_ms, settings.limits.processes), (128 << 20, 5_000, 2));
        assert_eq!((settings.grants.read.len(), settings.grants.network, settings.grants.threads), (1, true, false));
        assert_eq!(settings.grants.secrets["KEY"], "value");
        assert_eq!(settings.spec(Path::new("/a.so"), Isolation::Process).isolation_required, Isolation::Full);
        assert_eq!(Settings::default().spec(Path::new("/a.so"), Isolation::Syscalls).isolation_required, Isolation::Syscalls);
    }

    #[test]
    fn mistakes_have_a_place() {
        for (text, part) in [
            ("isolated: full\n", "p.yaml:1:1"),
            ("isolation: none\n", "one of process, syscalls, full"),
            ("limits: { memory_mb: 1 }\n", "64"),
            ("limits: { timeout: soon }\n", "limits.timeout"),
            ("limits: { timeout: 0 }\n", "more than zero"),
            ("grants: { read: [data] }\n", "not absolute"),
            ("grants: { write: [/no/such/place] }\n", "does not exist"),
            ("grants: { secrets: [OTHER] }\n", "no variable `OTHER`"),
            ("grants: { network: 1 }\n", "true or false"),
        ] {
            let said = parse(text).unwrap_err();
            assert!(said.contains(part), "{text}: {said}");
        }
    }
}
