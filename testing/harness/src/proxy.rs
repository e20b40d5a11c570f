//! A proxy between coordinators that breaks what it carries: delay, loss, cuts in one direction or both.
//!
//! Each node has a proxy of its own and gives its address to the others (`peer.advertise`), so that everything that is said to the node comes
//! through here. Who says it stands in the first frame of the connection, a PeerHello; so each ordered pair of nodes has a fate of its own.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use distric_wire::peer::PeerHello;
use distric_wire::{FrameLimits, Message, parse};
use uuid::Uuid;

/// Bytes that are carried in one piece.
const CHUNK_BYTES: usize = 64 << 10;
/// How often a connection that is silent looks whether its fate has changed.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// The longest first frame that is waited for, bytes.
const HELLO_BYTES_MAX: usize = 64 << 10;

/// What happens to what one node says to another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fate {
    /// It arrives.
    #[default]
    Open,
    /// It arrives this much later.
    Late(Duration),
    /// It vanishes, and the connection looks alive: a network that drops every packet. A connection that lost something breaks when its fate
    /// changes, for a stream with a hole in it is nothing that TCP delivers.
    Lost,
    /// The connection breaks, and no new one comes about.
    Cut,
}

/// The fates of a cluster: who says something, and the proxy that it goes through.
#[derive(Clone, Debug, Default)]
pub struct Fates(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    pairs: BTreeMap<(Uuid, usize), Fate>,
    all: Fate,
}

impl Fates {
    /// What `from` says to the node behind the proxy `to` has this fate from now on.
    pub fn set(&self, from: Uuid, to: usize, fate: Fate) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pairs.insert((from, to), fate);
    }

    /// Everything has this fate, but for pairs with one of their own.
    pub fn set_all(&self, fate: Fate) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).all = fate;
    }

    /// Everything arrives again.
    pub fn heal(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Table::default();
    }

    fn of(&self, from: Option<Uuid>, to: usize) -> Fate {
        let table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        from.and_then(|from| table.pairs.get(&(from, to))).copied().unwrap_or(table.all)
    }
}

/// One node's proxy. Its threads end with their connections; the listener ends with the process.
#[derive(Debug)]
pub struct Proxy {
    /// Where it listens: what the node gives out as its own address.
    pub address: SocketAddr,
    target: Arc<Mutex<Option<SocketAddr>>>,
}

impl Proxy {
    /// A proxy for the node with this number. It refuses everything until it knows where the node is.
    pub fn start(number: usize, fates: &Fates) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let target: Arc<Mutex<Option<SocketAddr>>> = Arc::default();
        let (fates, towards) = (fates.clone(), Arc::clone(&target));
        thread::spawn(move || {
            for caller in listener.incoming().flatten() {
                let target = *towards.lock().unwrap_or_else(PoisonError::into_inner);
                let fates = fates.clone();
                thread::spawn(move || target.map(|target| carry(caller, target, number, &fates)));
            }
        });
        Self { address, target }
    }

    /// Where the node is now.
    pub fn lead_to(&self, target: SocketAddr) {
        *self.target.lock().unwrap_or_else(PoisonError::into_inner) = Some(target);
    }
}

/// Carries one connection until either side or its fate ends it.
fn carry(mut caller: TcpStream, target: SocketAddr, to: usize, fates: &Fates) -> Option<()> {
    let mut hello = Vec::new();
    let from = first_speaker(&mut caller, &mut hello)?;
    if fates.of(from, to) == Fate::Cut {
        return None;
    }
    let mut host = TcpStream::connect(target).ok()?;
    host.set_nodelay(true).ok()?;
    caller.set_nodelay(true).ok()?;
    host.write_all(&hello).ok()?;
    let (back_from, back_to) = (host.try_clone().ok()?, caller.try_clone().ok()?);
    let of_back = fates.clone();
    // What the host answers on this connection shares its fate.
    thread::spawn(move || pump(back_from, back_to, || of_back.of(from, to)));
    pump(caller, host, || fates.of(from, to));
    Some(())
}

