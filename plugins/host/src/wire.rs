//! What worker and child say to each other: frames of a length, a kind and fields. Pure.
//!
//! The child's side may have been overwritten by its plugin: everything that comes from there is checked like bytes of a stranger.
//! All numbers are little-endian. Both ends are the same build, so there is no version.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::call::{Call, Failed, LogLevel};
use crate::program::{Fate, Order, ProgramSpec, Run};
use crate::spec::{Grants, Isolation, Limits, Spec};

/// Bytes before the body: its length with the kind, and the kind.
pub(crate) const HEAD_BYTES: usize = 5;
/// Longest text of a log line, a progress or a failure, bytes; longer ones are cut.
pub(crate) const WORDS_BYTES_MAX: usize = 4_096;
/// Most bytes of an answer beside the output itself.
const ANSWER_EXTRA_BYTES_MAX: usize = 4 * WORDS_BYTES_MAX;

/// To the child.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ToChild {
    /// The first frame: who to become.
    Start(Box<Spec>),
    /// One attempt.
    Call(Box<Call>),
    /// The result of the running attempt is not wanted any more.
    Cancel,
    /// The first frame: which program to look after.
    Run(Box<Order>),
}

/// From the child.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum FromChild {
    /// The plugin is loaded; how far the process is shut in, and what is missing for the next level.
    Ready { name: String, version: String, isolation: Isolation, lacks: String },
    /// It cannot be used.
    Refused(String),
    /// One log line.
    Log { level: LogLevel, text: String },
    /// How far the attempt is.
    Progress { fraction: f64, text: String },
    /// The attempt's output.
    Completed(Vec<u8>),
    /// The attempt failed.
    Failed(Failed),
    /// The program's process, which leads its group, is about to become the program.
    Entered { pid: u64, isolation: Isolation, lacks: String },
    /// Nothing of the program is alive any more.
    Fate { fate: Fate, output: Vec<u8> },
}

/// Bytes that are no frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    /// Longer than any answer may be.
    #[error("a frame of {bytes} bytes, at most {max}")]
    TooLong { bytes: usize, max: usize },
    /// A kind that does not exist.
    #[error("a frame of unknown kind {0}")]
    UnknownKind(u8),
    /// Its fields do not fill it.
    #[error("a frame of kind {0} whose fields do not fit")]
    BadBody(u8),
}

/// Largest frame that a child with this limit of output may send.
pub(crate) fn from_child_bytes_max(output_bytes: usize) -> usize {
    output_bytes + ANSWER_EXTRA_BYTES_MAX
}

/// At most [`WORDS_BYTES_MAX`] bytes of a text.
pub(crate) fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(WORDS_BYTES_MAX)]
}

/// A frame's kind, its body, and its length with the head.
pub(crate) type Frame<'a> = (u8, &'a [u8], usize);

/// Splits the first whole frame off. `None`: more bytes are needed.
pub(crate) fn split(bytes: &[u8], bytes_max: usize) -> Result<Option<Frame<'_>>, FrameError> {
    let Some(head) = bytes.first_chunk::<HEAD_BYTES>() else { return Ok(None) };
    let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
    if length > bytes_max {
        return Err(FrameError::TooLong { bytes: length, max: bytes_max });
    }
    let whole = HEAD_BYTES + length;
    Ok(bytes.get(HEAD_BYTES..whole).map(|body| (head[4], body, whole)))
}

impl ToChild {
    /// Appends the frame.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Start(spec) => frame(out, 1, |w| put_spec(w, spec)),
            Self::Call(call) => encode_call(call, out),
            Self::Cancel => frame(out, 3, |_| {}),
            Self::Run(order) => frame(out, 4, |w| put_order(w, order)),
        }
    }

    /// Reads a frame's body.
    pub(crate) fn decode(kind: u8, body: &[u8]) -> Result<Self, FrameError> {
        let mut r = Reader(body);
        let read = match kind {
            1 => spec(&mut r).map(|spec| Self::Start(Box::new(spec))),
            2 => call(&mut r).map(|call| Self::Call(Box::new(call))),
            3 => Some(Self::Cancel),
            4 => order(&mut r).map(|order| Self::Run(Box::new(order))),
            _ => return Err(FrameError::UnknownKind(kind)),
        };
        read.filter(|_| r.0.is_empty()).ok_or(FrameError::BadBody(kind))
    }
}

