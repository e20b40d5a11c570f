//! Bodies larger than a frame: staged in parts on a connection, then used by one command on the same connection.
//!
//! Invariant: at most one body a connection, of at most [`STAGED_BYTES_MAX`]; all of a shard hold at most [`STAGED_BYTES_OF_SHARD_MAX`].
//! Invariant: a body is one run of parts without a gap; a part that does not continue it is refused. It goes with its command, or with
//! its connection.

use std::collections::BTreeMap;

use distric_wire::Code;
use distric_wire::client::{Command, CommandKind};
use serde_json::json;
use uuid::Uuid;

use super::connections::ReplyTo;
use super::{Shard, ShardOutputs};
use crate::node::letters::ConnId;
use crate::node::machine_clock::Now;
use crate::node::refusal::Refusal;

/// Largest staged body, bytes: a catalog of 100,000 rules as text.
pub const STAGED_BYTES_MAX: usize = 64 << 20;
/// Bytes that all connections of a shard have staged, at most.
pub const STAGED_BYTES_OF_SHARD_MAX: usize = 128 << 20;
/// A shard with too much staged asks to wait this long, milliseconds.
const STAGE_RETRY_MS: u64 = 500;

const _: () = assert!(STAGED_BYTES_MAX <= STAGED_BYTES_OF_SHARD_MAX, "one body fits in the shard's share");

/// What is staged on this shard.
#[derive(Debug, Default)]
pub(super) struct Staging {
    bodies: BTreeMap<ConnId, (Uuid, Vec<u8>)>,
    bytes: usize,
}

impl Staging {
    /// A connection is gone.
    pub fn forget(&mut self, conn: ConnId) {
        if let Some((_, body)) = self.bodies.remove(&conn) {
            self.bytes -= body.len();
        }
    }

    /// Adds a part. Returns how many bytes the body has now.
    fn add(&mut self, conn: ConnId, id: Uuid, offset: usize, part: &[u8]) -> Result<usize, Refusal> {
        if offset == 0 || self.bodies.get(&conn).is_some_and(|(known, _)| *known != id) {
            self.forget(conn);
        }
        let known = self.bodies.get(&conn).map_or(0, |(_, body)| body.len());
        if offset != known {
            let reason = format!("the part begins at byte {offset}, and {known} bytes are staged under this id on this connection");
            return Err(Refusal::new(Code::Conflict, reason).field("name"));
        }
        if known + part.len() > STAGED_BYTES_MAX {
            let reason = format!("a staged body is larger than {STAGED_BYTES_MAX} bytes");
            return Err(Refusal::new(Code::TooLarge, reason).limit("staged_bytes_max", STAGED_BYTES_MAX as u64).field("body"));
        }
        if self.bytes + part.len() > STAGED_BYTES_OF_SHARD_MAX {
            let refusal = Refusal::new(Code::Overloaded, "too many bytes are staged on this shard");
            let limit = STAGED_BYTES_OF_SHARD_MAX as u64;
            return Err(refusal.limit("staged_bytes_of_shard_max", limit).retry_after_ms(STAGE_RETRY_MS));
        }
        self.bytes += part.len();
        let (_, body) = self.bodies.entry(conn).or_insert_with(|| (id, Vec::new()));
        body.extend_from_slice(part);
        Ok(body.len())
    }

    fn take(&mut self, conn: ConnId, id: Uuid) -> Option<Vec<u8>> {
        self.bodies.get(&conn).filter(|(known, _)| *known == id)?;
        let (_, body) = self.bodies.remove(&conn)?;
        self.bytes -= body.len();
        Some(body)
    }
}

impl Shard {
    /// A part of a body.
    pub(super) fn on_stage(&mut self, now: Now, command: &Command<'_>, to: ReplyTo, out: &mut ShardOutputs) {
        match self.stage(command, to) {
            Ok(bytes) => self.document(now, to, &json!({ "staged": bytes }), None, out),
            Err(refusal) => self.refuse(now, to, refusal, out),
        }
    }

    fn stage(&mut self, command: &Command<'_>, to: ReplyTo) -> Result<usize, Refusal> {
        let bad = |reason: &'static str, field: &'static str| Refusal::new(Code::BadArgument, reason).field(field);
        let ReplyTo::Frame { conn, .. } = to else { return Err(bad("a batch stages nothing", "kind")) };
        let id = command.id.ok_or_else(|| bad("a part needs the id of its body", "id"))?;
        let offset = command.name.and_then(|name| name.parse().ok());
        let offset = offset.ok_or_else(|| bad("a part needs the byte that it begins at as its name", "name"))?;
        let part = command.body.filter(|part| !part.is_empty()).ok_or_else(|| bad("a part has a body", "body"))?;
        self.staging.add(conn, id, offset, part)
    }

    /// The body that a command refers to by `id`, for the commands that may. Errors: it is not there.
    pub(super) fn staged_body(&mut self, command: &Command<'_>, to: ReplyTo) -> Result<Option<Vec<u8>>, Refusal> {
        let takes_staged = matches!(
            CommandKind::from_number(command.kind),
            Some(
                CommandKind::ApplyCatalog
                    | CommandKind::PutRule
                    | CommandKind::PutWorkflow
                    | CommandKind::StartShadow
                    | CommandKind::StartCanary
            )
        );
        let (true, None, Some(id), ReplyTo::Frame { conn, .. }) = (takes_staged, command.body, command.id, to) else {
            return Ok(None);
        };
        let missing = || Refusal::new(Code::NotFound, "no body is staged under this id on this connection: stage it again").field("id");
        self.staging.take(conn, id).map(Some).ok_or_else(missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_make_one_body_and_bounds_hold() {
        let (a, b) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let mut staging = Staging::default();
        assert_eq!(staging.add(ConnId(1), a, 0, b"one ").unwrap(), 4);
        assert_eq!(staging.add(ConnId(1), a, 3, b"x").unwrap_err().code, Code::Conflict);
        assert_eq!(staging.add(ConnId(1), a, 4, b"two").unwrap(), 7);
        assert_eq!(staging.add(ConnId(2), a, 4, b"x").unwrap_err().code, Code::Conflict, "another connection has nothing");
        assert!(staging.take(ConnId(1), b).is_none() && staging.take(ConnId(2), a).is_none());
        assert_eq!(staging.take(ConnId(1), a).unwrap(), b"one two");
        assert!(staging.take(ConnId(1), a).is_none(), "it is used once");
        staging.add(ConnId(1), a, 0, b"left").unwrap();
        assert_eq!(staging.add(ConnId(1), b, 0, b"other").unwrap(), 5, "another id begins anew");
        let large = vec![0; STAGED_BYTES_MAX - 5];
        assert_eq!(staging.add(ConnId(1), b, 5, &large).unwrap(), STAGED_BYTES_MAX);
        assert_eq!(staging.add(ConnId(1), b, STAGED_BYTES_MAX, b"x").unwrap_err().code, Code::TooLarge);
        assert_eq!(staging.add(ConnId(2), a, 0, &large).unwrap(), STAGED_BYTES_MAX - 5);
        assert_eq!(staging.add(ConnId(3), a, 0, b"too much").unwrap_err().code, Code::Overloaded);
        staging.forget(ConnId(1));
        assert_eq!(staging.add(ConnId(3), a, 0, b"room").unwrap(), 4);
        for conn in [2, 3] {
            staging.forget(ConnId(conn));
        }
        assert_eq!(staging.bytes, 0);
    }
}
