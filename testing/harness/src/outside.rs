//! The world outside: an HTTP server to which tasks deliver. It takes its time and keeps books by idempotency key.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// Largest delivery that is read, bytes; a longer one ends its connection.
const DELIVERY_BYTES_MAX: usize = 1 << 20;

/// Deliveries by idempotency key: how many came under it.
type Books = Arc<Mutex<BTreeMap<String, u32>>>;

/// See the module. Serves until the process ends.
#[derive(Debug)]
pub struct Outside {
    /// Its port on 127.0.0.1.
    pub port: u16,
    books: Books,
}

impl Outside {
    /// Starts one whose every effect takes so long. Panics when loopback has no free port.
    pub fn start(effect: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let port = listener.local_addr().expect("a bound listener has an address").port();
        let books = Books::default();
        let kept = books.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let books = kept.clone();
                thread::spawn(move || serve(stream, effect, &books));
            }
        });
        Self { port, books }
    }

    /// How many deliveries came, by idempotency key. One is entered when its effect is done, whether its answer is heard or not.
    pub fn deliveries(&self) -> BTreeMap<String, u32> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn serve(stream: TcpStream, effect: Duration, books: &Books) {
    let mut reader = BufReader::new(stream);
    while let Some(key) = read(&mut reader) {
        thread::sleep(effect);
        *books.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default() += 1;
        if reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-type: application/json\r\n\r\n{}").is_err() {
            return;
        }
    }
}

/// Reads one delivery. Returns its key; nothing when the connection has ended, or has sent what is no delivery.
fn read(reader: &mut impl BufRead) -> Option<String> {
    let (mut key, mut length, mut line) = (None, 0, String::new());
    loop {
        line.clear();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return None;
        }
        let Some((name, value)) = line.trim_end().split_once(':') else {
            if line.trim_end().is_empty() {
                break;
            }
            continue;
        };
        match name.to_ascii_lowercase().as_str() {
            "idempotency-key" => key = Some(value.trim().to_owned()),
            "content-length" => length = value.trim().parse().ok().filter(|length| *length <= DELIVERY_BYTES_MAX)?,
            _ => {}
        }
    }
    reader.read_exact(&mut vec![0; length]).ok()?;
    key
}
