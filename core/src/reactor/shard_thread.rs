//! A shard's thread: one runtime, one node half, and the three verbs that touch the runtime: accept, framed read and write, timer.
//!
//! Lives on: one pinned thread. Everything in [`Rim`] is single-threaded; the `RefCell`s are never borrowed across an await.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::TcpListener as StdListener;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use distric_lane::{Sender, Sleeper};
use distric_model::Instant;
use distric_wire::{Frame, FrameError, FrameLimits};
use monoio::io::AsyncReadRent;
use monoio::net::{TcpListener, UnixStream};

use super::clock;
use super::connection::{self, Conn, Rim as _, Signal, shut_down};
use super::control::Control;
use super::mesh::{Inbox, Post, ShardEnds, StateLetter};
use super::notes;
use crate::node::letters::{ConnId, ShardLetter};
use crate::node::shard::{Shard, ShardOptions, ShardOutputs, ShardStats};

/// Letters handled before the sockets get a turn.
const LETTERS_PER_TURN_MAX: usize = 1_024;
/// How long a stopping shard waits for what is in flight, milliseconds.
pub const DRAIN_MS_MAX: u64 = 8_000;
/// Between two tries to hand over what a full lane did not take, microseconds.
const OVERFLOW_RETRY_US: u64 = 200;
/// Between two looks at a listener that failed, milliseconds: out of descriptors is cured by waiting.
const ACCEPT_RETRY_MS: u64 = 100;

/// What the thread is started with.
pub struct ShardStart {
    /// The node half.
    pub options: ShardOptions,
    /// Lanes and bell.
    pub ends: ShardEnds,
    /// The listening socket, shared by all shards.
    pub listener: StdListener,
    /// Most connections of this shard.
    pub connections_max: usize,
    /// Stop and readiness.
    pub control: Control,
    /// Set by whoever wants the counters.
    pub stats_wanted: Arc<AtomicBool>,
    /// Where they go.
    pub stats: Sender<Box<ShardStats>>,
}

/// The rim of one shard.
pub struct Rim {
    shard: RefCell<Shard>,
    out: RefCell<ShardOutputs>,
    post: RefCell<Post>,
    inbox: RefCell<Inbox<ShardLetter>>,
    conns: RefCell<BTreeMap<ConnId, Rc<Conn>>>,
    stats: RefCell<Sender<Box<ShardStats>>>,
    stats_wanted: Arc<AtomicBool>,
    control: Control,
    index: usize,
    next_conn: Cell<u64>,
    wake_at: Cell<Option<Instant>>,
    rearm: Signal,
    overflowing: Cell<bool>,
    reported_ready: Cell<bool>,
    starved: Cell<bool>,
}

/// Runs a shard until it is stopped and drained.
pub async fn run(start: ShardStart) {
    let ShardStart { options, ends, listener, connections_max, control, stats_wanted, stats } = start;
    let index = options.index;
    let rim = Rc::new(Rim {
        shard: RefCell::new(Shard::new(options)),
        out: RefCell::new(ShardOutputs::default()),
        post: RefCell::new(ends.post),
        inbox: RefCell::new(ends.inbox),
        conns: RefCell::new(BTreeMap::new()),
        stats: RefCell::new(stats),
        stats_wanted,
        control: control.clone(),
        index,
        // Ids of different shards differ, so that a log line names one connection.
        next_conn: Cell::new((index as u64) << 48),
        wake_at: Cell::new(None),
        rearm: Signal::default(),
        overflowing: Cell::new(false),
        reported_ready: Cell::new(false),
        starved: Cell::new(false),
    });
    let listener_fd = listener.as_raw_fd();
    match TcpListener::from_std(listener) {
        Ok(listener) => {
            monoio::spawn(accept(rim.clone(), listener, connections_max));
        }
        Err(error) => control.fail("shard", format!("the listener cannot be used: {error}")),
    }
    monoio::spawn(keep_time(rim.clone()));
    if let Err(error) = pump(&rim, &ends.sleeper, listener_fd).await {
        control.fail("shard", format!("the doorbell cannot be used: {error}"));
    }
    control.shard_is_done();
}

/// Drains the lanes, then sleeps on the doorbell. Returns when the node is stopping and everything in flight is done.
async fn pump(rim: &Rc<Rim>, sleeper: &Sleeper, listener_fd: RawFd) -> std::io::Result<()> {
    let mut bell = UnixStream::from_std(sleeper.try_clone_socket()?)?;
    let mut bytes: Vec<u8> = Vec::with_capacity(64);
    let mut stop_by: Option<Instant> = None;
    loop {
        let handled = rim.drain_inbox();
        rim.turn();
        if rim.control.is_stopping() {
            let now = clock::now().mono;
            match stop_by {
                None => {
                    stop_by = Some(now.plus_ms(DRAIN_MS_MAX));
                    // Every shard holds its own copy of the descriptor; shutting one down ends accept on all of them.
                    shut_down(listener_fd);
                    rim.deliver(ShardLetter::Drain);
                    rim.turn();
                }
                Some(deadline) if rim.is_drained() || now >= deadline => return Ok(()),
                Some(_) => monoio::time::sleep(Duration::from_millis(1)).await,
            }
            continue;
        }
        if handled > 0 {
            // Sockets and timers get their turn before more letters.
            yield_now().await;
        } else if sleeper.prepare(|| rim.inbox.borrow_mut().is_empty()) {
            bytes.clear();
            let (result, buffer) = bell.read(bytes).await;
            bytes = buffer;
            sleeper.woken();
            result?;
        }
    }
}

