//! The two calls into LMDB that the compiler cannot vouch for: opening the memory map, and resizing it.
#![allow(unsafe_code)]

use std::path::Path;

use heed::{Env, EnvOpenOptions, WithoutTls};

/// Opens the environment in `dir` with full synchronisation (no relaxing flag is ever set).
pub(crate) fn open(dir: &Path, map_bytes: usize) -> heed::Result<Env<WithoutTls>> {
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    options.map_size(map_bytes).max_dbs(DATABASES_MAX).max_readers(READERS_MAX);
    // SAFETY: the map is sound as long as nobody else changes the file under it. The caller holds an exclusive lock
    // on the directory, so no other process of ours has it open, and this process changes the file only through LMDB
    // or by appending zeros behind its end, where no page of the map has been touched.
    unsafe { options.open(dir) }
}

/// Sets a new size of the map. `&mut` on the owner proves that no transaction of this process is alive.
pub(crate) fn resize(env: &mut Env<WithoutTls>, map_bytes: usize) -> heed::Result<()> {
    // SAFETY: transactions borrow the environment, and the exclusive borrow says that there is none; the store hands
    // out neither transactions nor clones of the environment.
    unsafe { env.resize(map_bytes) }
}

const DATABASES_MAX: u32 = 4;
const READERS_MAX: u32 = 16;
