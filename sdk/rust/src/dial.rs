//! Opening a connection: TCP, Hello, Welcome.

use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use distric_model::limits::{FRAME_BYTES_HARD_CAP, FRAME_BYTES_MAX};
use distric_wire::client::{self as wire, FEATURE_LZ4, GoAway, Hello};
use distric_wire::{Flags, Frame, FrameLimits, Message, VERSION_1, encode, encode_compressed};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use uuid::Uuid;

use crate::error::{ConnectionError, Error, ProtocolError, Rejection};
use crate::frames::FrameBuffer;

/// Message id of the Hello: outside of the ids that requests use.
const HELLO_ID: u64 = 1 << 62;
/// Message id of pings: outside of the ids that requests use.
pub(crate) const PING_ID: u64 = 1 << 63;

/// What the server said about itself and this connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// Protocol version chosen.
    pub version: u16,
    /// The node at the other end.
    pub node_id: Uuid,
    /// Its cluster.
    pub cluster_id: Uuid,
    /// Its role.
    pub role: String,
    /// The shard that owns this connection.
    pub shard_index: u16,
    /// Shards of the node.
    pub shard_count: u16,
    /// Version of the map from slots to groups.
    pub partition_map_version: u64,
    /// Largest frame payload that it accepts, bytes.
    pub frame_bytes_max: u32,
    /// Most unanswered requests on this connection.
    pub frames_in_flight_max: u32,
    /// Most bytes of unanswered requests on this connection.
    pub bytes_in_flight_max: u64,
    /// Its clock, microseconds since the Unix epoch.
    pub server_time_us: u64,
    /// Feature bits that both sides have.
    pub features: u64,
    /// Its software version.
    pub server_version: String,
}

impl Welcome {
    /// Whether frames may be compressed.
    pub(crate) fn compresses(&self) -> bool {
        self.features & FEATURE_LZ4 != 0
    }

    fn of_wire(wire: &wire::Welcome<'_>) -> Self {
        Self {
            version: wire.version,
            node_id: wire.node_id,
            cluster_id: wire.cluster_id,
            role: wire.role.to_owned(),
            shard_index: wire.shard_index,
            shard_count: wire.shard_count,
            partition_map_version: wire.partition_map_version,
            frame_bytes_max: wire.frame_bytes_max,
            frames_in_flight_max: wire.frames_in_flight_max,
            bytes_in_flight_max: wire.bytes_in_flight_max,
            server_time_us: wire.server_time_us,
            features: wire.features,
            server_version: wire.server_version.to_owned(),
        }
    }
}

/// Who knocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller<'a> {
    pub(crate) name: &'a str,
    pub(crate) api_key: Option<&'a str>,
    /// Whether frames may be compressed, if the server can as well.
    pub(crate) compress: bool,
}

/// A connection that was welcomed.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) address: String,
    pub(crate) stream: TcpStream,
    pub(crate) frames: FrameBuffer,
    pub(crate) welcome: Welcome,
}

/// Connects and introduces this side. Errors: `Connection`, `Rejected`, `Protocol`, or `Connection` with `TimedOut` after `timeout_ms`.
pub(crate) async fn dial(address: &str, caller: Caller<'_>, timeout_ms: u64) -> Result<Connection, Error> {
    let error = |source| ConnectionError::new(address, "connect to", source);
    match timeout(Duration::from_millis(timeout_ms), greet(address, caller)).await {
        Ok(result) => result,
        Err(_) => Err(error(io::Error::new(io::ErrorKind::TimedOut, format!("no welcome within {timeout_ms} ms"))).into()),
    }
}

async fn greet(address: &str, caller: Caller<'_>) -> Result<Connection, Error> {
    let error = |op: &'static str| move |source| Error::from(ConnectionError::new(address, op, source));
    let mut stream = TcpStream::connect(address).await.map_err(error("connect to"))?;
    // Writes are already gathered into one per turn; waiting for more would only add delay.
    stream.set_nodelay(true).map_err(error("connect to"))?;
    let hello = Hello {
        version_min: VERSION_1,
        version_max: VERSION_1,
        client_name: caller.name,
        client_version: env!("CARGO_PKG_VERSION"),
        api_key: caller.api_key,
        features: Some(if caller.compress { FEATURE_LZ4 } else { 0 }),
    };
    let mut bytes = Vec::with_capacity(256);
    encode(&hello, HELLO_ID, now_us(), Flags::NONE, &mut bytes);
    stream.write_all(&bytes).await.map_err(error("write to"))?;

    let mut frames = FrameBuffer::new(FrameLimits::UNAUTHENTICATED);
    let mut scratch = Vec::new();
    let welcome = loop {
        if let Some(frame) = frames.next_frame().map_err(ProtocolError::from)? {
            break welcome_of(address, &frame, &mut scratch)?;
        }
        if frames.fill(&mut stream).await.map_err(error("read from"))? == 0 {
            return Err(error("read from")(io::Error::new(io::ErrorKind::UnexpectedEof, "closed before its welcome")));
        }
    };
    frames.set_limits(answer_limits(&welcome));
    Ok(Connection { address: address.to_owned(), stream, frames, welcome })
}

/// The largest frame taken from a server: what it takes itself, at least the default, at most the hard cap.
pub(crate) fn answer_limits(welcome: &Welcome) -> FrameLimits {
    FrameLimits { frame_bytes_max: welcome.frame_bytes_max.clamp(FRAME_BYTES_MAX, FRAME_BYTES_HARD_CAP) }
}

fn welcome_of(address: &str, frame: &Frame<'_>, scratch: &mut Vec<u8>) -> Result<Welcome, Error> {
    let payload = frame.decompressed(scratch, FrameLimits::UNAUTHENTICATED).map_err(ProtocolError::from)?;
    match frame.header.message_type {
        wire::Welcome::TYPE => {
            let welcome = Welcome::of_wire(&wire::Welcome::decode(payload).map_err(ProtocolError::from)?);
            if welcome.version != VERSION_1 {
                return Err(ProtocolError::Version { version: welcome.version }.into());
            }
            Ok(welcome)
        }
        wire::Rejection::TYPE => {
            let rejection = wire::Rejection::decode(payload).map_err(ProtocolError::from)?;
            Err(Error::Rejected(Box::new(Rejection::of_wire(&rejection))))
        }
        GoAway::TYPE => {
            let reason = GoAway::decode(payload).map_err(ProtocolError::from)?.reason.to_owned();
            Err(ConnectionError::new(address, "connect to", io::Error::new(io::ErrorKind::ConnectionRefused, reason)).into())
        }
        message_type => Err(ProtocolError::Unexpected { message_type }.into()),
    }
}

/// Appends one frame, compressed when that was agreed and the payload is large.
pub(crate) fn put_frame<'a, M: Message<'a>>(message: &M, message_id: u64, compress: bool, out: &mut Vec<u8>) {
    if compress {
        encode_compressed(message, message_id, now_us(), Flags::NONE, out);
    } else {
        encode(message, message_id, now_us(), Flags::NONE, out);
    }
}

/// The calendar clock, microseconds since the Unix epoch.
pub(crate) fn now_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}
