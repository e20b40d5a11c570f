//! The key file: the keys of gossip as an operator writes and distributes them, and a watch over it.
//!
//! One key a line, `ID KEY`: a number of 1 to 65,535 and 64 hexadecimal digits; `#` begins a comment. Only its owner may read the file.
//! Bounds: [`FILE_BYTES_MAX`], `distric_gossip::KEYS_MAX`.  Never: a byte of a key in an error or a log line.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::mem::MaybeUninit;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use distric_gossip::{KEY_BYTES, KEYS_MAX, KeyId, KeyRing, KeyRingError};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify;

use super::thread::{AgentCommand, AgentControl};

/// Largest key file, bytes.
pub const FILE_BYTES_MAX: u64 = 64 << 10;
/// Who may read it: its owner and nobody else.
const FILE_MODE: u32 = 0o600;

/// Why a key file is not taken.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// It cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Others than its owner may read or write it.
    #[error("{} has mode {mode:03o}: others than its owner may use it; chmod 600 it, and replace the keys if somebody may have read them", path.display())]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A line is no key.
    #[error("{}:{line}: expected an id of 1 to 65535 and {} hexadecimal digits", path.display(), 2 * KEY_BYTES)]
    Line {
        /// The file.
        path: PathBuf,
        /// 1-based.
        line: usize,
    },
    /// The keys do not go together.
    #[error("{}: {source}", path.display())]
    Ring {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: KeyRingError,
    },
    /// No greater id is left.
    #[error("{} has key 65535: no greater id is left", path.display())]
    NoIdLeft {
        /// The file.
        path: PathBuf,
    },
}

/// Reads a key file.  Errors: [`KeysError`], which names file and line and no key.
pub fn read(path: &Path) -> Result<KeyRing, KeysError> {
    ring_of(path, &text_of(path)?)
}

fn failed(path: &Path) -> impl Fn(io::Error) -> KeysError + '_ {
    move |source| KeysError::Io { path: path.to_owned(), source }
}

fn text_of(path: &Path) -> Result<String, KeysError> {
    let failed = failed(path);
    let file = File::open(path).map_err(&failed)?;
    let about = file.metadata().map_err(&failed)?;
    if !about.is_file() {
        return Err(failed(io::Error::other("not a regular file")));
    }
    // Of the file that was opened, so that nobody can exchange it in between.
    if about.mode() & 0o077 != 0 {
        return Err(KeysError::Mode { path: path.to_owned(), mode: about.mode() & 0o777 });
    }
    let mut text = String::new();
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(&failed)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(failed(io::Error::other(format!("longer than {FILE_BYTES_MAX} bytes"))));
    }
    Ok(text)
}

fn ring_of(path: &Path, text: &str) -> Result<KeyRing, KeysError> {
    let mut keys = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if !line.is_empty() {
            keys.push(key_of(line).ok_or_else(|| KeysError::Line { path: path.to_owned(), line: at + 1 })?);
        }
    }
    KeyRing::new(keys).map_err(|source| KeysError::Ring { path: path.to_owned(), source })
}

fn key_of(line: &str) -> Option<(KeyId, [u8; KEY_BYTES])> {
    let (id, digits) = line.split_once(char::is_whitespace)?;
    let digits = digits.trim().as_bytes();
    let mut bytes = [0; KEY_BYTES];
    if digits.len() != 2 * KEY_BYTES {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16);
        *byte = u8::try_from(digit(0)? * 16 + digit(1)?).ok()?;
    }
    Some((KeyId(id.parse().ok().filter(|id| *id > 0)?), bytes))
}

/// Adds a key of the system's random numbers to the file, under an id above all others there and at least `id_min`. A file that does not exist
/// is made, for its owner alone; one that does is replaced as a whole.
///
/// Returns the id.  Errors: [`KeysError`]; the file is as it was then.
pub fn add(path: &Path, id_min: u16) -> Result<KeyId, KeysError> {
    let mut text = match text_of(path) {
        Ok(text) => text,
        Err(KeysError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            "# Keys of gossip. Every node and worker of the cluster has this file, readable by its owner alone.\n".to_owned()
        }
        Err(error) => return Err(error),
    };
    let ids = match ring_of(path, &text) {
        Ok(ring) => ring.ids(),
        Err(KeysError::Ring { source: KeyRingError::Empty, .. }) => Vec::new(),
        Err(error) => return Err(error),
    };
    if ids.len() >= KEYS_MAX {
        return Err(KeysError::Ring { path: path.to_owned(), source: KeyRingError::TooMany });
    }
    let next = ids.last().map_or(Some(1), |id| id.0.checked_add(1)).map(|next| next.max(id_min));
    let id = next.ok_or_else(|| KeysError::NoIdLeft { path: path.to_owned() })?;
    let mut key = [0; KEY_BYTES];
    getrandom::fill(&mut key).map_err(|error| failed(path)(io::Error::other(error.to_string())))?;
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    let _ = write!(text, "{id} ");
    for byte in key {
        let _ = write!(text, "{byte:02x}");
    }
    text.push('\n');
    replace(path, &text).map_err(failed(path))?;
    Ok(KeyId(id))
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    let name = path.file_name().ok_or_else(|| io::Error::other("not the name of a file"))?;
    let mut temporary = name.to_owned();
    temporary.push(".new");
    let temporary = path.with_file_name(temporary);
    // A rest of an interrupted try; the mode counts only for files that are made.
    let _ = fs::remove_file(&temporary);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}

