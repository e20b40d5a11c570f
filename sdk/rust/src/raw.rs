//! A connection without a client around it: frames out, frames in, nothing kept. For load generators and tools.

use std::io;

use distric_wire::Frame;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::dial::{Caller, Connection, Welcome, dial};
use crate::error::{ConnectionError, Error, ProtocolError};
use crate::frames::FrameBuffer;
use crate::options::ClientOptions;

/// One welcomed connection. The caller encodes requests, chooses message ids and honours the credit in the [`Welcome`].
#[derive(Debug)]
pub struct RawConnection {
    connection: Connection,
}

impl RawConnection {
    /// Connects to `address`; of `options` only the name, the API key and the connect timeout matter.
    ///
    /// Errors: [`Error::Connection`], [`Error::Rejected`], [`Error::Protocol`].
    pub async fn connect(address: &str, options: &ClientOptions) -> Result<Self, Error> {
        let caller = Caller { name: &options.name, api_key: options.api_key.as_deref(), compress: false };
        Ok(Self { connection: dial(address, caller, options.connect_timeout_ms).await? })
    }

    /// What the server said about itself and the credit of this connection.
    pub fn welcome(&self) -> &Welcome {
        &self.connection.welcome
    }

    /// The two directions, to be driven from one task or from two.
    pub fn into_split(self) -> (RawReader, RawWriter) {
        let Connection { address, stream, frames, .. } = self.connection;
        let (read, write) = TcpStream::into_split(stream);
        (RawReader { address: address.clone(), stream: read, frames }, RawWriter { address, stream: write })
    }
}

/// The receiving direction of a [`RawConnection`].
#[derive(Debug)]
pub struct RawReader {
    address: String,
    stream: OwnedReadHalf,
    frames: FrameBuffer,
}

impl RawReader {
    /// Waits for bytes, then hands every whole frame received so far to `on_frame`. Returns how many bytes came; zero is the end of
    /// the stream. Cancel-safe: a cancelled call has consumed nothing.
    ///
    /// Errors: [`Error::Connection`] when reading fails, [`Error::Protocol`] on a frame that is not one.
    pub async fn read_frames(&mut self, mut on_frame: impl FnMut(Frame<'_>)) -> Result<usize, Error> {
        let count = self.frames.fill(&mut self.stream).await.map_err(|e| ConnectionError::new(&self.address, "read from", e))?;
        while let Some(frame) = self.frames.next_frame().map_err(ProtocolError::from)? {
            on_frame(frame);
        }
        Ok(count)
    }
}

/// The sending direction of a [`RawConnection`].
#[derive(Debug)]
pub struct RawWriter {
    address: String,
    stream: OwnedWriteHalf,
}

impl RawWriter {
    /// Sends whole, encoded frames. Not cancel-safe: dropped half-way, the stream is out of step.
    ///
    /// Errors: [`Error::Connection`].
    pub async fn write_all(&mut self, frames: &[u8]) -> Result<(), Error> {
        self.stream.write_all(frames).await.map_err(|e| ConnectionError::new(&self.address, "write to", e).into())
    }

    /// Sends what the socket takes now, without waiting. Returns how many bytes; zero when it takes none.
    ///
    /// Errors: [`Error::Connection`].
    pub fn try_write(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        match self.stream.try_write(bytes) {
            Ok(count) => Ok(count),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(0),
            Err(e) => Err(ConnectionError::new(&self.address, "write to", e).into()),
        }
    }

    /// Waits until the socket takes bytes. Cancel-safe.
    ///
    /// Errors: [`Error::Connection`].
    pub async fn writable(&self) -> Result<(), Error> {
        self.stream.writable().await.map_err(|e| ConnectionError::new(&self.address, "write to", e).into())
    }
}