/// Appends the frame of a call, without taking it.
pub(crate) fn encode_call(call: &Call, out: &mut Vec<u8>) {
    frame(out, 2, |w| {
        let texts = [
            &call.task_id,
            &call.instance_id,
            &call.task,
            &call.workflow,
            &call.namespace,
            &call.idempotency_key,
            &call.traceparent,
            &call.config_json,
        ];
        texts.into_iter().for_each(|text| put_bytes(w, text.as_bytes()));
        put_u64(w, call.fencing_token);
        put_u64(w, call.attempt.into());
        put_u64(w, call.timeout_ms);
        put_bytes(w, &call.input);
    });
}

impl FromChild {
    /// Appends the frame. Words are cut to their limit; the output is not, its caller has checked it.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Ready { name, version, isolation, lacks } => frame(out, 1, |w| {
                put_words(w, name);
                put_words(w, version);
                put_words(w, isolation.name());
                put_words(w, lacks);
            }),
            Self::Refused(reason) => frame(out, 2, |w| put_words(w, reason)),
            Self::Log { level, text } => frame(out, 3, |w| {
                w.push(level.number());
                put_words(w, text);
            }),
            Self::Progress { fraction, text } => frame(out, 4, |w| {
                put_u64(w, fraction.to_bits());
                put_words(w, text);
            }),
            Self::Completed(output) => frame(out, 5, |w| w.extend_from_slice(output)),
            Self::Failed(failed) => frame(out, 6, |w| {
                put_words(w, &failed.code);
                put_words(w, &failed.message);
                w.push(failed.retryable.into());
                put_u64(w, failed.retry_after_ms.map_or(0, |ms| ms.saturating_add(1)));
            }),
            Self::Entered { pid, isolation, lacks } => frame(out, 7, |w| {
                put_u64(w, *pid);
                put_words(w, isolation.name());
                put_words(w, lacks);
            }),
            Self::Fate { fate, output } => frame(out, 8, |w| {
                let (tag, status) = match fate {
                    Fate::Ended(status) => (0, *status),
                    Fate::Stopped => (1, 0),
                    Fate::OutputTooLarge => (2, 0),
                    Fate::TooManyProcesses => (3, 0),
                };
                w.push(tag);
                put_u64(w, status.cast_unsigned().into());
                w.extend_from_slice(output);
            }),
        }
    }

    /// Reads a frame's body.
    pub(crate) fn decode(kind: u8, body: &[u8]) -> Result<Self, FrameError> {
        let mut r = Reader(body);
        let read = match kind {
            1 => ready(&mut r),
            2 => r.text().map(Self::Refused),
            3 => r.u8().zip(r.text()).map(|(level, text)| Self::Log { level: LogLevel::of_number(level.into()), text }),
            4 => r.u64().zip(r.text()).map(|(bits, text)| Self::Progress { fraction: f64::from_bits(bits), text }),
            5 => Some(Self::Completed(std::mem::take(&mut r.0).to_vec())),
            6 => failed(&mut r).map(Self::Failed),
            7 => entered(&mut r),
            8 => fate(&mut r),
            _ => return Err(FrameError::UnknownKind(kind)),
        };
        read.filter(|_| r.0.is_empty()).ok_or(FrameError::BadBody(kind))
    }
}

fn ready(r: &mut Reader<'_>) -> Option<FromChild> {
    let (name, version) = (r.text()?, r.text()?);
    Some(FromChild::Ready { name, version, isolation: Isolation::of_name(&r.text()?)?, lacks: r.text()? })
}

fn failed(r: &mut Reader<'_>) -> Option<Failed> {
    let (code, message, retryable) = (r.text()?, r.text()?, r.u8()? != 0);
    Some(Failed { code, message, retryable, retry_after_ms: r.u64()?.checked_sub(1) })
}

fn entered(r: &mut Reader<'_>) -> Option<FromChild> {
    Some(FromChild::Entered { pid: r.u64()?, isolation: Isolation::of_name(&r.text()?)?, lacks: r.text()? })
}

fn fate(r: &mut Reader<'_>) -> Option<FromChild> {
    let (tag, status) = (r.u8()?, u32::try_from(r.u64()?).ok()?.cast_signed());
    let fate = match tag {
        0 => Fate::Ended(status),
        1 => Fate::Stopped,
        2 => Fate::OutputTooLarge,
        3 => Fate::TooManyProcesses,
        _ => return None,
    };
    Some(FromChild::Fate { fate, output: std::mem::take(&mut r.0).to_vec() })
}

fn call(r: &mut Reader<'_>) -> Option<Call> {
    Some(Call {
        task_id: r.text()?,
        instance_id: r.text()?,
        task: r.text()?,
        workflow: r.text()?,
        namespace: r.text()?,
        idempotency_key: r.text()?,
        traceparent: r.text()?,
        config_json: r.text()?,
        fencing_token: r.u64()?,
        attempt: u32::try_from(r.u64()?).ok()?,
        timeout_ms: r.u64()?,
        input: r.bytes()?.to_vec(),
    })
}

