//! The words that every room shares: ids, limits, time, amounts of resources.
//!
//! In: nothing.  Out: types.  May touch: nothing else of the project.
//! No logic lives here beyond construction, printing, parsing and sums of the words themselves.
//! Start reading at [`ids`].

pub mod change;
pub mod ids;
pub mod limits;
pub mod namespace;
pub mod resources;
pub mod slot;
pub mod time;

pub use change::Change;
pub use ids::{ClusterId, GroupId, IdError, InstanceId, MessageId, NodeId, TaskId, WorkerId};
pub use namespace::{Namespace, NamespaceError};
pub use resources::{Capacity, Elsewhere, Needs};
pub use slot::Slot;
pub use time::{Instant, Timestamp};
