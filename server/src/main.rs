//! The distric binary.

fn main() -> std::process::ExitCode {
    distric_server::run()
}
