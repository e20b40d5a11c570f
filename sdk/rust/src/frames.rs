//! Frames out of a byte stream: one growing buffer, parsed in place.

use std::io;

use bytes::{Buf, BytesMut};
use distric_wire::{Frame, FrameError, FrameLimits, parse};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Room made for one read, bytes: many small replies per system call.
const READ_BYTES: usize = 64 << 10;

/// Bytes received and not yet parsed. Holds at most one frame of the limit and one read beyond it.
#[derive(Debug)]
pub(crate) struct FrameBuffer {
    bytes: BytesMut,
    /// Bytes of `bytes` that earlier frames took.
    taken: usize,
    limits: FrameLimits,
}

impl FrameBuffer {
    pub(crate) fn new(limits: FrameLimits) -> Self {
        Self { bytes: BytesMut::with_capacity(READ_BYTES), taken: 0, limits }
    }

    /// Changes the largest payload accepted.
    pub(crate) fn set_limits(&mut self, limits: FrameLimits) {
        self.limits = limits;
    }

    /// Reads once. Returns the number of bytes; zero at the end of the stream. Cancel-safe.
    ///
    /// Call it only after [`Self::next_frame`] said that it needs more.
    pub(crate) async fn fill(&mut self, from: &mut (impl AsyncRead + Unpin)) -> io::Result<usize> {
        self.bytes.advance(self.taken);
        self.taken = 0;
        self.bytes.reserve(READ_BYTES);
        from.read_buf(&mut self.bytes).await
    }

    /// The next whole frame, or `None` when more bytes are needed.
    pub(crate) fn next_frame(&mut self) -> Result<Option<Frame<'_>>, FrameError> {
        match parse(&self.bytes[self.taken..], self.limits)? {
            Some((frame, consumed)) => {
                self.taken += consumed;
                Ok(Some(frame))
            }
            None => Ok(None),
        }
    }
}
