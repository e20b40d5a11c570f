//! Which programs a worker runs, and whether a shell: one file, named by `worker.programs`. Nothing is granted that it does not say.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use distric_plugins_host::{Isolation, Limits, ProgramSpec, Spec};
use distric_rules::Problems;
use distric_rules::document::{Cursor, Members, parse_document};

use super::{PROGRAMS_MAX, ProgramsError};
use crate::plugins::settings::{
    AT_ONCE_MAX, count, paths, read_durations, read_flags, read_isolation, read_numbers, read_variables, text_of,
};

const MEMBERS: &[&str] = &["programs", "shell"];
const PROGRAM: &[&str] = &["path", "args", "isolation", "limits", "grants"];
const SHELL: &[&str] = &["isolation", "limits", "grants"];
const LIMITS: &[&str] = &["memory_mb", "cpu_s", "files", "file_mb", "output_bytes", "timeout", "start_timeout", "processes", "attempts"];
const GRANTS: &[&str] = &["read", "write", "network", "threads", "environment"];

/// The shell of `shell` tasks.
const SHELL_PATH: &str = "/bin/sh";
/// What a script may run beside the shell itself.
const SHELL_RUNS: [&str; 2] = ["/bin", "/usr/bin"];
/// Most processes of one attempt that has no limit of its own.
const PROCESSES_DEFAULT: usize = 16;
/// Most processes that a limit may allow.
const PROCESSES_MAX: i64 = 4_096;
/// Most arguments that come before those of a task.
const ARGS_MAX: usize = 256;
/// Longest name of a program, bytes.
const NAME_BYTES_MAX: usize = 128;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProgramSettings {
    /// What `exec` runs, by name.
    pub programs: BTreeMap<String, ProgramSpec>,
    /// How `shell` runs scripts, where it may.
    pub shell: Option<ProgramSpec>,
}

impl ProgramSettings {
    /// Reads a file. Variables that are granted are taken from the environment of this process.
    ///
    /// Errors: [`ProgramsError::Read`] and [`ProgramsError::Settings`].
    pub fn of(path: &Path) -> Result<Self, ProgramsError> {
        let read = |source| ProgramsError::Read { path: path.to_owned(), source };
        let text = text_of(path).map_err(read)?;
        Self::parse(&path.display().to_string(), &text, |name| std::env::var(name).ok())
            .map_err(|problems| ProgramsError::Settings { path: path.to_owned(), problems: problems.into_sorted() })
    }

