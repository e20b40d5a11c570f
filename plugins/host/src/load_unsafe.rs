//! Opening a plugin and calling it: the only place where foreign code is entered.
//!
//! Every symbol, version, size and pointer is looked at before its first use. Beyond that nothing can be proved about foreign code: a plugin
//! that breaks the header's promises may do anything to the process in which this runs, which is why that process is a child in a sandbox.
//!
//! Proof for the blocks here: what is read of a plugin is read after the checks of [`Loaded::open`]; the library stays open as long as the
//! value lives; what is handed in (texts, context, out-pointers) lives on this stack until the call has returned.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::slice;

use distric_plugins_abi::raw::{self, Context, PluginV1};
use distric_plugins_abi::{NAME_BYTES_MAX, SYMBOL};
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

use crate::call::{Call, Failed, LogLevel, Outcome, Sink};
use crate::error::LoadError;

/// Longest text that is read of a plugin's own strings, bytes.
const FOREIGN_TEXT_BYTES_MAX: usize = 4_096;

/// An open plugin whose table has been checked and which has accepted its config.
#[derive(Debug)]
pub struct Loaded {
    table: PluginV1,
    name: String,
    version: String,
    output_bytes_max: usize,
    secrets: BTreeMap<String, CString>,
    /// The last task's config that the plugin has accepted.
    accepted_config: Option<String>,
    // Never closed: a library may have left threads and thread-locals behind, and the process ends soon after.
    _library: ManuallyDrop<Library>,
}

