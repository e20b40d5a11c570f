//! Following: connections that are told what happens to an instance, from its beginning to its end.
//!
//! A follower is registered on the shard of the instance's group, in the same turn in which the history was told, so that nothing
//! falls between history and news.

use distric_exec::Event;
use distric_model::{InstanceId, Namespace};
use distric_wire::client::{Event as WireEvent, Subscribe};
use distric_wire::{Code, Flags};
use serde_json::{Value, json};

use super::connections::ReplyTo;
use super::queries::id_of;
use super::{Shard, ShardOutputs};
use crate::node::letters::{Class, ConnId, ShardIndex, ShardLetter};
use crate::node::machine_clock::Now;
use crate::node::question::{Answer, Question};
use crate::node::refusal::Refusal;

/// Most followers of one instance on one shard.
const FOLLOWERS_MAX: usize = 256;

/// A connection that follows an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Follower {
    pub shard: ShardIndex,
    pub conn: ConnId,
    pub message_id: u64,
}

/// One event for a follower.
struct Told<'a> {
    index: u64,
    kind: &'a str,
    at_us: u64,
    body: &'a Value,
    last: bool,
}

impl Shard {
    /// A Subscribe frame for an instance.
    pub(super) fn on_subscribe(
        &mut self,
        now: Now,
        conn: ConnId,
        message_id: u64,
        subscribe: &Subscribe<'_>,
        to: ReplyTo,
        out: &mut ShardOutputs,
    ) {
        let asked = Self::namespace_of(subscribe.namespace)
            .and_then(|namespace| Ok((namespace, id_of(Some(subscribe.id), InstanceId::from_uuid)?)));
        let (namespace, instance) = match asked {
            Ok(asked) => asked,
            Err(refusal) => return self.refuse(now, to, refusal, out),
        };
        if let Some(connection) = self.connections.find(conn) {
            connection.follows = true;
        }
        let shard = self.options.index;
        let group = self.group_of_instance(instance);
        self.ask_one(now, group, Question::Follow { namespace, instance, shard, conn, message_id }, to, out);
    }

    /// Tells a follower the history of an instance, and enters it for what comes.
    pub(super) fn follow(
        &mut self,
        now: Now,
        namespace: &Namespace,
        instance: InstanceId,
        follower: Follower,
        out: &mut ShardOutputs,
    ) -> Answer {
        let view = self.partition_of(instance.slot()).machine.instance(instance).filter(|view| view.summary.namespace == *namespace);
        let Some(view) = view else {
            return Answer::Absent(format!("no workflow instance {instance}: it never was, or its time in history is over"));
        };
        let ended = view.summary.ended_at_us.is_some();
        if !ended && self.followers.get(&instance).is_some_and(|followers| followers.len() >= FOLLOWERS_MAX) {
            return Answer::Rejected(Box::new(
                Refusal::new(Code::Overloaded, "too many followers of one instance").limit("followers_max", FOLLOWERS_MAX as u64),
            ));
        }
        let count = view.history.len();
        for (n, step) in view.history.iter().enumerate() {
            let kind = format!("{}.{}", if step.task.is_some() { "task" } else { "workflow" }, step.to);
            let mut body = json!({ "instance": instance, "from": step.from, "state": step.to });
            if let Some(task) = &step.task {
                body["task"] = json!(task);
                body["attempt"] = json!(step.attempt);
            }
            if let Some(worker) = step.worker {
                body["worker"] = json!(worker);
            }
            if let Some(reason) = &step.reason {
                body["reason"] = json!(reason);
            }
            let last = ended && n + 1 == count;
            self.send_event(now, &follower, &Told { index: view.summary.revision, kind: &kind, at_us: step.at_us, body: &body, last }, out);
        }
        if !ended {
            self.followers.entry(instance).or_default().push(follower);
        }
        Answer::Following
    }

    /// A connection that followed is gone.
    pub(super) fn forget_follower(&mut self, shard: ShardIndex, conn: ConnId) {
        self.followers.values_mut().for_each(|followers| followers.retain(|follower| !(follower.shard == shard && follower.conn == conn)));
        self.followers.retain(|_, followers| !followers.is_empty());
    }

    /// Tells the followers of an instance what happened to it.
    pub(super) fn tell_followers(&mut self, now: Now, event: &Event, out: &mut ShardOutputs) {
        // Most instances are followed by nobody; nothing is built for them.
        let Some(followers) = self.followers.get(&event.instance).cloned() else { return };
        let (kind, body) = (event.kind(), event.body());
        for follower in &followers {
            self.send_event(
                now,
                follower,
                &Told { index: event.index, kind: &kind, at_us: event.at.as_us(), body: &body, last: event.last },
                out,
            );
        }
        if event.last {
            self.followers.remove(&event.instance);
        }
    }

    fn send_event(&self, now: Now, follower: &Follower, told: &Told<'_>, out: &mut ShardOutputs) {
        let body = told.body.to_string();
        let event = WireEvent { index: told.index, kind: told.kind, at_us: told.at_us, body: body.as_bytes(), last: told.last };
        if follower.shard == self.options.index {
            out.frame(follower.conn, &event, follower.message_id, now.wall, false);
        } else {
            let mut frames = Vec::new();
            distric_wire::encode(&event, follower.message_id, now.wall.as_us(), Flags::NONE, &mut frames);
            out.letter(follower.shard, Class::Reply, ShardLetter::Frames { conn: follower.conn, frames });
        }
    }
}
