//! The binary protocol: bytes to messages and back.
//!
//! In: bytes.  Out: messages that borrow from them; and the other way.  May touch: `model`.
//! Never: sockets, clocks, other rooms' types. The protocol itself is described in `docs/protocol.md`, whose tables and
//! dumps are checked against this crate; golden frames for every client library lie in `wire/vectors/`.
//!
//! Start reading at [`parse`] and [`encode`]; one message is [`client::Submit`].
//!
//! ```
//! use distric_wire::client::Submit;
//! use distric_wire::{Flags, FrameLimits, Message, encode, parse};
//!
//! let submit = Submit { event_type: Some("order.created"), payload: br#"{"total":12}"#, ..Submit::default() };
//! let mut bytes = Vec::new();
//! encode(&submit, 1, 1_700_000_000_000_000, Flags::NONE, &mut bytes);
//!
//! let (frame, consumed) = parse(&bytes, FrameLimits::AUTHENTICATED)?.expect("the frame is whole");
//! assert_eq!(consumed, bytes.len());
//! assert_eq!(frame.header.message_type, Submit::TYPE);
//! let mut scratch = Vec::new();
//! let payload = frame.decompressed(&mut scratch, FrameLimits::AUTHENTICATED)?;
//! assert_eq!(Submit::decode(payload)?, submit);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod compress;
mod frame;
mod header;

pub mod client;
pub mod code;
pub mod error;
pub mod message;
pub mod peer;
pub mod task;
pub mod tlv;

pub use code::Code;
pub use compress::{COMPRESS_ABOVE_BYTES, is_packed, pack, unpack};
pub use error::{DecodeError, FrameError, Problem};
pub use frame::{Frame, FrameLimits, bytes_needed, encode, encode_compressed, parse};
pub use header::{Flags, HEADER_BYTES, Header, MAGIC, VERSION_1};
pub use message::{AnyMessage, Family, Message, PeerMessage};
pub use tlv::views::{Headers, Items, Strs, TaskRefs, U32s, U64s, Uuids};