    /// Reads settings. `variable` gives the value of a variable of the environment. Errors: everything that is wrong, with its place.
    pub fn parse(file: &str, text: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Self, Problems> {
        let mut problems = Problems::new(file);
        let mut settings = Self::default();
        match parse_document(file, text) {
            Ok(document) => settings.read(&Cursor::root(&document.root), &variable, &mut problems),
            Err(problem) => problems.push(problem),
        }
        if problems.has_errors() { Err(problems) } else { Ok(settings) }
    }

    fn read(&mut self, root: &Cursor<'_>, variable: &dyn Fn(&str) -> Option<String>, problems: &mut Problems) {
        let Some(members) = root.map(problems, MEMBERS) else { return };
        let programs = members.get("programs").and_then(|programs| programs.any_map(problems));
        for (key, program) in programs.iter().flat_map(Members::iter) {
            let name = key.text.as_str();
            let is_name =
                (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
            if !is_name {
                let expected = format!("1 to {NAME_BYTES_MAX} of a-z A-Z 0-9 _ . -");
                problems.error(key.at, &program.path, format!("{name:?} is not the name of a program"), Some(&expected));
            }
            if let Some(spec) = read_program(&program, variable, problems) {
                self.programs.insert(name.to_owned(), spec);
            }
        }
        if let Some(programs) = programs
            && self.programs.len() > PROGRAMS_MAX
        {
            problems.error(programs.at(), programs.path(), format!("more programs than {PROGRAMS_MAX}"), None);
        }
        self.shell = members.get("shell").and_then(|shell| {
            let members = shell.map(problems, SHELL)?;
            let mut spec = blank(SHELL_PATH.into());
            spec.arguments = vec!["-c".to_owned()];
            spec.runs = SHELL_RUNS.map(PathBuf::from).to_vec();
            read_common(&mut spec, &members, variable, problems);
            Some(spec)
        });
    }
}

fn blank(path: PathBuf) -> ProgramSpec {
    let spec = Spec { path, isolation_required: Isolation::Process, ..Spec::default() };
    ProgramSpec { spec, processes: PROCESSES_DEFAULT, ..ProgramSpec::default() }
}

fn read_program(program: &Cursor<'_>, variable: &dyn Fn(&str) -> Option<String>, problems: &mut Problems) -> Option<ProgramSpec> {
    let members = program.map(problems, PROGRAM)?;
    let place = members.required(problems, "path")?;
    let path = PathBuf::from(place.string_or(problems, "the path of a program")?);
    if !path.is_absolute() {
        place.error(problems, format!("{} is not absolute", path.display()), Some("a path that begins with /"));
    } else if !path.is_file() {
        place.error(problems, format!("{} is no file", path.display()), Some("a program that is there when the worker starts"));
    }
    let mut spec = blank(path);
    let args = members.get("args").and_then(|args| args.list(problems)).unwrap_or_default();
    if let Some(beyond) = args.get(ARGS_MAX) {
        beyond.error(problems, format!("more arguments than {ARGS_MAX}"), None);
    }
    for arg in args {
        let Some(text) = arg.string(problems) else { continue };
        if text.contains('\0') {
            arg.error(problems, "the text has a NUL", None);
        }
        spec.arguments.push(text.to_owned());
    }
    read_common(&mut spec, &members, variable, problems);
    Some(spec)
}

fn read_common(program: &mut ProgramSpec, members: &Members<'_>, variable: &dyn Fn(&str) -> Option<String>, problems: &mut Problems) {
    let spec = &mut program.spec;
    if let Some(level) = read_isolation(members.get("isolation"), problems) {
        spec.isolation_required = level;
    }
    if let Some(limits) = members.get("limits").and_then(|value| value.map(problems, LIMITS)) {
        read_limits(&mut spec.limits, &mut program.processes, &limits, problems);
    }
    if let Some(grants) = members.get("grants").and_then(|value| value.map(problems, GRANTS)) {
        spec.grants.read = paths(grants.get("read"), problems);
        spec.grants.write = paths(grants.get("write"), problems);
        read_flags(&mut spec.grants, &grants, problems);
        spec.grants.secrets = read_variables(grants.get("environment"), variable, problems);
    }
}

fn read_limits(limits: &mut Limits, processes: &mut usize, members: &Members<'_>, problems: &mut Problems) {
    read_numbers(limits, members, problems);
    count(members, "processes", PROCESSES_MAX, processes, problems);
    count(members, "attempts", AT_ONCE_MAX, &mut limits.processes, problems);
    read_durations(limits, members, problems);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ProgramSettings, String> {
        let variable = |name: &str| (name == "KEY").then(|| "value".to_owned());
        ProgramSettings::parse("p.yaml", text, variable)
            .map_err(|problems| problems.into_sorted().iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    }

    #[test]
    fn everything_can_be_decided() {
        let text = "programs:\n  show: { path: /bin/cat, args: [-n], isolation: full, limits: { memory_mb: 128, timeout: 5s, processes: 1, attempts: 2 }, \
                    grants: { read: [/], network: true, threads: true, environment: [KEY] } }\nshell: { limits: { cpu_s: 5 } }\n";
        let settings = parse(text).unwrap();
        let show = &settings.programs["show"];
        assert_eq!(
            (show.spec.path.as_path(), show.arguments.as_slice(), show.processes),
            (Path::new("/bin/cat"), ["-n".to_owned()].as_slice(), 1)
        );
        let limits = &show.spec.limits;
        assert_eq!((limits.memory_bytes, limits.timeout_ms, limits.processes), (128 << 20, 5_000, 2));
        assert_eq!((show.spec.grants.network, show.spec.grants.threads, show.runs.len()), (true, true, 0));
        assert_eq!((show.spec.grants.secrets["KEY"].as_str(), show.spec.isolation_required), ("value", Isolation::Full));
        let shell = settings.shell.unwrap();
        assert_eq!(
            (shell.arguments.as_slice(), shell.spec.limits.cpu_s, shell.processes),
            (["-c".to_owned()].as_slice(), 5, PROCESSES_DEFAULT)
        );
        assert!(shell.spec.grants == distric_plugins_host::Grants::default() && shell.runs.len() == 2);
    }

    #[test]
    fn nothing_is_there_unless_it_is_written() {
        assert_eq!(parse("{}").unwrap(), ProgramSettings::default());
        assert!(parse("programs: {}\n").unwrap().shell.is_none());
        assert!(parse("shell: {}\n").unwrap().programs.is_empty());
    }

    #[test]
    fn mistakes_have_a_place() {
        for (text, part) in [
            ("program: {}\n", "p.yaml:1:1"),
            ("programs: { a: {} }\n", "`path` is missing"),
            ("programs: { a: { path: cat } }\n", "not absolute"),
            ("programs: { a: { path: /no/such/program } }\n", "programs.a.path: /no/such/program is no file"),
            ("programs: { a/b: { path: /bin/cat } }\n", "not the name of a program"),
            ("programs: { a: { path: /bin/cat, limits: { processes: 0 } } }\n", "processes"),
            ("programs: { a: { path: /bin/cat, limits: { calls_per_process: 1 } } }\n", "unknown key"),
            ("shell: { path: /bin/bash }\n", "unknown key `path`"),
            ("shell: { isolation: none }\n", "one of process, syscalls, full"),
            ("shell: { grants: { environment: [OTHER] } }\n", "no variable `OTHER`"),
            ("shell: true\n", "a map"),
        ] {
            let said = parse(text).unwrap_err();
            assert!(said.contains(part), "{text}: {said}");
        }
    }
}
