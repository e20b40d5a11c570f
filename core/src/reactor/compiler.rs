//! The compiler: the thread that checks and compiles catalogs, off the way of messages.
//!
//! A change of few rules is compiled in layers, which is quick; the settler then builds all rules in one piece, and shards turn to that.
//! Many rules are read and compiled by several threads. All of them give way to whoever else wants to run, but not entirely: somebody waits.

use std::sync::Arc;

use distric_lane::Sleeper;

use super::control::Control;
use super::hands::Threads;
use super::mesh::{Inbox, Post};
use super::priority_unsafe;
use super::settler::Settler;
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
pub fn run(
    shard_count: usize,
    mut post: Post,
    mut inbox: Inbox<CompilerLetter>,
    sleeper: &Sleeper,
    mut settler: Settler,
    control: &Control,
) {
    // Where the kernel refuses, it is the same work at a normal priority.
    let _ = priority_unsafe::request_background();
    let mut sets = RuleSets::with(Box::new(Threads::for_cores()));
    let mut in_use = None;
    let seat: ShardIndex = owner_of(GroupId::META, shard_count);
    loop {
        while let Some(letter) = inbox.pop() {
            let answer = match letter {
                CompilerLetter::Check { from, request, base, tries } => {
                    let verdict = Box::new(check_change(&request, &base, &mut sets));
                    ShardLetter::Checked { from, request, base, tries, verdict }
                }
                CompilerLetter::Compile { source } => {
                    let compiled = compile(&source, &mut sets).map(Arc::new);
                    in_use = Some(source);
                    ShardLetter::Compiled(compiled)
                }
            };
            post.shard(seat, Class::Reply, answer);
            post.ring();
        }
        if control.shards_are_done() {
            return;
        }
        if let Some((namespace, whole)) = settler.finished() {
            sets.settle(&namespace, whole);
            if let Some(Ok(view)) = in_use.as_ref().map(|source| compile(source, &mut sets)) {
                post.shard(seat, Class::Reply, ShardLetter::Settled(Arc::new(view)));
            }
        }
        settler.start(|| sets.layered());
        let flushed = post.ring();
        if sleeper.prepare(|| inbox.is_empty()) {
            sleeper.wait(Some(if flushed { SLEEP_US_MAX } else { OVERFLOW_RETRY_US }));
        }
    }
}
