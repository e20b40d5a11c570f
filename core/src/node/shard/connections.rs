//! Connections: who is at the other end, and what it may still send.
//!
//! Invariant: a connection never has more requests or bytes in flight than its Welcome granted.

use std::collections::BTreeMap;
use std::sync::Arc;

use distric_model::Instant;

use crate::node::letters::{ConnId, WorkerCard};

/// One connection of this shard.
#[derive(Debug)]
pub struct Connection {
    /// What it may do.
    pub phase: Phase,
    /// Requests not yet answered.
    pub requests_in_flight: u32,
    /// Payload bytes of those.
    pub bytes_in_flight: u64,
    /// Whether LZ4 was agreed.
    pub compress: bool,
    /// Whether it ever followed an instance.
    pub follows: bool,
    /// When it last said anything.
    pub heard_at: Instant,
    /// When its next request is due under its rate limit (generic cell rate algorithm, ITU-T I.371).
    pub due_at: Instant,
}

/// How far a connection is.
#[derive(Clone, Debug)]
pub enum Phase {
    /// Nothing but a Hello is accepted.
    AwaitingHello,
    /// A client.
    Client,
    /// A worker's session.
    Worker(Arc<WorkerCard>),
}

/// Where an answer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyTo {
    /// A frame of its own.
    Frame {
        /// The connection.
        conn: ConnId,
        /// The request's message id.
        message_id: u64,
        /// Payload bytes to give back to the connection's credit.
        bytes: u32,
    },
    /// One item of a batch.
    Batch {
        /// The batch on this shard.
        batch: u64,
        /// The item.
        position: usize,
    },
}

/// A batch whose items are answered one by one and sent as one frame.
#[derive(Debug)]
pub struct Batch {
    /// Where the whole answer goes.
    pub to: ReplyTo,
    /// Encoded `BatchItem`s.
    pub items: Vec<Vec<u8>>,
    /// Items still unanswered.
    pub open: usize,
}

/// The table of connections.
#[derive(Debug, Default)]
pub struct Connections {
    table: BTreeMap<ConnId, Connection>,
}

impl Connections {
    /// A stranger connected.
    pub fn open(&mut self, conn: ConnId, now: Instant) {
        let connection = Connection {
            phase: Phase::AwaitingHello,
            requests_in_flight: 0,
            bytes_in_flight: 0,
            compress: false,
            follows: false,
            heard_at: now,
            due_at: now,
        };
        self.table.insert(conn, connection);
    }

    /// The connection is gone.
    pub fn close(&mut self, conn: ConnId) -> Option<Connection> {
        self.table.remove(&conn)
    }

    /// A connection that is still there.
    pub fn find(&mut self, conn: ConnId) -> Option<&mut Connection> {
        self.table.get_mut(&conn)
    }

    /// Whether LZ4 was agreed with a connection.
    pub fn compresses(&self, conn: ConnId) -> bool {
        self.table.get(&conn).is_some_and(|connection| connection.compress)
    }

    /// Gives a request's credit back.
    pub fn settle(&mut self, conn: ConnId, bytes: u32) {
        if let Some(connection) = self.table.get_mut(&conn) {
            connection.requests_in_flight = connection.requests_in_flight.saturating_sub(1);
            connection.bytes_in_flight = connection.bytes_in_flight.saturating_sub(u64::from(bytes));
        }
    }

    /// All connections, by id.
    pub fn iter(&self) -> impl Iterator<Item = (ConnId, &Connection)> {
        self.table.iter().map(|(conn, connection)| (*conn, connection))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.table.len()
    }
}