impl Loaded {
    /// Opens the library, checks its table, and hands it its config.
    ///
    /// Runs foreign code. Errors: [`LoadError`], for the first thing that is wrong; nothing of the plugin is called before its table is right.
    pub fn open(path: &Path, config_json: &str, output_bytes_max: usize, secrets: &BTreeMap<String, String>) -> Result<Self, LoadError> {
        // Without a directory in it the system's loader would search elsewhere.
        let path = std::path::absolute(path).unwrap_or_else(|_| PathBuf::from(path));
        // SAFETY: constructors of the library run here; that is what loading a plugin means, see the module.
        let library = unsafe { Library::open(Some(&path), RTLD_NOW | RTLD_LOCAL) }
            .map_err(|error| LoadError::Library { path: path.clone(), reason: chain(&error) })?;
        // SAFETY: the symbol is only taken as an address here, and read below member by member.
        let symbol = unsafe { library.get::<*const PluginV1>(SYMBOL.as_bytes()) }
            .map_err(|error| LoadError::NoSymbol { path: path.clone(), reason: chain(&error) })?;
        let at = symbol.as_raw_ptr().cast::<PluginV1>();
        if at.is_null() || !at.is_aligned() {
            return Err(LoadError::NoSymbol { path, reason: "its address is not that of a table".to_owned() });
        }
        // SAFETY: the first eight bytes are the version and the size in every version of the interface.
        let (abi, size) = unsafe { ((&raw const (*at).abi).read(), (&raw const (*at).size).read()) };
        if abi != raw::ABI {
            return Err(LoadError::Version { found: abi, expected: raw::ABI });
        }
        let expected = size_of::<PluginV1>() as u32;
        if size < expected {
            return Err(LoadError::Size { found: size, expected });
        }
        // SAFETY: the table says that it is as large as ours. A null pointer is a legal `None`.
        let table = unsafe { at.read() };
        let missing = [
            ("get_name", table.get_name.is_none()),
            ("get_version", table.get_version.is_none()),
            ("execute", table.execute.is_none()),
            ("cleanup", table.cleanup.is_none()),
        ];
        if let Some((member, _)) = missing.into_iter().find(|(_, is_missing)| *is_missing) {
            return Err(LoadError::MissingMember { member });
        }
        // SAFETY: the functions are there; what they give is read up to a bound.
        let (name, version) = unsafe { (foreign_text(table.get_name.map(|f| f())), foreign_text(table.get_version.map(|f| f()))) };
        let is_legal = |name: &str| {
            (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
        };
        if !is_legal(&name) {
            return Err(LoadError::Name { name });
        }
        let secrets = secrets.iter().map(|(name, value)| (name.clone(), c_text(value))).collect();
        let loaded = Self { table, name, version, output_bytes_max, secrets, accepted_config: None, _library: ManuallyDrop::new(library) };
        if let Some(init) = loaded.table.init {
            // SAFETY: see the module.
            let returned = unsafe { init(c_text(config_json).as_ptr()) };
            if returned != raw::OK {
                return Err(LoadError::Init { returned });
            }
        }
        Ok(loaded)
    }

    /// The type of the tasks that it runs.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its version, for people.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Whether it accepts this config of a task; what it has accepted last is not asked again.
    pub fn accepts(&mut self, config_json: &str) -> bool {
        let Some(validate) = self.table.validate else { return true };
        if self.accepted_config.as_deref() == Some(config_json) {
            return true;
        }
        // SAFETY: see the module.
        let accepted = unsafe { validate(c_text(config_json).as_ptr()) } == raw::OK;
        if accepted {
            self.accepted_config = Some(config_json.to_owned());
        }
        accepted
    }

    /// Runs one attempt. Whatever the plugin says about its output is checked before it is copied.
    pub fn execute(&mut self, call: &Call, sink: &mut dyn Sink) -> Outcome {
        if !self.accepts(&call.config_json) {
            let message = format!("plugin {} does not accept the task's config", self.name);
            return failed("bad_config", message, false);
        }
        let texts = [
            &call.task_id,
            &call.instance_id,
            &call.task,
            &call.workflow,
            &call.namespace,
            &call.idempotency_key,
            &call.traceparent,
            &call.config_json,
        ]
        .map(|text| c_text(text));
        let mut host = HostState { sink, secrets: &self.secrets, failure: None, retry_after_ms: None };
        let context = Context {
            size: size_of::<Context>(),
            host: (&raw mut host).cast::<c_void>(),
            task_id: texts[0].as_ptr(),
            instance_id: texts[1].as_ptr(),
            task: texts[2].as_ptr(),
            workflow: texts[3].as_ptr(),
            namespace: texts[4].as_ptr(),
            idempotency_key: texts[5].as_ptr(),
            traceparent: texts[6].as_ptr(),
            config_json: texts[7].as_ptr(),
            fencing_token: call.fencing_token,
            attempt: call.attempt,
            reserved: 0,
            log: Some(on_log),
            progress: Some(on_progress),
            cancelled: Some(on_cancelled),
            remaining_ms: Some(on_remaining_ms),
            secret: Some(on_secret),
            fail: Some(on_fail),
            retry_after: Some(on_retry_after),
        };
        let (mut output, mut output_len) = (std::ptr::null_mut::<u8>(), 0_usize);
        let execute = self.table.execute.expect("open has checked the required members");
        // SAFETY: see the module.
        let returned = unsafe { execute(&context, call.input.as_ptr(), call.input.len(), &mut output, &mut output_len) };
        let outcome = match returned {
            raw::OK if output_len > self.output_bytes_max => {
                let message = format!("output of {output_len} bytes exceeds the limit of {} bytes", self.output_bytes_max);
                failed("output_too_large", message, false)
            }
            raw::OK if output.is_null() && output_len > 0 => {
                failed("bad_output", format!("plugin {} says {output_len} bytes of output and gives a null pointer", self.name), false)
            }
            raw::OK if output_len == 0 => Outcome::Completed(b"null".to_vec()),
            // SAFETY: the header's promise; the length is within the limit and the pointer is not null.
            raw::OK => Outcome::Completed(unsafe { slice::from_raw_parts(output, output_len) }.to_vec()),
            _ => {
                let (code, message) = host.failure.take().unwrap_or_else(|| {
                    ("plugin_failed".to_owned(), format!("plugin {} returned {returned} and said no reason", self.name))
                });
                let retry_after_ms = host.retry_after_ms;
                Outcome::Failed(Failed { code, message, retryable: returned == raw::RETRY, retry_after_ms })
            }
        };
        if !output.is_null() {
            let cleanup = self.table.cleanup.expect("open has checked the required members");
            // SAFETY: once per output, as the header says.
            unsafe { cleanup(output) };
        }
        outcome
    }

    /// Tells the plugin that the process is about to end.
    pub fn shutdown(self) {
        if let Some(shutdown) = self.table.shutdown {
            // SAFETY: see the module.
            unsafe { shutdown() }
        }
    }
}

/// What the context's callbacks reach through its `host` member.
struct HostState<'a> {
    sink: &'a mut dyn Sink,
    secrets: &'a BTreeMap<String, CString>,
    failure: Option<(String, String)>,
    retry_after_ms: Option<u64>,
}

