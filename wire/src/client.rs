//! The client family, 0x4xxx: what a client and a coordinator say to each other.
//!
//! One file per conversation; the tables are those of `docs/protocol.md`.

mod batch;
mod command;
mod query;
mod rejection;
mod session;
mod submit;
mod subscribe;

pub use batch::{BatchItem, BatchOutcome, BatchResponse, SubmitBatch};
pub use command::{Command, CommandKind};
pub use query::{Query, QueryKind, QueryReply};
pub use rejection::Rejection;
pub use session::{FEATURE_LZ4, GoAway, Hello, Ping, Pong, Welcome};
pub use submit::{CONTENT_TYPE_DEFAULT, Response, Submit, SubmitOutcome};
pub use subscribe::{Event, Subscribe, SubscribeKind};
