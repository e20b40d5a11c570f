//! The databases of a worker, by name, each behind a bounded pool of connections.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime, Timeouts};
use rustls_platform_verifier::BuilderVerifierExt;
use tokio_postgres::Config;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::failures::unreached;
use crate::TaskFailure;
use crate::failure::{self, Code};

/// Most connections to one database from one worker.
pub const CONNECTIONS_PER_DATABASE_MAX: usize = 16;
/// Time to reach a database, and to wait for a free connection, seconds.
const CONNECT_TIMEOUT_S: u64 = 5;

/// Why a worker cannot have a database.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DatabasesError {
    /// The address is none. It is not shown: it may hold a password.
    #[error("database `{name}`: not an address of a database: {reason} (expected postgres://user:password@host/database)")]
    Address {
        /// Which database.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// TLS is not to be had.
    #[error("database `{name}`: TLS is not available on this worker: {reason}")]
    Tls {
        /// Which database.
        name: String,
        /// The library's words.
        reason: String,
    },
}

/// See the module. Cheap to clone; clones share the connections. Connects when first used.
#[derive(Clone, Default)]
pub struct Databases(Arc<BTreeMap<String, Pool>>);

impl fmt::Debug for Databases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Databases {
    /// Databases by name and address, such as `postgres://user:password@host/database?sslmode=require`. Errors: an address that is none.
    pub fn new(addresses: &BTreeMap<String, String>) -> Result<Self, DatabasesError> {
        let pools = addresses.iter().map(|(name, address)| Ok((name.clone(), pool(name, address)?)));
        Ok(Self(Arc::new(pools.collect::<Result<_, _>>()?)))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A connection to this database, sound and free.
    pub(super) async fn get(&self, name: &str) -> Result<Object, TaskFailure> {
        let Some(pool) = self.0.get(name) else {
            let known: Vec<&str> = self.0.keys().map(String::as_str).collect();
            let message = format!("config.connection: this worker has no database `{name}`, it has: {}", known.join(", "));
            // Another worker may have it.
            return Err(failure::passing(Code::BadConfig, message, None));
        };
        pool.get().await.map_err(|error| unreached(name, &error))
    }
}

fn pool(name: &str, address: &str) -> Result<Pool, DatabasesError> {
    let mut config = Config::from_str(address)
        .map_err(|error| DatabasesError::Address { name: name.to_owned(), reason: super::failures::text_of(&error) })?;
    config.connect_timeout(Duration::from_secs(CONNECT_TIMEOUT_S));
    if config.get_application_name().is_none() {
        config.application_name("distric");
    }
    let tls = tls().map_err(|reason| DatabasesError::Tls { name: name.to_owned(), reason })?;
    // A transaction that was cut off leaves its connection with a rollback under way: the check of a recycled one waits for that.
    let manager = Manager::from_config(config, tls, ManagerConfig { recycling_method: RecyclingMethod::Verified });
    let wait = Some(Duration::from_secs(CONNECT_TIMEOUT_S));
    Pool::builder(manager)
        .max_size(CONNECTIONS_PER_DATABASE_MAX)
        .runtime(Runtime::Tokio1)
        .timeouts(Timeouts { wait, create: wait, recycle: wait })
        .build()
        .map_err(|error| DatabasesError::Tls { name: name.to_owned(), reason: error.to_string() })
}

/// TLS with the certificates that this machine trusts; whether it is used is up to the address' `sslmode`.
fn tls() -> Result<MakeRustlsConnect, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?.with_platform_verifier().map_err(|error| error.to_string())?;
    Ok(MakeRustlsConnect::new(builder.with_no_client_auth()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_none_is_refused_without_being_shown() {
        let addresses = BTreeMap::from([("billing".to_owned(), "postgres://u:s3cret@h:notaport/db".to_owned())]);
        let said = Databases::new(&addresses).unwrap_err().to_string();
        assert!(said.contains("`billing`") && said.contains("expected postgres://") && !said.contains("s3cret"), "{said}");
    }

    #[test]
    fn what_is_shown_of_databases_is_their_names() {
        let addresses = BTreeMap::from([("billing".to_owned(), "postgres://u:s3cret@h/db".to_owned())]);
        assert_eq!(format!("{:?}", Databases::new(&addresses).unwrap()), r#"{"billing"}"#);
    }
}
