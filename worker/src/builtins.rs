//! All built-in types at once, for a worker that wants them.

use distric_sdk::worker::WorkerBuilder;

use crate::clients::{ClientOptions, Clients};
use crate::sql::Databases;
use crate::{http, log, sql, transform, webhook};

/// The names of the types that [`Builtins::register`] offers in any case.
pub const BUILTIN_TYPES: [&str; 4] = ["transform", "log", "http", "webhook"];
/// The names of those that a worker offers if its configuration says so: with a database, with programs, with leave to run a shell.
pub const CONFIGURED_TYPES: [&str; 3] = ["sql", "exec", "shell"];

/// The built-in executors and what they share: the pools of outgoing connections.
///
/// ```no_run
/// use distric_sdk::worker::{WorkerBuilder, WorkerOptions};
/// use distric_worker::Builtins;
///
/// # async fn example() -> Result<(), distric_sdk::Error> {
/// let worker = WorkerBuilder::new(["127.0.0.1:7400"], WorkerOptions::default());
/// Builtins::default().register(worker).run(std::future::pending()).await
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Builtins {
    clients: Clients,
    databases: Databases,
}

impl Builtins {
    /// Executors whose requests introduce themselves by `options`. Opens nothing yet.
    pub fn new(options: ClientOptions) -> Self {
        Self { clients: Clients::new(options), databases: Databases::default() }
    }

    /// With these databases for `sql`.
    pub fn databases(self, databases: Databases) -> Self {
        Self { databases, ..self }
    }

    /// Offers every type of [`BUILTIN_TYPES`] through this worker; all workers of one `Builtins` share its connections.
    pub fn register(&self, worker: WorkerBuilder) -> WorkerBuilder {
        let (for_http, for_webhook) = (self.clients.clone(), self.clients.clone());
        let worker = if self.databases.is_empty() {
            worker
        } else {
            let databases = self.databases.clone();
            worker.task("sql", move |context, _| {
                let databases = databases.clone();
                async move { sql::run(&databases, &context).await }
            })
        };
        worker
            .task("transform", async |context, input| transform::run(&context, &input).await)
            .task("log", async |context, _| log::run(&context).await)
            .task("http", move |context, _| {
                let clients = for_http.clone();
                async move { http::run(&clients, &context).await }
            })
            .task("webhook", move |context, input| {
                let clients = for_webhook.clone();
                async move { webhook::run(&clients, &context, &input).await }
            })
    }
}

#[cfg(test)]
mod tests {
    use distric_sdk::worker::WorkerOptions;

    use super::*;

    #[test]
    fn every_built_in_type_is_registered() {
        let worker = Builtins::default().register(WorkerBuilder::new(["127.0.0.1:1"], WorkerOptions::default()));
        let shown = format!("{worker:?}");
        for task_type in BUILTIN_TYPES {
            assert!(shown.contains(&format!("{task_type:?}")), "{task_type} is missing from {shown}");
        }
    }
}
