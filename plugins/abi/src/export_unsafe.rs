//! `export_plugin!`: the C functions around a [`crate::Plugin`].

/// Makes the shared library's constant of a type that implements [`crate::Plugin`]. Once per library.
///
/// ```
/// use distric_plugins_abi::{Attempt, Failure, Plugin, export_plugin};
///
/// struct Echo;
///
/// impl Plugin for Echo {
///     const NAME: &'static std::ffi::CStr = c"echo";
///     const VERSION: &'static std::ffi::CStr = c"1.0.0";
///
///     fn init(_config_json: &str) -> Result<Self, String> {
///         Ok(Self)
///     }
///
///     fn execute(&mut self, _attempt: &Attempt<'_>, input: &[u8]) -> Result<Vec<u8>, Failure> {
///         Ok(input.to_vec())
///     }
/// }
///
/// export_plugin!(Echo);
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! export_plugin {
    ($plugin:ty) => {
        /// What the host looks for.
        #[allow(non_upper_case_globals)]
        #[unsafe(no_mangle)]
        pub static distric_plugin_v1: $crate::raw::PluginV1 = $crate::raw::PluginV1 {
            abi: $crate::raw::ABI,
            size: ::std::mem::size_of::<$crate::raw::PluginV1>() as u32,
            get_name: Some($crate::glue::name::<$plugin>),
            get_version: Some($crate::glue::version::<$plugin>),
            init: Some($crate::glue::init::<$plugin>),
            execute: Some($crate::glue::execute::<$plugin>),
            cleanup: Some($crate::glue::cleanup),
            validate: Some($crate::glue::validate::<$plugin>),
            shutdown: Some($crate::glue::shutdown),
        };
    };
}

/// What the macro puts into the table. Not for calling.
#[doc(hidden)]
pub mod glue {
    use std::any::Any;
    use std::cell::RefCell;
    use std::ffi::{CStr, c_char, c_int};
    use std::slice;

    use crate::attempt_unsafe::{Attempt, terminated};
    use crate::raw::{self, Context};
    use crate::{Failure, Plugin};

    thread_local! {
        // The header promises one call at a time; the host makes all of them from one thread, so this is the process's plugin.
        static PLUGIN: RefCell<Option<Box<dyn Any>>> = const { RefCell::new(None) };
    }

    pub extern "C" fn name<P: Plugin>() -> *const c_char {
        P::NAME.as_ptr()
    }

    pub extern "C" fn version<P: Plugin>() -> *const c_char {
        P::VERSION.as_ptr()
    }

    fn text<'a>(text: *const c_char) -> &'a str {
        if text.is_null() {
            return "";
        }
        // SAFETY: the header promises texts that end with a zero byte and live during the call; no caller here keeps one longer.
        unsafe { CStr::from_ptr(text) }.to_str().unwrap_or_default()
    }

    pub extern "C" fn init<P: Plugin>(config_json: *const c_char) -> c_int {
        match P::init(text(config_json)) {
            Ok(plugin) => {
                PLUGIN.with_borrow_mut(|slot| *slot = Some(Box::new(plugin)));
                raw::OK
            }
            Err(problem) => {
                eprintln!("{problem}");
                raw::FAILED
            }
        }
    }

    pub extern "C" fn validate<P: Plugin>(config_json: *const c_char) -> c_int {
        match P::validate(text(config_json)) {
            Ok(()) => raw::OK,
            Err(problem) => {
                eprintln!("{problem}");
                raw::FAILED
            }
        }
    }

    /// # Safety
    /// The arguments are what the header promises.
    pub unsafe extern "C" fn execute<P: Plugin>(
        context: *const Context,
        input: *const u8,
        input_len: usize,
        output: *mut *mut u8,
        output_len: *mut usize,
    ) -> c_int {
        // SAFETY: the host's promise, in the header: `input_len` bytes at `input`, valid during the call.
        let (attempt, input) = unsafe {
            let input = if input_len == 0 { &[] } else { slice::from_raw_parts(input, input_len) };
            (Attempt::of(context), input)
        };
        let result = PLUGIN.with_borrow_mut(|slot| match slot.as_mut().and_then(|plugin| plugin.downcast_mut::<P>()) {
            Some(plugin) => plugin.execute(&attempt, input),
            None => Err(Failure::permanent("not_initialized", "execute was called before init, or from another thread")),
        });
        match result {
            Ok(bytes) => {
                // The length travels in front of the bytes, so that cleanup knows what to free.
                let mut block = Vec::with_capacity(LENGTH_BYTES + bytes.len());
                block.extend_from_slice(&bytes.len().to_ne_bytes());
                block.extend_from_slice(&bytes);
                let block = Box::into_raw(block.into_boxed_slice()).cast::<u8>();
                // SAFETY: the block is at least LENGTH_BYTES long; the host's out-pointers are valid by the header.
                unsafe {
                    *output = block.add(LENGTH_BYTES);
                    *output_len = bytes.len();
                }
                raw::OK
            }
            Err(failure) => {
                // SAFETY: the context is valid during the call, by the header.
                let callbacks = unsafe { &*context };
                if let Some(fail) = callbacks.fail {
                    // SAFETY: as above; both texts end with a zero byte and live until the call returns.
                    unsafe { fail(context, terminated(&failure.code).as_ptr(), terminated(&failure.message).as_ptr()) }
                }
                if let (Some(retry_after), Some(ms)) = (callbacks.retry_after, failure.retry_after_ms) {
                    // SAFETY: as above.
                    unsafe { retry_after(context, ms) }
                }
                if failure.retryable { raw::RETRY } else { raw::FAILED }
            }
        }
    }

    const LENGTH_BYTES: usize = size_of::<usize>();

    /// # Safety
    /// `output` came from [`execute`] and was not freed before.
    pub unsafe extern "C" fn cleanup(output: *mut u8) {
        if output.is_null() {
            return;
        }
        // SAFETY: `execute` made a boxed slice of LENGTH_BYTES and as many bytes as those say, and gave out the place behind them.
        unsafe {
            let block = output.sub(LENGTH_BYTES);
            let mut length = [0; LENGTH_BYTES];
            std::ptr::copy_nonoverlapping(block, length.as_mut_ptr(), LENGTH_BYTES);
            let whole = LENGTH_BYTES + usize::from_ne_bytes(length);
            drop(Box::from_raw(std::ptr::slice_from_raw_parts_mut(block, whole)));
        }
    }

    pub extern "C" fn shutdown() {
        PLUGIN.with_borrow_mut(|slot| *slot = None);
    }
}