/// Watches a key file until it is dropped.
pub struct KeyWatch {
    // Its other end hears when this one closes.
    _stop: UnixStream,
}

/// Tells the agent of this number what the file says whenever that changes. A file that is not in order is told to the log, and the keys stay as
/// they are.  Errors: the system does not watch.
pub fn watch(path: &Path, known: KeyRing, agent: usize, control: AgentControl) -> io::Result<KeyWatch> {
    let dir = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    let events = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
    // Files are replaced rather than written, so the directory is watched.
    let kinds = inotify::WatchFlags::CLOSE_WRITE
        | inotify::WatchFlags::MOVED_TO
        | inotify::WatchFlags::CREATE
        | inotify::WatchFlags::ATTRIB
        | inotify::WatchFlags::ONLYDIR;
    inotify::add_watch(&events, &dir, kinds)?;
    let (stop, stopped) = UnixStream::pair()?;
    let path = path.to_owned();
    let run = move || {
        let mut known = known;
        loop {
            let mut wanted = [PollFd::new(&events, PollFlags::IN), PollFd::new(&stopped, PollFlags::IN)];
            match poll(&mut wanted, None) {
                Ok(_) if !wanted[1].revents().is_empty() => return,
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return tracing::warn!(target: "distric_core::gossip", error = %error, "the key file is not watched any more"),
            }
            let mut buffer = [MaybeUninit::uninit(); 4_096];
            let mut reader = inotify::Reader::new(&events, &mut buffer);
            while reader.next().is_ok() {}
            match read(&path) {
                Ok(ring) if ring != known => {
                    tracing::info!(target: "distric_core::gossip", event = "gossip_keys_changed", file = %path.display(), keys = ?ids(&ring), "the key file has changed");
                    control.tell(agent, AgentCommand::Keys(Box::new(ring.clone())));
                    known = ring;
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(target: "distric_core::gossip", event = "gossip_keys_refused", error = %error, "the keys stay as they are");
                }
            }
        }
    };
    std::thread::Builder::new().name("gossip-keys".to_owned()).spawn(run)?;
    Ok(KeyWatch { _stop: stop })
}

fn ids(ring: &KeyRing) -> Vec<u16> {
    ring.ids().into_iter().map(|id| id.0).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_added_to_a_file_for_its_owner_alone_and_found_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys");
        assert_eq!(add(&path, 0).unwrap(), KeyId(1));
        let first = read(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, FILE_MODE);
        assert_eq!((add(&path, 0).unwrap(), add(&path, 7).unwrap()), (KeyId(2), KeyId(7)));
        let ring = read(&path).unwrap();
        assert_eq!(ids(&ring), [1, 2, 7]);
        assert!(first != ring && fs::read_dir(dir.path()).unwrap().count() == 1, "nothing is left beside it");
        for _ in 4..=KEYS_MAX {
            add(&path, 0).unwrap();
        }
        assert!(matches!(add(&path, 0), Err(KeysError::Ring { source: KeyRingError::TooMany, .. })));
    }

    #[test]
    fn a_file_that_is_not_in_order_is_refused_with_its_name_and_line_and_no_byte_of_a_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys");
        let refusal = |text: &str, mode: u32| {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            read(&path).unwrap_err().to_string()
        };
        let key = "ab".repeat(KEY_BYTES);
        let name = path.display().to_string();
        assert!(refusal(&format!("1 {key}\n"), 0o640).contains("mode 640"));
        assert!(refusal(&format!("1 {key}\n"), 0o604).contains("chmod 600"));
        assert_eq!(
            refusal(&format!("# keys\n1 {key}\n2 {}\n", &key[1..]), 0o600),
            format!("{name}:3: expected an id of 1 to 65535 and 64 hexadecimal digits")
        );
        for wrong in [format!("0 {key}"), format!("70000 {key}"), key.clone(), format!("1 {}", "zz".repeat(KEY_BYTES)), "1".to_owned()] {
            let text = refusal(&wrong, 0o600);
            assert!(text.starts_with(&format!("{name}:1: ")) && !text.contains(&key), "{text}");
        }
        assert!(refusal("# none\n", 0o600).contains("there is no key"));
        assert!(refusal(&format!("1 {key}\n1 {key}\n"), 0o600).contains("key 1 is there twice"));
        assert!(read(&dir.path().join("none")).unwrap_err().to_string().contains("none"));
        fs::write(&path, format!("  3   {key}   # the third\n\n")).unwrap();
        assert_eq!(ids(&read(&path).unwrap()), [3]);
    }
}
