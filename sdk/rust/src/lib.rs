//! Client and worker library, over the binary protocol, on tokio.
//!
//! In: messages, questions and commands of a program; tasks for a worker.  Out: receipts, documents, results.
//! May touch: `wire`, `model`. Never: the server's rooms.
//!
//! A [`Client`] submits messages, asks and commands. A [`worker`] runs tasks. A [`RawConnection`] is for those who measure.
//!
//! ```no_run
//! use distric_sdk::{Client, ClientOptions, Submission};
//!
//! # async fn example() -> Result<(), distric_sdk::Error> {
//! let client = Client::connect(ClientOptions::new(["127.0.0.1:7400"])).await?;
//! let order = Submission::new(r#"{"order_id":"o-1","total":12.5}"#).event_type("order.created").idempotency_key("o-1");
//! let receipt = client.submit(order).await?;
//! println!("{}: started {:?}", receipt.message_id, receipt.workflows);
//! if let Some(instance) = receipt.instances.first() {
//!     let mut events = client.subscribe_instance(*instance).await?;
//!     while let Some(event) = events.next().await {
//!         println!("{}", event?.kind);
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A worker that offers one type of task:
//!
//! ```no_run
//! use distric_sdk::worker::{TaskFailure, WorkerBuilder, WorkerOptions};
//! use serde_json::json;
//!
//! # async fn example() -> Result<(), distric_sdk::Error> {
//! WorkerBuilder::new(["127.0.0.1:7400"], WorkerOptions::default())
//!     .task("greet", async |_context, input| match input["name"].as_str() {
//!         Some(name) => Ok(json!({ "greeting": format!("hello, {name}") })),
//!         None => Err(TaskFailure::permanent("no_name", "the input has no member `name`")),
//!     })
//!     .run(std::future::pending())
//!     .await
//! # }
//! ```

mod backoff;
mod client;
mod dial;
mod error;
mod frames;
mod job;
mod keys;
mod link;
mod options;
mod pending;
mod pipeline;
mod raw;
mod request;
mod stage;
mod stream;
mod submission;

pub mod worker;

pub use backoff::BackoffOptions;
pub use client::Client;
pub use dial::Welcome;
pub use distric_wire::Code;
pub use distric_wire::client::{CommandKind, QueryKind};
pub use error::{ConnectionError, Error, ProtocolError, Rejection};
pub use job::Event;
pub use options::{
    ClientOptions, LARGE_REQUEST_BYTES, LARGE_REQUESTS_BYTES_MAX, LEADER_LINKS_MAX, QUEUE_DEPTH_MAX, RetryOptions, SUBSCRIPTIONS_MAX,
};
pub use raw::{RawConnection, RawReader, RawWriter};
pub use request::{Command, Query, Reply};
pub use stream::{EVENTS_QUEUED_MAX, EventStream};
pub use submission::{Outcome, Receipt, Submission};
