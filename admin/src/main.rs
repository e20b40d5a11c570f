//! The distric-admin binary.

fn main() -> std::process::ExitCode {
    distric_admin::run()
}