async fn accept(rim: Rc<Rim>, listener: TcpListener, connections_max: usize) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) if rim.conns.borrow().len() < connections_max => {
                let id = ConnId(rim.next_conn.get());
                rim.next_conn.set(id.0 + 1);
                connection::start(&rim, id, stream);
            }
            Ok((stream, peer)) => {
                tracing::warn!(target: "distric_core::shard", peer = %peer, connections_max, "connection refused: the node has as many as it may");
                drop(stream);
            }
            Err(_) if rim.control.is_stopping() => return,
            Err(error) => {
                tracing::warn!(target: "distric_core::shard", error = %error, "accept failed");
                monoio::time::sleep(Duration::from_millis(ACCEPT_RETRY_MS)).await;
            }
        }
    }
}

/// Calls the node when its time has come, and hands over what full lanes did not take.
async fn keep_time(rim: Rc<Rim>) {
    loop {
        let wait_us = match (rim.overflowing.get(), rim.wake_at.get()) {
            (true, _) => Some(OVERFLOW_RETRY_US),
            (false, Some(at)) => Some(at.since_us(clock::now().mono)),
            (false, None) => None,
        };
        match wait_us {
            None => rim.rearm.wait().await,
            Some(us) => {
                monoio::select! {
                    () = monoio::time::sleep(Duration::from_micros(us)) => {}
                    () = rim.rearm.wait() => continue,
                }
            }
        }
        let now = clock::now();
        if rim.wake_at.get().is_some_and(|at| at <= now.mono) {
            rim.shard.borrow_mut().on_time(now, &mut rim.out.borrow_mut());
            rim.turn();
            // Whatever the turn found due at once waits for the next tick of the timer, so that nothing can spin here.
            if rim.wake_at.get().is_some_and(|at| at <= clock::now().mono) {
                monoio::time::sleep(Duration::from_millis(1)).await;
            }
        } else {
            rim.turn();
        }
    }
}

/// Lets the other tasks of the thread run once.
pub async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return std::task::Poll::Ready(());
        }
        context.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}

impl Rim {
    fn deliver(&self, letter: ShardLetter) {
        self.shard.borrow_mut().on_letter(clock::now(), letter, &mut self.out.borrow_mut());
    }

    fn drain_inbox(&self) -> usize {
        let mut handled = 0;
        while handled < LETTERS_PER_TURN_MAX {
            let Some(letter) = self.inbox.borrow_mut().pop() else { break };
            self.deliver(letter);
            handled += 1;
        }
        handled
    }

    fn is_drained(&self) -> bool {
        self.shard.borrow().is_idle() && !self.overflowing.get() && self.conns.borrow().values().all(|conn| conn.is_flushed())
    }
}

impl connection::Rim for Rim {
    fn open(&self, conn: Rc<Conn>) {
        self.shard.borrow_mut().on_open(clock::now(), conn.id);
        self.conns.borrow_mut().insert(conn.id, conn);
    }

    fn closed(&self, conn: ConnId) {
        self.shard.borrow_mut().on_closed(conn, &mut self.out.borrow_mut());
        self.conns.borrow_mut().remove(&conn);
        self.turn();
    }

    fn frame_limits(&self, conn: ConnId) -> FrameLimits {
        self.shard.borrow_mut().frame_limits(conn)
    }

    fn on_frame(&self, conn: ConnId, frame: &Frame<'_>) {
        self.shard.borrow_mut().on_frame(clock::now(), conn, frame, &mut self.out.borrow_mut());
    }

    fn on_frame_error(&self, conn: ConnId, error: &FrameError) {
        self.shard.borrow_mut().on_frame_error(clock::now(), conn, error, &mut self.out.borrow_mut());
    }

    fn has_room(&self) -> bool {
        let room = !self.overflowing.get() && self.shard.borrow().has_room();
        if !room {
            self.starved.set(true);
        }
        room
    }

    /// The end of a turn: hands over what the node asked for, and rings the bells once.
    fn turn(&self) {
        let mut shard = self.shard.borrow_mut();
        let mut out = self.out.borrow_mut();
        let mut post = self.post.borrow_mut();
        while !out.to_shards.is_empty() {
            for (to, class, letter) in std::mem::take(&mut out.to_shards) {
                if to == self.index {
                    shard.on_letter(clock::now(), letter, &mut out);
                } else {
                    post.shard(to, class, letter);
                }
            }
        }
        for letter in out.to_consensus.drain(..) {
            post.consensus(letter);
        }
        for checkpoint in out.checkpoints.drain(..) {
            post.state(StateLetter::Checkpoint(checkpoint));
        }
        for letter in out.to_compiler.drain(..) {
            post.compiler(letter);
        }
        self.overflowing.set(!post.ring());
        let conns = self.conns.borrow();
        for (conn, frames) in out.frames() {
            if let Some(conn) = conns.get(&conn) {
                conn.append(frames);
            }
        }
        out.clear_frames();
        for conn in out.closes.drain(..) {
            if let Some(conn) = conns.get(&conn) {
                conn.close();
            }
        }
        for note in out.notes.drain(..) {
            notes::write(self.index, note);
        }
        if !self.overflowing.get() && shard.has_room() && self.starved.take() {
            conns.values().for_each(|conn| conn.resume());
        }
        if !self.reported_ready.get() && shard.is_ready() {
            self.reported_ready.set(true);
            self.control.shard_is_ready(self.index);
        }
        if self.stats_wanted.load(Ordering::Acquire) && self.stats_wanted.swap(false, Ordering::AcqRel) {
            let _ = self.stats.borrow_mut().push(Box::new(shard.stats().clone()));
        }
        let wake_at = shard.next_wake();
        let earlier = match (wake_at, self.wake_at.get()) {
            (Some(new), Some(old)) => new < old,
            (Some(_), None) => true,
            (None, _) => false,
        };
        self.wake_at.set(wake_at);
        if earlier || self.overflowing.get() {
            self.rearm.set();
        }
    }
}