/// Reads the first frame, and says whose it is when it is a PeerHello.
fn first_speaker(caller: &mut TcpStream, hello: &mut Vec<u8>) -> Option<Option<Uuid>> {
    let mut chunk = [0; 4_096];
    loop {
        match parse(hello, FrameLimits::UNAUTHENTICATED) {
            Ok(Some((frame, _))) if frame.header.message_type == PeerHello::TYPE => {
                return Some(PeerHello::decode(frame.payload).ok().map(|hello| hello.node_id));
            }
            Ok(None) if hello.len() < HELLO_BYTES_MAX => {}
            // Not a peer: it is carried all the same.
            _ => return Some(None),
        }
        match caller.read(&mut chunk) {
            Ok(read @ 1..) => hello.extend_from_slice(&chunk[..read]),
            _ => return None,
        }
    }
}

fn pump(mut from: TcpStream, mut to: TcpStream, fate: impl Fn() -> Fate) {
    let mut chunk = vec![0; CHUNK_BYTES];
    from.set_read_timeout(Some(LOOK_EVERY)).expect("a timeout above zero is legal");
    let mut has_hole = false;
    loop {
        let read = match from.read(&mut chunk) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => 0,
            Err(_) => break,
        };
        let written = match fate() {
            Fate::Cut => break,
            Fate::Lost => {
                has_hole |= read > 0;
                Ok(())
            }
            _ if has_hole => break,
            Fate::Late(delay) if read > 0 => {
                thread::sleep(delay);
                to.write_all(&chunk[..read])
            }
            Fate::Late(_) | Fate::Open => to.write_all(&chunk[..read]),
        };
        if written.is_err() {
            break;
        }
    }
    // An error means that the other side was faster.
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

#[cfg(test)]
mod tests {
    use super::*;
    use distric_wire::{Flags, encode};

    /// A host that says back what it hears, and a caller that said hello through the proxy.
    fn called(fates: &Fates, from: Uuid) -> (Proxy, TcpStream) {
        let host = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Proxy::start(1, fates);
        proxy.lead_to(host.local_addr().unwrap());
        thread::spawn(move || {
            for mut stream in host.incoming().flatten() {
                thread::spawn(move || {
                    let mut copy = stream.try_clone().unwrap();
                    let _ = std::io::copy(&mut stream, &mut copy);
                });
            }
        });
        let mut caller = TcpStream::connect(proxy.address).unwrap();
        let mut bytes = Vec::new();
        encode(&PeerHello { node_id: from, member: b"m", ..PeerHello::default() }, 1, 1, Flags::NONE, &mut bytes);
        caller.write_all(&bytes).unwrap();
        caller.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        if fates.of(Some(from), 1) == Fate::Open {
            let mut back = vec![0; bytes.len()];
            caller.read_exact(&mut back).unwrap();
            assert_eq!(back, bytes);
        }
        (proxy, caller)
    }

    #[test]
    fn each_pair_has_its_fate_and_heals() {
        let fates = Fates::default();
        let (a, b) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let (_proxy, mut caller) = called(&fates, a);
        fates.set(b, 1, Fate::Cut);
        let mut byte = [0];
        caller.write_all(b"x").unwrap();
        caller.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"x", "another node's fate is not this one's");

        fates.set(a, 1, Fate::Lost);
        caller.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        caller.write_all(b"y").unwrap();
        assert!(caller.read_exact(&mut byte).is_err());
        fates.heal();
        caller.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        assert!(matches!(caller.read(&mut byte), Ok(0) | Err(_)), "a stream with a hole breaks");

        let (_proxy, mut caller) = called(&fates, a);
        fates.set(a, 1, Fate::Cut);
        assert!(matches!(caller.read(&mut byte), Ok(0) | Err(_)), "a cut breaks the connection");
        let (_other, mut refused) = called(&fates, a);
        assert!(matches!(refused.read(&mut byte), Ok(0) | Err(_)), "and no new one comes about");
    }
}
