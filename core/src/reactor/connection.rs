//! One connection's two tasks on its shard: bytes in to frames, frames out to bytes.
//!
//! A read is never raced against anything and never dropped half-way; whoever wants to end it shuts the socket down.
//! Bound: output beyond [`OUTPUT_BYTES_HIGH`] stops the reading of that connection until it is written.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::rc::Rc;
use std::task::{Poll, Waker};

use distric_wire::{Frame, FrameError, FrameLimits, HEADER_BYTES};
use monoio::io::{AsyncReadRent, AsyncWriteRentExt, Splitable};
use monoio::net::TcpStream;
use monoio::net::tcp::{TcpOwnedReadHalf, TcpOwnedWriteHalf};

use crate::node::letters::ConnId;

/// What owns connections: a shard, or the raft core.
pub trait Rim: 'static {
    /// Enters a connection.
    fn open(&self, conn: Rc<Conn>);
    /// A connection's reader has ended.
    fn closed(&self, conn: ConnId);
    /// What a connection may send.
    fn frame_limits(&self, conn: ConnId) -> FrameLimits;
    /// One frame.
    fn on_frame(&self, conn: ConnId, frame: &Frame<'_>);
    /// Bytes that are no frame; nothing more is read.
    fn on_frame_error(&self, conn: ConnId, error: &FrameError);
    /// Whether sockets may be read.
    fn has_room(&self) -> bool;
    /// The end of a turn.
    fn turn(&self);
}

/// Bytes asked for in one read.
const READ_BYTES: usize = 64 << 10;
/// Unwritten output at which a connection is no longer read.
pub const OUTPUT_BYTES_HIGH: usize = 4 << 20;
/// Unwritten output at which a connection that does not read its answers is closed: what a whole credit of answers can take.
pub const OUTPUT_BYTES_MAX: usize = 256 << 20;
/// A buffer that grew beyond this for one large frame is given back.
const BUFFER_BYTES_KEPT: usize = 256 << 10;

