//! Every named maximum that more than one room must agree on, with the relations between them
//! checked by the compiler. A room's own bounds live beside their users.

/// Fixed parts of the key space; a power of two, so that a slot is 12 bits of an id.
pub const SLOT_COUNT: u16 = 4_096;
/// Most work groups that one cluster may have.
pub const GROUP_COUNT_MAX: u32 = 1_024;
/// Largest frame payload accepted by default after authentication, bytes.
pub const FRAME_BYTES_MAX: u32 = 1 << 20;
/// Largest frame payload before a Hello was accepted, bytes.
pub const FRAME_BYTES_MAX_UNAUTHENTICATED: u32 = 64 << 10;
/// The hard cap for the configurable frame limit, bytes.
pub const FRAME_BYTES_HARD_CAP: u32 = 16 << 20;
/// Largest message payload, bytes.
pub const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// Largest output of one task, bytes.
pub const TASK_OUTPUT_BYTES_MAX: usize = 1 << 20;
/// Most data one workflow instance may hold (input, outputs), bytes.
pub const INSTANCE_BYTES_MAX: usize = 4 << 20;
/// Deepest nesting of TLV values and of JSON documents from outside.
pub const NESTING_MAX: usize = 32;
/// Most messages in one batch.
pub const BATCH_MESSAGES_MAX: usize = 1_024;
/// Most headers on one message.
pub const HEADERS_MAX: usize = 64;
/// Longest namespace name, bytes.
pub const NAMESPACE_BYTES_MAX: usize = 64;
/// Longest id of a rule, workflow, task or lookup table, bytes.
pub const NAME_BYTES_MAX: usize = 128;
/// Longest routing or idempotency key, bytes.
pub const KEY_BYTES_MAX: usize = 256;
/// Longest key of a record in a checkpoint, bytes: what an LMDB key can hold, with a little left over.
pub const CHANGE_KEY_BYTES_MAX: usize = 500;
/// Most tasks in one workflow.
pub const WORKFLOW_TASKS_MAX: usize = 1_024;
/// Most hops a published message may take from workflow to workflow.
pub const HOPS_MAX: u8 = 8;
/// Window in which an idempotency key is remembered by default, milliseconds.
pub const DEDUPE_WINDOW_MS: u64 = 10 * 60 * 1_000;
/// How long finished work stays in history by default, milliseconds.
pub const HISTORY_RETENTION_MS: u64 = 24 * 60 * 60 * 1_000;

const _: () = assert!(SLOT_COUNT.is_power_of_two(), "a slot is a bit field of an id");
const _: () = assert!(FRAME_BYTES_MAX_UNAUTHENTICATED < FRAME_BYTES_MAX, "strangers get less");
const _: () = assert!(FRAME_BYTES_MAX <= FRAME_BYTES_HARD_CAP, "the default is below the cap");
const _: () = assert!(MESSAGE_BYTES_MAX <= FRAME_BYTES_HARD_CAP as usize, "a message fits in some legal frame");
const _: () = assert!(TASK_OUTPUT_BYTES_MAX <= INSTANCE_BYTES_MAX, "one output fits in its instance");
