//! What client verbs share: connecting, reading arguments, a small runtime.

use std::future::Future;
use std::io::Read;
use std::path::Path;

use distric_sdk::{Client, ClientOptions};

use crate::cli::ClientArgs;
use crate::exit::{Exit, Failure};
use crate::settings::read_text;

/// Largest argument that is read from a file or stdin, bytes; the node's own limit is below it.
pub const ARGUMENT_BYTES_MAX: u64 = 16 << 20;

/// Runs a verb's asynchronous part on this thread.
pub fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Environment, format!("cannot start the runtime: {error}")))?
        .block_on(work)
}

/// Connects as the flags say.
pub async fn connect(args: &ClientArgs) -> Result<Client, Failure> {
    let addresses: Vec<&str> = args.addr.split(',').map(str::trim).filter(|address| !address.is_empty()).collect();
    if addresses.is_empty() {
        return Err(Failure::new(Exit::Usage, "--addr names no address").with_remedy("--addr 127.0.0.1:7400"));
    }
    let mut options = ClientOptions::new(addresses).name("distric-cli").request_timeout_ms(args.timeout_ms);
    options.connect_timeout_ms = args.timeout_ms.min(options.connect_timeout_ms);
    if let Some(namespace) = &args.namespace {
        distric_model::Namespace::new(namespace).map_err(|error| Failure::new(Exit::Usage, error.to_string()))?;
        options = options.namespace(namespace);
    }
    if let Ok(api_key) = std::env::var("DISTRIC_API_KEY") {
        options = options.api_key(api_key);
    }
    Ok(Client::connect(options).await?)
}

/// The text of an argument: as it is, `@FILE` from a file, `-` from stdin.
pub fn text_or_file(argument: &str) -> Result<String, Failure> {
    if argument == "-" {
        let mut text = String::new();
        let mut stdin = std::io::stdin().lock().take(ARGUMENT_BYTES_MAX);
        stdin.read_to_string(&mut text).map_err(|error| Failure::new(Exit::BadInput, format!("cannot read stdin: {error}")))?;
        return Ok(text);
    }
    match argument.strip_prefix('@') {
        Some(path) => read_text(Path::new(path), ARGUMENT_BYTES_MAX),
        None => Ok(argument.to_owned()),
    }
}

/// The same, and it must be JSON. `what` names it in the error.
pub fn json_or_file(what: &str, argument: &str) -> Result<serde_json::Value, Failure> {
    let text = text_or_file(argument)?;
    serde_json::from_str(&text).map_err(|error| {
        Failure::new(Exit::BadInput, format!("{what} is not JSON: {error}"))
            .with_remedy("quote it for the shell: '{\"amount\": 12.5}', or use @FILE")
    })
}
