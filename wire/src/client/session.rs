//! The life of a connection: Hello, Welcome, Ping, Pong, GoAway.

use uuid::Uuid;

use crate::tlv::structs::tlv_struct;

/// Bit of `features`: frames with the compressed flag (one LZ4 frame) may be sent to this side.
pub const FEATURE_LZ4: u64 = 1;

tlv_struct! {
    /// The first frame of every connection. Answered by a [`Welcome`], or by a [`crate::client::Rejection`] and a close.
    struct Hello<'a> = 0x4004 {
        /// Lowest protocol version that the client speaks.
        1 version_min: required u16,
        /// Highest protocol version that the client speaks.
        2 version_max: required u16,
        /// The program, such as `orders-service`.
        3 client_name: required &'a str,
        /// Its version.
        4 client_version: required &'a str,
        /// The secret that says who it is; absent where TLS says so, or where nobody asks.
        5 api_key: optional &'a str,
        /// What the client can receive beyond the minimum: bit 0 is [`FEATURE_LZ4`].
        6 features: optional u64,
    }
}

tlv_struct! {
    /// The answer to a [`Hello`]: who answers, and what may be sent.
    struct Welcome<'a> = 0x4005 {
        /// Protocol version of all further frames.
        1 version: required u16,
        /// The answering node.
        2 node_id: required Uuid,
        /// Its cluster.
        3 cluster_id: required Uuid,
        /// What the node is, such as `coordinator`.
        4 role: required &'a str,
        /// Shard that owns this connection.
        5 shard_index: required u16,
        /// Shards of the node.
        6 shard_count: required u16,
        /// Version of the map from slots to groups.
        7 partition_map_version: required u64,
        /// Largest payload of a frame, bytes, compressed and decompressed.
        8 frame_bytes_max: required u32,
        /// Most requests without an answer.
        9 frames_in_flight_max: required u32,
        /// Most payload bytes of requests without an answer.
        10 bytes_in_flight_max: required u64,
        /// The node's clock, microseconds since the Unix epoch.
        11 server_time_us: required u64,
        /// What the node can receive beyond the minimum: bit 0 is [`FEATURE_LZ4`].
        12 features: required u64,
        /// The node's program version.
        13 server_version: required &'a str,
    }
}

tlv_struct! {
    /// Asks for a [`Pong`]; either side may, at any time after the Welcome.
    struct Ping = 0x4008 {
        /// Comes back in the Pong.
        1 token: required u64,
    }
}

tlv_struct! {
    /// The answer to a [`Ping`].
    struct Pong = 0x4009 {
        /// The Ping's token.
        1 token: required u64,
    }
}

tlv_struct! {
    /// The node is about to close this connection: send nothing new, wait for what is in flight, connect elsewhere.
    struct GoAway<'a> = 0x400A {
        /// Why, in words.
        1 reason: required &'a str,
        /// How long what is in flight will still be answered, milliseconds.
        2 grace_ms: required u64,
    }
}
