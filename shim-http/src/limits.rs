//! What clients may make the shim hold, in numbers.

use distric_model::limits::{BATCH_MESSAGES_MAX, FRAME_BYTES_MAX, MESSAGE_BYTES_MAX};

/// The bounds of one shim. Every refusal names the one it hit and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShimLimits {
    /// Most open connections; more wait in the listener's backlog.
    pub connections_max: usize,
    /// Most requests being handled; more are refused with 503 and `Retry-After`.
    pub requests_in_flight_max: usize,
    /// Largest body of `POST /api/v1/messages`, bytes.
    pub message_bytes_max: usize,
    /// Largest body of `POST /api/v1/messages:batch`, bytes.
    pub batch_bytes_max: usize,
    /// Most messages in one batch.
    pub batch_messages_max: usize,
    /// Largest body of any other request, bytes.
    pub document_bytes_max: usize,
    /// Largest head of a request (request line and headers), bytes. At least 8 KiB.
    pub head_bytes_max: usize,
    /// Most header lines of a request.
    pub head_lines_max: usize,
    /// Longest time a connection may take to send the head of its next request, milliseconds.
    pub head_timeout_ms: u64,
    /// Longest time a request's body may take to arrive, milliseconds.
    pub body_timeout_ms: u64,
    /// Longest time the node may take to answer `/health/ready`, milliseconds.
    pub health_timeout_ms: u64,
    /// How long open requests may go on after a shutdown was asked for, milliseconds.
    pub drain_ms: u64,
}

impl Default for ShimLimits {
    fn default() -> Self {
        Self {
            connections_max: 1_024,
            // Each holds at most one body: 256 messages of 1 MiB are the most memory that bodies take, batches apart.
            requests_in_flight_max: 256,
            message_bytes_max: MESSAGE_BYTES_MAX,
            batch_bytes_max: 4 * MESSAGE_BYTES_MAX,
            batch_messages_max: BATCH_MESSAGES_MAX,
            document_bytes_max: FRAME_BYTES_MAX as usize,
            head_bytes_max: 32 << 10,
            head_lines_max: 100,
            head_timeout_ms: 30_000,
            body_timeout_ms: 30_000,
            health_timeout_ms: 2_000,
            drain_ms: 10_000,
        }
    }
}
