//! The webhook receiver of the demo: an HTTP server on loopback that fails at first, refuses some for good, and keeps books.
//!
//! In: `POST`s with a JSON body `{"effect", "reference", …}` and an `Idempotency-Key`.  Out: statuses; a [`Ledger`] at the end.
//! Invariant: a key that was accepted once is answered 200 for ever and counted once.
//! Which references fail is a function of the reference, so that [`super::expected`] can say beforehand what must come out.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// Largest request head, bytes.
const HEAD_BYTES_MAX: u64 = 16 << 10;
/// Largest request body, bytes.
const BODY_BYTES_MAX: usize = 1 << 20;
/// The first deliveries of a run are all turned away, as by a receiver that is still starting.
pub const DELIVERIES_FAILING_AT_FIRST: u64 = 25;
/// A flaky reference is turned away so many times before it is accepted.
pub const FLAKY_REFUSALS: u32 = 2;

/// Whether the receiver turns this reference away at first. One in nine.
pub fn is_flaky(reference: &str) -> bool {
    fnv1a(reference).is_multiple_of(9)
}

/// Whether the receiver refuses this for good. One refund in eight.
pub fn is_refused(effect: &str, reference: &str) -> bool {
    effect == "refund" && fnv1a(reference) % 8 == 3
}

/// FNV-1a, finished so that the low bits depend on every byte.
fn fnv1a(text: &str) -> u64 {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    hash ^ (hash >> 32)
}

/// What an effect is called in the world outside: its kind and what it is about.
pub type EffectName = (String, String);

/// One idempotency key as the receiver saw it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyRecord {
    /// What it is about.
    pub effect: EffectName,
    /// Deliveries with this key.
    pub deliveries: u32,
    /// Whether it was accepted.
    pub accepted: bool,
    /// Whether it was refused for good.
    pub refused: bool,
}

/// The receiver's books.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// All deliveries.
    pub deliveries: u64,
    /// Deliveries answered 503.
    pub turned_away: u64,
    /// Deliveries answered 422.
    pub refused: u64,
    /// Deliveries of a key that had been accepted before.
    pub suppressed: u64,
    /// Requests that were no deliveries.
    pub malformed: u64,
    /// By idempotency key.
    pub keys: BTreeMap<String, KeyRecord>,
}

impl Ledger {
    /// Judges one delivery and returns the status of the answer.
    fn deliver(&mut self, key: &str, effect: EffectName) -> u16 {
        self.deliveries += 1;
        let starting = self.deliveries <= DELIVERIES_FAILING_AT_FIRST;
        let record = self.keys.entry(key.to_owned()).or_insert_with(|| KeyRecord { effect: effect.clone(), ..KeyRecord::default() });
        record.deliveries += 1;
        if record.effect != effect {
            // One key for two things would hide a doubled effect from the books.
            self.malformed += 1;
            return 409;
        }
        if record.accepted {
            self.suppressed += 1;
            return 200;
        }
        if is_refused(&effect.0, &effect.1) {
            record.refused = true;
            self.refused += 1;
            return 422;
        }
        if starting || is_flaky(&effect.1) && record.deliveries <= FLAKY_REFUSALS {
            self.turned_away += 1;
            return 503;
        }
        record.accepted = true;
        200
    }
}

/// A running receiver. It ends with the runtime.
pub struct Receiver {
    /// Where it listens.
    pub address: SocketAddr,
    ledger: Arc<Mutex<Ledger>>,
}

impl Receiver {
    /// Starts on a free port of the loopback. Must be called within a tokio runtime.
    pub async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let ledger = Arc::new(Mutex::new(Ledger::default()));
        let books = Arc::clone(&ledger);
        tokio::spawn(async move {
            // An accept that fails (too many open files) would fail again at once: the demo then ends by its deadline and says so.
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&books)));
            }
        });
        Ok(Self { address, ledger })
    }

    /// A copy of the books.
    pub fn ledger(&self) -> Ledger {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Deliveries so far.
    pub fn deliveries(&self) -> u64 {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner).deliveries
    }
}

