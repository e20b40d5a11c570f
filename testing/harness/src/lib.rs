//! Real processes for black-box tests: the `distric` binary on free ports and temporary directories, asked over its own protocols.
//!
//! In: the path of the binary.  Out: processes that are gone when their handle is dropped.
//! May touch: processes, files, sockets.  Never: the rooms behind the binary's doors.
//! Every wait has a named maximum, and a failure shows the log lines of the process.
//! Start reading at [`Node::start`].

pub mod disk;
pub mod http;
pub mod outside;
pub mod ports;
pub mod process;
pub mod proxy;

pub use disk::SmallDisk;
pub use http::{HttpReply, http};
pub use outside::Outside;
pub use ports::free_address;
pub use process::{Finished, Node, Program, Running, wait_until};
