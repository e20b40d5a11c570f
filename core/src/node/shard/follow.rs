//! Following: connections that are told what happens to an instance, from its beginning to its end.
//!
//! A follower is registered on the shard of the instance's group, in the same turn in which the history was told, so that nothing
//! falls between history and news.

use distric_exec::Event;
use distric_model::{InstanceId, Namespace, Timestamp};
use distric_wire::Code;
use distric_wire::client::{Event as WireEvent, Subscribe};

use super::connections::ReplyTo;
use super::queries::id_of;
use super::{Shard, ShardOutputs};
use crate::node::letters::{ConnId, ShardIndex};
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
            let event = Event {
                index: view.summary.revision,
                instance,
                at: Timestamp::from_us(step.at_us),
                task: step.task.clone(),
                from: step.from,
                to: step.to,
                attempt: step.attempt,
                worker: step.worker,
                reason: step.reason.clone(),
                last: ended && n + 1 == count,
            };
            self.send_event(now, &[follower], &event, out);
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
        self.send_event(now, &followers, event, out);
        if event.last {
            self.followers.remove(&event.instance);
        }
    }

    fn send_event(&self, now: Now, followers: &[Follower], event: &Event, out: &mut ShardOutputs) {
        let (kind, body) = (event.kind(), event.body().to_string());
        let told = WireEvent { index: event.index, kind: &kind, at_us: event.at.as_us(), body: body.as_bytes(), last: event.last };
        for follower in followers {
            self.send_to_conn(now, follower.shard, follower.conn, follower.message_id, &told, out);
        }
    }
}
