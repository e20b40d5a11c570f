//! The words that every room shares: ids, limits, time.
//!
//! In: nothing.  Out: types.  May touch: nothing else of the project.
//! No logic lives here beyond construction, printing and parsing of the words themselves.
//! Start reading at [`ids`].

pub mod change;
pub mod ids;
pub mod limits;
pub mod namespace;
pub mod slot;
pub mod time;

pub use change::Change;
pub use ids::{ClusterId, GroupId, IdError, InstanceId, MessageId, NodeId, TaskId, WorkerId};
pub use namespace::{Namespace, NamespaceError};
pub use slot::Slot;
pub use time::{Instant, Timestamp};