/// A waker for one task of the same thread.
#[derive(Default)]
pub struct Signal {
    set: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Signal {
    /// Wakes the waiting task, now or when it next waits.
    pub fn set(&self) {
        self.set.set(true);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Waits until set; takes the signal.
    pub async fn wait(&self) {
        poll_fn(|context| {
            if self.set.take() {
                return Poll::Ready(());
            }
            *self.waker.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// A connection as its shard sees it.
pub struct Conn {
    /// Its id.
    pub id: ConnId,
    fd: RawFd,
    output: RefCell<Vec<u8>>,
    /// Output waits, or the connection is to be closed.
    writable: Signal,
    /// Output was written, or the shard has room again.
    resume: Signal,
    closing: Cell<bool>,
    dead: Cell<bool>,
}

impl Conn {
    /// Adds frames to the output.
    pub fn append(&self, frames: &[u8]) {
        if self.dead.get() {
            return;
        }
        let mut output = self.output.borrow_mut();
        if output.len() + frames.len() > OUTPUT_BYTES_MAX {
            drop(output);
            return self.kill();
        }
        output.extend_from_slice(frames);
        self.writable.set();
    }

    /// Closes once the output is written.
    pub fn close(&self) {
        self.closing.set(true);
        self.writable.set();
    }

    /// The shard has room again.
    pub fn resume(&self) {
        self.resume.set();
    }

    /// Whether it was ended at once.
    pub fn is_dead(&self) -> bool {
        self.dead.get()
    }

    /// Whether everything is written.
    pub fn is_flushed(&self) -> bool {
        self.dead.get() || self.output.borrow().is_empty()
    }

    /// Ends both directions now: a read or write in flight returns, and what was read and not yet handed over is not.
    pub fn kill(&self) {
        if !self.dead.replace(true) {
            // The descriptor stays open as long as the tasks hold their halves, and they clear `dead` never.
            shut_down(self.fd);
            self.output.borrow_mut().clear();
        }
        self.writable.set();
        self.resume.set();
    }
}

/// Shuts both directions of a socket down; what waits on it returns.
pub fn shut_down(fd: RawFd) {
    // The caller owns the descriptor for the length of the call.
    let socket = borrow(fd);
    let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Both);
}

/// A descriptor whose owner outlives the call.
fn borrow<'a>(fd: RawFd) -> BorrowedFd<'a> {
    super::borrow_fd_unsafe::borrow(fd)
}

/// Takes an accepted socket: starts its two tasks.
pub fn start<R: Rim>(rim: &Rc<R>, id: ConnId, stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let fd = stream.as_raw_fd();
    let conn = Rc::new(Conn {
        id,
        fd,
        output: RefCell::new(Vec::new()),
        writable: Signal::default(),
        resume: Signal::default(),
        closing: Cell::new(false),
        dead: Cell::new(false),
    });
    rim.open(conn.clone());
    let (read_half, write_half) = stream.into_split();
    monoio::spawn(write(conn.clone(), write_half));
    monoio::spawn(read(rim.clone(), conn, read_half));
}

async fn read<R: Rim>(rim: Rc<R>, conn: Rc<Conn>, mut half: TcpOwnedReadHalf) {
    let mut chunk: Vec<u8> = Vec::with_capacity(READ_BYTES);
    let mut pending: Vec<u8> = Vec::new();
    'connection: while !conn.dead.get() && !conn.closing.get() {
        while (conn.output.borrow().len() > OUTPUT_BYTES_HIGH || !rim.has_room()) && !conn.dead.get() && !conn.closing.get() {
            conn.resume.wait().await;
        }
        let (result, buffer) = half.read(chunk).await;
        chunk = buffer;
        match result {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
        if pending.is_empty() {
            match feed(&*rim, conn.id, &chunk) {
                Some(consumed) => pending.extend_from_slice(&chunk[consumed..]),
                None => break 'connection,
            }
        } else {
            pending.extend_from_slice(&chunk);
            match feed(&*rim, conn.id, &pending) {
                Some(consumed) => {
                    pending.drain(..consumed);
                }
                None => break 'connection,
            }
            if pending.is_empty() && pending.capacity() > BUFFER_BYTES_KEPT {
                pending = Vec::new();
            }
        }
        chunk.clear();
        rim.turn();
    }
    rim.turn();
    conn.close();
    rim.closed(conn.id);
}

/// Hands over the whole frames in `bytes`. Returns how many bytes they took; `None` when the stream is no protocol.
fn feed<R: Rim>(rim: &R, conn: ConnId, bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    while bytes.len() - at >= HEADER_BYTES {
        let limits: FrameLimits = rim.frame_limits(conn);
        match distric_wire::parse(&bytes[at..], limits) {
            Ok(Some((frame, consumed))) => {
                rim.on_frame(conn, &frame);
                at += consumed;
            }
            Ok(None) => break,
            Err(error) => {
                rim.on_frame_error(conn, &error);
                return None;
            }
        }
    }
    // A wrong magic is refused before a whole header of it has come.
    if at == 0
        && !bytes.is_empty()
        && bytes.len() < HEADER_BYTES
        && let Err(error) = distric_wire::parse(bytes, rim.frame_limits(conn))
    {
        rim.on_frame_error(conn, &error);
        return None;
    }
    Some(at)
}

async fn write(conn: Rc<Conn>, mut half: TcpOwnedWriteHalf) {
    let mut sending: Vec<u8> = Vec::new();
    loop {
        if conn.output.borrow().is_empty() {
            if conn.closing.get() || conn.dead.get() {
                break;
            }
            conn.writable.wait().await;
            continue;
        }
        std::mem::swap(&mut *conn.output.borrow_mut(), &mut sending);
        let (result, buffer) = half.write_all(sending).await;
        sending = buffer;
        if result.is_err() {
            break;
        }
        sending.clear();
        if sending.capacity() > BUFFER_BYTES_KEPT {
            sending = Vec::new();
        }
        conn.resume.set();
    }
    conn.kill();
}