/// One connection, kept open as long as the client wants.
async fn serve(stream: TcpStream, ledger: Arc<Mutex<Ledger>>) {
    let _ = stream.set_nodelay(true);
    let mut stream = BufReader::new(stream);
    while let Ok(Some((key, body))) = read_request(&mut stream).await {
        let effect = effect_of(&body);
        let status = {
            let mut ledger = ledger.lock().unwrap_or_else(PoisonError::into_inner);
            match (key, effect) {
                (Some(key), Some(effect)) => ledger.deliver(&key, effect),
                _ => {
                    ledger.malformed += 1;
                    400
                }
            }
        };
        let answer = match status {
            200 => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: application/json\r\n\r\n{}",
            503 => "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy",
            422 => "HTTP/1.1 422 Unprocessable Content\r\nContent-Length: 7\r\n\r\nrefused",
            409 => "HTTP/1.1 409 Conflict\r\nContent-Length: 0\r\n\r\n",
            _ => "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
        };
        if stream.write_all(answer.as_bytes()).await.is_err() {
            break;
        }
    }
}

fn effect_of(body: &[u8]) -> Option<EffectName> {
    let body: Value = serde_json::from_slice(body).ok()?;
    Some((body.get("effect")?.as_str()?.to_owned(), body.get("reference")?.as_str()?.to_owned()))
}

/// Reads one request: its idempotency key and its body. `None`: the client has closed, or speaks something else.
async fn read_request(stream: &mut BufReader<TcpStream>) -> io::Result<Option<(Option<String>, Vec<u8>)>> {
    let (mut key, mut body_bytes, mut head_bytes) = (None, 0, 0);
    let mut line = String::new();
    loop {
        line.clear();
        let read = (&mut *stream).take(HEAD_BYTES_MAX - head_bytes).read_line(&mut line).await?;
        head_bytes += read as u64;
        if read == 0 || head_bytes >= HEAD_BYTES_MAX {
            return Ok(None);
        }
        let text = line.trim_end();
        if text.is_empty() {
            break;
        }
        if let Some((name, value)) = text.split_once(':') {
            match name.to_ascii_lowercase().as_str() {
                "content-length" => body_bytes = value.trim().parse().unwrap_or(usize::MAX),
                "idempotency-key" => key = Some(value.trim().to_owned()),
                _ => {}
            }
        }
    }
    if body_bytes > BODY_BYTES_MAX {
        return Ok(None);
    }
    let mut body = vec![0; body_bytes];
    stream.read_exact(&mut body).await?;
    Ok(Some((key, body)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(effect: &str, reference: &str) -> EffectName {
        (effect.to_owned(), reference.to_owned())
    }

    #[test]
    fn a_key_is_accepted_once_and_repeats_are_suppressed() {
        let mut ledger = Ledger { deliveries: DELIVERIES_FAILING_AT_FIRST, ..Ledger::default() };
        let reference = (0..).map(|i| format!("r{i}")).find(|r| !is_flaky(r)).unwrap();
        assert_eq!([ledger.deliver("k", name("receipt", &reference)), ledger.deliver("k", name("receipt", &reference))], [200, 200]);
        assert_eq!((ledger.suppressed, ledger.keys["k"].deliveries), (1, 2));
        assert_eq!(ledger.deliver("k", name("receipt", "another")), 409);
    }

    #[test]
    fn flaky_references_fail_at_first_and_refused_ones_for_ever() {
        let mut ledger = Ledger { deliveries: DELIVERIES_FAILING_AT_FIRST, ..Ledger::default() };
        let flaky = (0..).map(|i| format!("r{i}")).find(|r| is_flaky(r)).unwrap();
        let statuses: Vec<u16> = (0..3).map(|_| ledger.deliver("f", name("receipt", &flaky))).collect();
        assert_eq!(statuses, [503, 503, 200]);
        let refused = (0..).map(|i| format!("r{i}")).find(|r| is_refused("refund", r)).unwrap();
        assert_eq!([ledger.deliver("r", name("refund", &refused)), ledger.deliver("r", name("refund", &refused))], [422, 422]);
        assert!(!is_refused("receipt", &refused));
    }

    #[tokio::test]
    async fn it_speaks_http_with_kept_connections() {
        let receiver = Receiver::start().await.unwrap();
        let mut stream = TcpStream::connect(receiver.address).await.unwrap();
        let body = r#"{"effect":"receipt","reference":"a"}"#;
        for _ in 0..2 {
            let request = format!("POST /x HTTP/1.1\r\nHost: a\r\nIdempotency-Key: k\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = [0; 12];
            stream.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"HTTP/1.1 503");
            let mut rest = [0; "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy".len() - 12];
            stream.read_exact(&mut rest).await.unwrap();
        }
        assert_eq!((receiver.deliveries(), receiver.ledger().keys["k"].deliveries), (2, 2));
    }
}
