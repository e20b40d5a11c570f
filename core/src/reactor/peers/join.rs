//! Joining: before a node without a cluster can run, it asks one of the seeds which cluster it is to belong to.
//!
//! Only that is asked here. The node starts with what it was told and introduces itself like everyone else; the leader of group 0
//! enters it as a member, and the groups' leaders fill it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use distric_model::NodeId;
use distric_wire::peer::PeerHello;
use distric_wire::{Flags, FrameLimits, bytes_needed, parse};

use super::hello::{Host, answered};
use crate::node::peer::Member;
use crate::reactor::clock;

/// Longest time for finding a seed that answers, milliseconds.
pub const JOIN_MS_MAX: u64 = 60_000;
/// Between two rounds over the seeds, milliseconds.
const ROUND_PAUSE_MS: u64 = 250;
/// Longest wait for a seed's answer, milliseconds.
const ANSWER_MS_MAX: u64 = 2_000;

/// Asks the seeds in turn until one answers. Errors: what the last one of each said, once [`JOIN_MS_MAX`] is over.
pub fn ask(seeds: &[String], node: NodeId, boot: u64, member: &Member) -> Result<Host, String> {
    let deadline = Instant::now() + Duration::from_millis(JOIN_MS_MAX);
    loop {
        let mut reasons = Vec::new();
        for seed in seeds {
            match ask_one(seed, node, boot, member) {
                Ok(host) => return Ok(host),
                Err(reason) => reasons.push(format!("{seed}: {reason}")),
            }
        }
        if Instant::now() >= deadline {
            return Err(reasons.join("; "));
        }
        std::thread::sleep(Duration::from_millis(ROUND_PAUSE_MS));
    }
}

fn ask_one(seed: &str, node: NodeId, boot: u64, member: &Member) -> Result<Host, String> {
    let mut stream = super::connect(seed).map_err(|error| error.to_string())?;
    stream.set_read_timeout(Some(Duration::from_millis(ANSWER_MS_MAX))).map_err(|error| error.to_string())?;
    let record = member.encode();
    let hello = PeerHello { node_id: node.uuid(), boot, member: &record, ..PeerHello::default() };
    let mut bytes = Vec::new();
    distric_wire::encode(&hello, 0, clock::now().wall.as_us(), Flags::NONE, &mut bytes);
    stream.write_all(&bytes).map_err(|error| error.to_string())?;
    answer(&mut stream)
}

fn answer(stream: &mut TcpStream) -> Result<Host, String> {
    let limits = FrameLimits::UNAUTHENTICATED;
    let mut bytes = Vec::new();
    loop {
        if let Some((frame, _)) = parse(&bytes, limits).map_err(|error| error.to_string())? {
            return answered(&frame);
        }
        let needed = bytes_needed(&bytes, limits).map_err(|error| error.to_string())?;
        let start = bytes.len();
        bytes.resize(start + needed, 0);
        stream.read_exact(&mut bytes[start..]).map_err(|error| error.to_string())?;
    }
}
