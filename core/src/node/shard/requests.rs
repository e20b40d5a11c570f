//! Requests: what a frame asks for, and whether its sender may ask it now.

use std::sync::Arc;

use distric_model::limits::{FRAME_BYTES_MAX_UNAUTHENTICATED, KEY_BYTES_MAX};
use distric_model::{Capacity, Namespace, WorkerId};
use distric_wire::client::{FEATURE_LZ4, Hello, Pong, Submit, SubmitBatch, SubscribeKind, Welcome};
use distric_wire::task::WorkerHello;
use distric_wire::{AnyMessage, Code, Frame, FrameLimits, VERSION_1};

use super::connections::{Batch, Phase, ReplyTo};
use super::{Shard, ShardOutputs};
use crate::node::letters::{ConnId, WorkerCard};
use crate::node::machine_clock::Now;
use crate::node::refusal::Refusal;

/// A client that has too much in flight is told to wait this long, milliseconds.
const CREDIT_RETRY_MS: u64 = 20;
/// A node with too much in flight asks to wait this long, milliseconds.
const OVERLOAD_RETRY_MS: u64 = 100;
/// A rate limit allows bursts of what it allows in this time, microseconds.
const RATE_BURST_US: u64 = 1_000_000;
/// A node that is about to stop asks to wait this long, milliseconds.
const DRAIN_RETRY_MS: u64 = 1_000;

impl Shard {
    /// What a connection may send: strangers less.
    pub fn frame_limits(&mut self, conn: ConnId) -> FrameLimits {
        let frame_bytes_max = match self.connections.find(conn).map(|connection| &connection.phase) {
            Some(Phase::AwaitingHello) | None => FRAME_BYTES_MAX_UNAUTHENTICATED,
            Some(_) => self.options.frame_bytes_max,
        };
        FrameLimits { frame_bytes_max }
    }

    /// One whole frame.
    pub(super) fn on_request(&mut self, now: Now, conn: ConnId, frame: &Frame<'_>, out: &mut ShardOutputs) {
        let Some(connection) = self.connections.find(conn) else { return };
        connection.heard_at = now.mono;
        let phase = connection.phase.clone();
        let limits = self.frame_limits(conn);
        let message_id = frame.header.message_id;
        let mut scratch = Vec::new();
        let decoded = frame.decompressed(&mut scratch, limits).and_then(|payload| AnyMessage::decode(frame.header.message_type, payload));
        let message = match decoded {
            Ok(Some(message)) => message,
            Ok(None) => {
                let reason = format!("message type {:#06x} is not known here", frame.header.message_type);
                self.show_stranger_out(conn, &phase, out);
                return self.reject_frame(now, conn, message_id, &Refusal::new(Code::UnknownKind, reason), out);
            }
            Err(error) => {
                self.stats.rejections_count += 1;
                let reason = error.to_string();
                self.show_stranger_out(conn, &phase, out);
                return out.frame(conn, &error.rejection(&reason), message_id, now.wall, false);
            }
        };
        match (phase, message) {
            (Phase::AwaitingHello, AnyMessage::Hello(hello)) => self.on_hello(now, conn, message_id, &hello, out),
            (Phase::AwaitingHello, other) => {
                let refusal = Refusal::new(Code::NotHello, format!("the first frame must be Hello, got {}", other.name()));
                self.reject_frame(now, conn, message_id, &refusal, out);
                out.closes.push(conn);
            }
            (_, AnyMessage::Ping(ping)) => out.frame(conn, &Pong { token: ping.token }, message_id, now.wall, false),
            (_, AnyMessage::Pong(_)) => {}
            (Phase::Worker(card), message) => self.on_worker_message(now, conn, message_id, &card, &message, out),
            (Phase::Client, AnyMessage::WorkerHello(hello)) => self.on_worker_hello(now, conn, message_id, &hello, out),
            (Phase::Client, message) => self.on_client_message(now, conn, frame, &message, out),
        }
    }

    /// A mistake of somebody who has not said Hello ends the connection, once it is answered.
    fn show_stranger_out(&self, conn: ConnId, phase: &Phase, out: &mut ShardOutputs) {
        if matches!(phase, Phase::AwaitingHello) {
            out.closes.push(conn);
        }
    }