fn put_spec(w: &mut Vec<u8>, spec: &Spec) {
    put_path(w, &spec.path);
    put_bytes(w, spec.config_json.as_bytes());
    let l = &spec.limits;
    for number in [
        l.memory_bytes,
        l.cpu_s,
        l.files,
        l.file_bytes,
        l.output_bytes as u64,
        l.timeout_ms,
        l.start_timeout_ms,
        l.processes as u64,
        l.calls_per_process,
    ] {
        put_u64(w, number);
    }
    let g = &spec.grants;
    for paths in [&g.read, &g.write] {
        put_u64(w, paths.len() as u64);
        paths.iter().for_each(|path| put_path(w, path));
    }
    w.push(g.network.into());
    w.push(g.threads.into());
    put_pairs(w, &g.secrets);
    put_words(w, spec.isolation_required.name());
}

fn spec(r: &mut Reader<'_>) -> Option<Spec> {
    let (path, config_json) = (r.path()?, r.text()?);
    let limits = Limits {
        memory_bytes: r.u64()?,
        cpu_s: r.u64()?,
        files: r.u64()?,
        file_bytes: r.u64()?,
        output_bytes: r.u64()? as usize,
        timeout_ms: r.u64()?,
        start_timeout_ms: r.u64()?,
        processes: r.u64()? as usize,
        calls_per_process: r.u64()?,
    };
    let mut paths = [Vec::new(), Vec::new()];
    for list in &mut paths {
        for _ in 0..r.u64()? {
            list.push(r.path()?);
        }
    }
    let [read, write] = paths;
    let (network, threads) = (r.u8()? != 0, r.u8()? != 0);
    let secrets = r.pairs()?;
    let isolation_required = Isolation::of_name(&r.text()?)?;
    Some(Spec { path, config_json, limits, grants: Grants { read, write, network, threads, secrets }, isolation_required })
}

fn put_order(w: &mut Vec<u8>, order: &Order) {
    let (program, run) = (&order.program, &order.run);
    put_spec(w, &program.spec);
    for texts in [&program.arguments, &run.arguments] {
        put_u64(w, texts.len() as u64);
        texts.iter().for_each(|text| put_bytes(w, text.as_bytes()));
    }
    put_u64(w, program.processes as u64);
    put_u64(w, program.runs.len() as u64);
    program.runs.iter().for_each(|path| put_path(w, path));
    put_pairs(w, &run.environment);
    put_bytes(w, &run.input);
    put_u64(w, run.timeout_ms);
    w.push(order.is_rehearsal.into());
}

fn order(r: &mut Reader<'_>) -> Option<Order> {
    let spec = spec(r)?;
    let mut texts = [Vec::new(), Vec::new()];
    for list in &mut texts {
        for _ in 0..r.u64()? {
            list.push(r.text()?);
        }
    }
    let [before, arguments] = texts;
    let processes = r.u64()? as usize;
    let mut runs = Vec::new();
    for _ in 0..r.u64()? {
        runs.push(r.path()?);
    }
    let program = ProgramSpec { spec, arguments: before, processes, runs };
    let run = Run { arguments, environment: r.pairs()?, input: r.bytes()?.to_vec(), timeout_ms: r.u64()? };
    Some(Order { program, run, is_rehearsal: r.u8()? != 0 })
}

fn frame(out: &mut Vec<u8>, kind: u8, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0, 0, 0, 0, kind]);
    body(out);
    let length = (out.len() - start - HEAD_BYTES) as u32;
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
}

fn put_u64(w: &mut Vec<u8>, number: u64) {
    w.extend_from_slice(&number.to_le_bytes());
}

fn put_bytes(w: &mut Vec<u8>, bytes: &[u8]) {
    w.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    w.extend_from_slice(bytes);
}

fn put_pairs(w: &mut Vec<u8>, pairs: &BTreeMap<String, String>) {
    put_u64(w, pairs.len() as u64);
    for (name, value) in pairs {
        put_bytes(w, name.as_bytes());
        put_bytes(w, value.as_bytes());
    }
}

fn put_words(w: &mut Vec<u8>, text: &str) {
    put_bytes(w, cut(text).as_bytes());
}

