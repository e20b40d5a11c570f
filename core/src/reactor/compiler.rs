//! The compiler: the thread that checks and compiles catalogs, off the way of messages.

use std::sync::Arc;

use distric_lane::Sleeper;

use super::control::Control;
use super::mesh::{Inbox, Post};
use crate::node::compile::{check_change, compile};
use crate::node::letters::{Class, CompilerLetter, ShardIndex, ShardLetter};
use crate::node::owner_of;
use crate::node::rule_sets::RuleSets;
use distric_model::GroupId;

/// How long the compiler sleeps at most, microseconds.
const SLEEP_US_MAX: u64 = 500_000;
/// Between two tries to hand over what a full lane did not take, microseconds.
const OVERFLOW_RETRY_US: u64 = 200;

/// Runs until all shards are done.
pub fn run(shard_count: usize, mut post: Post, mut inbox: Inbox<CompilerLetter>, sleeper: &Sleeper, control: &Control) {
    let mut sets = RuleSets::default();
    let seat: ShardIndex = owner_of(GroupId::META, shard_count);
    loop {
        while let Some(letter) = inbox.pop() {
            let answer = match letter {
                CompilerLetter::Check { from, request, base, tries } => {
                    let verdict = Box::new(check_change(&request, &base, &mut sets));
                    ShardLetter::Checked { from, request, base, tries, verdict }
                }
                CompilerLetter::Compile { source } => ShardLetter::Compiled(compile(&source, &mut sets).map(Arc::new)),
            };
            post.shard(seat, Class::Reply, answer);
            post.ring();
        }
        if control.shards_are_done() {
            return;
        }
        let flushed = post.ring();
        if sleeper.prepare(|| inbox.is_empty()) {
            sleeper.wait(Some(if flushed { SLEEP_US_MAX } else { OVERFLOW_RETRY_US }));
        }
    }
}