    fn on_hello(&mut self, now: Now, conn: ConnId, message_id: u64, hello: &Hello<'_>, out: &mut ShardOutputs) {
        if !(hello.version_min <= VERSION_1 && VERSION_1 <= hello.version_max) {
            let reason = format!("versions {} to {} are spoken there, version {VERSION_1} here", hello.version_min, hello.version_max);
            self.reject_frame(now, conn, message_id, &Refusal::new(Code::UnsupportedVersion, reason), out);
            out.closes.push(conn);
            return;
        }
        // Neither without a cluster nor without its catalog: a message judged by an empty catalog would match nothing and be lost.
        let Some((cluster, _)) = self.cluster.filter(|_| self.serving) else {
            let refusal = Refusal::new(Code::Unavailable, "the node is still starting").retry_after_ms(OVERLOAD_RETRY_MS);
            self.reject_frame(now, conn, message_id, &refusal, out);
            out.closes.push(conn);
            return;
        };
        let features = hello.features.unwrap_or(0) & FEATURE_LZ4;
        if let Some(connection) = self.connections.find(conn) {
            connection.phase = Phase::Client;
            connection.compress = features & FEATURE_LZ4 != 0;
        }
        let welcome = Welcome {
            version: VERSION_1,
            node_id: self.options.node.uuid(),
            cluster_id: cluster.uuid(),
            role: "coordinator",
            shard_index: self.options.index as u16,
            shard_count: self.options.count as u16,
            partition_map_version: 1,
            frame_bytes_max: self.options.frame_bytes_max,
            frames_in_flight_max: self.options.frames_in_flight_max,
            bytes_in_flight_max: self.options.bytes_in_flight_max,
            server_time_us: now.wall.as_us(),
            features: FEATURE_LZ4,
            server_version: self.options.server_version,
        };
        out.frame(conn, &welcome, message_id, now.wall, false);
    }

    fn on_client_message(&mut self, now: Now, conn: ConnId, frame: &Frame<'_>, message: &AnyMessage<'_>, out: &mut ShardOutputs) {
        let message_id = frame.header.message_id;
        let bytes = frame.header.payload_bytes;
        if let Err(refusal) = self.take_credit(now, conn, bytes) {
            return self.reject_frame(now, conn, message_id, &refusal, out);
        }
        let to = ReplyTo::Frame { conn, message_id, bytes };
        match message {
            AnyMessage::Submit(submit) => self.on_submit(now, submit, to, out),
            AnyMessage::SubmitBatch(batch) => self.on_batch(now, batch, to, out),
            AnyMessage::Query(query) => self.on_query(now, query, to, out),
            AnyMessage::Command(command) => self.on_command(now, command, to, out),
            AnyMessage::Subscribe(subscribe) => match SubscribeKind::from_number(subscribe.kind) {
                Some(SubscribeKind::Instance) => self.on_subscribe(now, conn, message_id, subscribe, to, out),
                None => self.refuse(
                    now,
                    to,
                    Refusal::new(Code::UnknownKind, format!("subscription kind {} is not known here", subscribe.kind)),
                    out,
                ),
            },
            other => self.refuse(now, to, Refusal::new(Code::BadMessage, format!("{} is not a request of a client", other.name())), out),
        }
    }

    /// Admission: before anything costs.
    fn take_credit(&mut self, now: Now, conn: ConnId, bytes: u32) -> Result<(), Refusal> {
        let (frames_max, bytes_max) = (self.options.frames_in_flight_max, self.options.bytes_in_flight_max);
        let rate = self.options.requests_per_second;
        let Some(connection) = self.connections.find(conn) else { return Ok(()) };
        if let Some(rate) = rate {
            let due_at = connection.due_at.max(now.mono).plus_us(1_000_000 / u64::from(rate.max(1)));
            let ahead_us = due_at.since_us(now.mono);
            if ahead_us > RATE_BURST_US {
                let refusal = Refusal::new(Code::RateLimited, "more requests per second than this connection may send");
                return Err(refusal
                    .limit("requests_per_second", u64::from(rate))
                    .retry_after_ms((ahead_us - RATE_BURST_US).div_ceil(1_000)));
            }
            connection.due_at = due_at;
        }
        if connection.requests_in_flight >= frames_max {
            let refusal = Refusal::new(Code::TooManyInFlight, "more requests in flight than the Welcome granted");
            return Err(refusal.limit("frames_in_flight_max", u64::from(frames_max)).retry_after_ms(CREDIT_RETRY_MS));
        }
        // One request always passes, or a message larger than the credit could never be sent.
        if connection.requests_in_flight > 0 && connection.bytes_in_flight + u64::from(bytes) > bytes_max {
            let refusal = Refusal::new(Code::TooManyInFlight, "more bytes in flight than the Welcome granted");
            return Err(refusal.limit("bytes_in_flight_max", bytes_max).retry_after_ms(CREDIT_RETRY_MS));
        }
        connection.requests_in_flight += 1;
        connection.bytes_in_flight += u64::from(bytes);
        Ok(())
    }