fn put_path(w: &mut Vec<u8>, path: &std::path::Path) {
    put_bytes(w, path.as_os_str().as_encoded_bytes());
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn u8(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn u64(&mut self) -> Option<u64> {
        let (first, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*first))
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.0.split_first_chunk::<4>()?;
        let (bytes, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        self.0 = rest;
        Some(bytes)
    }

    fn text(&mut self) -> Option<String> {
        self.bytes().map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    }

    fn pairs(&mut self) -> Option<BTreeMap<String, String>> {
        let mut pairs = BTreeMap::new();
        for _ in 0..self.u64()? {
            pairs.insert(self.text()?, self.text()?);
        }
        Some(pairs)
    }

    fn path(&mut self) -> Option<PathBuf> {
        use std::os::unix::ffi::OsStrExt as _;
        self.bytes().map(|bytes| PathBuf::from(std::ffi::OsStr::from_bytes(bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to_child() -> Vec<ToChild> {
        let mut spec = Spec { path: "/p/a.so".into(), config_json: r#"{"a":1}"#.to_owned(), ..Spec::default() };
        spec.grants.read.push("/data".into());
        spec.grants.secrets.insert("A".to_owned(), "b".to_owned());
        spec.isolation_required = Isolation::Full;
        let call = Call { task_id: "t".to_owned(), attempt: 2, fencing_token: 9, input: b"{}".to_vec(), ..Call::default() };
        let program = ProgramSpec { spec: spec.clone(), arguments: vec!["-v".to_owned()], processes: 3, runs: vec!["/bin".into()] };
        let environment = BTreeMap::from([("A".to_owned(), "b c".to_owned())]);
        let run = Run { arguments: vec![String::new(), "é".to_owned()], environment, input: b"[]".to_vec(), timeout_ms: 7 };
        let order = Order { program, run, is_rehearsal: true };
        vec![ToChild::Start(Box::new(spec)), ToChild::Call(Box::new(call)), ToChild::Cancel, ToChild::Run(Box::new(order))]
    }

    fn from_child() -> Vec<FromChild> {
        vec![
            FromChild::Ready { name: "a".to_owned(), version: "1".to_owned(), isolation: Isolation::Syscalls, lacks: "x".to_owned() },
            FromChild::Refused("no".to_owned()),
            FromChild::Log { level: LogLevel::Warn, text: "é".to_owned() },
            FromChild::Progress { fraction: 0.5, text: String::new() },
            FromChild::Completed(b"[1]".to_vec()),
            FromChild::Failed(Failed { code: "c".to_owned(), message: "m".to_owned(), retryable: true, retry_after_ms: Some(0) }),
            FromChild::Entered { pid: 4_194_304, isolation: Isolation::Full, lacks: String::new() },
            FromChild::Fate { fate: Fate::Ended(0x7f00), output: b"[1]".to_vec() },
            FromChild::Fate { fate: Fate::TooManyProcesses, output: Vec::new() },
        ]
    }

    #[test]
    fn every_frame_comes_back_and_no_shorter_one_does() {
        let mut frames = Vec::new();
        for message in to_child() {
            let mut bytes = Vec::new();
            message.encode(&mut bytes);
            let (kind, body, whole) = split(&bytes, 1 << 20).unwrap().unwrap();
            assert_eq!((ToChild::decode(kind, body), whole), (Ok(message), bytes.len()));
            frames.push((bytes, true));
        }
        for message in from_child() {
            let mut bytes = Vec::new();
            message.encode(&mut bytes);
            let (kind, body, whole) = split(&bytes, 1 << 20).unwrap().unwrap();
            assert_eq!((FromChild::decode(kind, body), whole), (Ok(message), bytes.len()));
            frames.push((bytes, false));
        }
        for (bytes, to_child) in frames {
            for end in 0..bytes.len() {
                assert_eq!(split(&bytes[..end], 1 << 20), Ok(None));
                // Cut bodies are refused, or (of an output) shorter; never a panic.
                if let Some(body) = bytes.get(HEAD_BYTES..end) {
                    if to_child { drop(ToChild::decode(bytes[4], body)) } else { drop(FromChild::decode(bytes[4], body)) }
                }
            }
        }
    }

    #[test]
    fn bytes_of_a_stranger_are_refused() {
        assert_eq!(split(&[255, 255, 255, 127, 5, 0], 10), Err(FrameError::TooLong { bytes: 0x7fff_ffff, max: 10 }));
        assert_eq!(FromChild::decode(9, &[]), Err(FrameError::UnknownKind(9)));
        assert_eq!(FromChild::decode(6, &[255; 40]), Err(FrameError::BadBody(6)));
        assert_eq!(FromChild::decode(8, &[4, 0, 0, 0, 0, 0, 0, 0, 0]), Err(FrameError::BadBody(8)));
        assert_eq!(FromChild::decode(2, &[0, 0, 0, 0, 7]), Err(FrameError::BadBody(2)));
    }
}
