//! The child of a worker in which one plugin runs, as a program of its own; `distric` has the same as a hidden verb.

fn main() -> std::process::ExitCode {
    distric_plugins_host::child::run()
}