/// # Safety
/// The context is the one of the running call, as the header demands of the plugin. The callbacks come from the thread that runs the call
/// or, against the header, from another one: then the worst case is that of any wild write.
unsafe fn host_of<'a>(context: *const Context) -> Option<&'a mut HostState<'a>> {
    // SAFETY: the caller's promise; a null pointer is answered with `None`.
    unsafe { context.as_ref().and_then(|context| context.host.cast::<HostState<'a>>().as_mut()) }
}

unsafe extern "C" fn on_log(context: *const Context, level: c_int, text: *const c_char) {
    // SAFETY: the header's promise.
    if let Some(host) = unsafe { host_of(context) } {
        // SAFETY: as above.
        host.sink.log(LogLevel::of_number(level.into()), &unsafe { foreign_text(Some(text)) });
    }
}

unsafe extern "C" fn on_progress(context: *const Context, fraction: f64, text: *const c_char) {
    // SAFETY: the header's promise.
    if let Some(host) = unsafe { host_of(context) } {
        // SAFETY: as above.
        host.sink.progress(fraction, &unsafe { foreign_text(Some(text)) });
    }
}

unsafe extern "C" fn on_cancelled(context: *const Context) -> c_int {
    // SAFETY: the header's promise.
    unsafe { host_of(context) }.map_or(0, |host| host.sink.is_cancelled().into())
}

unsafe extern "C" fn on_remaining_ms(context: *const Context) -> u64 {
    // SAFETY: the header's promise.
    unsafe { host_of(context) }.map_or(u64::MAX, |host| host.sink.remaining_ms())
}

unsafe extern "C" fn on_secret(context: *const Context, name: *const c_char) -> *const c_char {
    // SAFETY: the header's promise.
    let (host, name) = unsafe { (host_of(context), foreign_text(Some(name))) };
    host.and_then(|host| host.secrets.get(&name)).map_or(std::ptr::null(), |value| value.as_ptr())
}

unsafe extern "C" fn on_fail(context: *const Context, code: *const c_char, message: *const c_char) {
    // SAFETY: the header's promise.
    if let Some(host) = unsafe { host_of(context) } {
        // SAFETY: as above.
        let (code, message) = unsafe { (foreign_text(Some(code)), foreign_text(Some(message))) };
        host.failure = Some((if code.is_empty() { "plugin_failed".to_owned() } else { code }, message));
    }
}

unsafe extern "C" fn on_retry_after(context: *const Context, ms: u64) {
    // SAFETY: the header's promise.
    if let Some(host) = unsafe { host_of(context) } {
        host.retry_after_ms = Some(ms);
    }
}

/// A text of the plugin's, up to its zero byte or the bound. # Safety: null, or readable up to a zero byte.
unsafe fn foreign_text(text: Option<*const c_char>) -> String {
    let Some(text) = text.filter(|text| !text.is_null()) else { return String::new() };
    // SAFETY: the caller's promise.
    let bytes = unsafe { CStr::from_ptr(text) }.to_bytes();
    String::from_utf8_lossy(&bytes[..bytes.len().min(FOREIGN_TEXT_BYTES_MAX)]).into_owned()
}

/// The text up to its first zero byte, with one behind it.
fn c_text(text: &str) -> CString {
    let end = text.find('\0').unwrap_or(text.len());
    CString::new(&text[..end]).unwrap_or_default()
}

fn failed(code: &str, message: String, retryable: bool) -> Outcome {
    Outcome::Failed(Failed { code: code.to_owned(), message, retryable, retry_after_ms: None })
}

fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}