    /// Whether the node takes new work at all, and has room for `more` proposals.
    pub(super) fn admit(&self, more: usize) -> Result<(), Refusal> {
        if self.draining {
            return Err(Refusal::new(Code::Draining, "the node is shutting down").retry_after_ms(DRAIN_RETRY_MS));
        }
        if !self.proposals.has_room(more) {
            let refusal = Refusal::new(Code::Overloaded, "too many proposals in flight on this shard");
            return Err(refusal.limit("proposals_in_flight_max", super::PROPOSALS_IN_FLIGHT_MAX as u64).retry_after_ms(OVERLOAD_RETRY_MS));
        }
        Ok(())
    }

    fn on_batch(&mut self, now: Now, batch: &SubmitBatch<'_>, to: ReplyTo, out: &mut ShardOutputs) {
        let count = batch.messages.len();
        if count == 0 {
            return self.refuse(now, to, Refusal::new(Code::BadArgument, "the batch has no messages").field("messages"), out);
        }
        if let Err(refusal) = self.admit(count) {
            return self.refuse(now, to, refusal, out);
        }
        let number = self.next_batch;
        self.next_batch += 1;
        self.batches.insert(number, Batch { to, items: vec![Vec::new(); count], open: count });
        for (position, item) in batch.messages.iter().enumerate() {
            let to = ReplyTo::Batch { batch: number, position };
            match Submit::decode(item) {
                Ok(submit) => self.on_submit(now, &submit, to, out),
                Err(error) => self.refuse(now, to, Refusal::new(error.code(), error.to_string()), out),
            }
        }
    }

    fn on_worker_hello(&mut self, now: Now, conn: ConnId, message_id: u64, hello: &WorkerHello<'_>, out: &mut ShardOutputs) {
        let worker = match WorkerId::from_uuid(hello.worker_id) {
            Ok(worker) => worker,
            Err(error) => {
                let refusal = Refusal::new(Code::BadArgument, error.to_string()).field("worker_id");
                return self.reject_frame(now, conn, message_id, &refusal, out);
            }
        };
        if let Err(refusal) = self.admit(1) {
            return self.reject_frame(now, conn, message_id, &refusal, out);
        }
        let card = Arc::new(WorkerCard {
            worker,
            generation: hello.generation,
            name: hello.name.chars().take(KEY_BYTES_MAX).collect(),
            slots: hello.slots,
            prefetch: hello.prefetch,
            task_types: hello.task_types.iter().map(Arc::from).collect(),
            capacity: Capacity { cpu_millis: hello.cpu_millis, memory_mib: hello.memory_mib },
            labels: hello.labels.iter().map(|(key, value)| (Arc::from(key), Arc::from(value))).collect(),
        });
        self.open_worker_session(now, conn, message_id, card, out);
    }

    /// A namespace from a request; absent means `default`.
    pub(super) fn namespace_of(given: Option<&str>) -> Result<Namespace, Refusal> {
        match given {
            None => Ok(Namespace::default()),
            Some(name) => Namespace::new(name).map_err(|error| Refusal::new(Code::BadArgument, error.to_string()).field("namespace")),
        }
    }

    /// Refuses a frame that took no credit.
    pub(super) fn reject_frame(&mut self, now: Now, conn: ConnId, message_id: u64, refusal: &Refusal, out: &mut ShardOutputs) {
        self.stats.rejections_count += 1;
        out.frame(conn, &refusal.to_wire(), message_id, now.wall, false);
    }
}
