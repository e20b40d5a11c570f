//! The task family, 0x3xxx: what a worker and the leaders of the work groups say to each other, on a connection after Hello.
//!
//! One file per conversation; the tables are those of `docs/protocol.md`.

mod assignment;
mod control;
mod credit;
mod reconcile;
mod session;

pub use assignment::{Assignment, ResultAck, ResultOutcome, TaskResult, Verdict};
pub use control::{CancelTask, Drain};
pub use credit::{Backlog, Credit, CreditReturned};
pub use reconcile::{Reconcile, ReconcileReply, TaskRef};
pub use session::{Status, WorkerHello, WorkerWelcome};
