//! How long the disk takes for one flush: the floor under every durable step.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::time::Instant;

use crate::Error;

/// Flushes that are timed.
const SAMPLES: usize = 200;
/// What is written before each, bytes: as much as a small group commit.
const WRITE_BYTES: usize = 4_096;

/// The median time of `write` and `fdatasync` of 4 KiB over a file that has its size already, microseconds. The file is removed.
pub(super) fn median_us(directory: &Path) -> Result<u64, Error> {
    let path = directory.join("distric-bench-flush");
    let measured = samples(&path);
    // Left behind, it would only be in the way; a failure to remove it is not one of the measurement.
    let _ = fs::remove_file(&path);
    let mut times = measured.map_err(|source| Error::Flush { path: directory.display().to_string(), source })?;
    times.sort_unstable();
    Ok(times[times.len() / 2])
}

fn samples(path: &Path) -> io::Result<Vec<u64>> {
    use std::io::Seek;
    let mut file = OpenOptions::new().create_new(true).write(true).open(path)?;
    file.write_all(&vec![0; SAMPLES * WRITE_BYTES])?;
    file.sync_all()?;
    file.rewind()?;
    let block = [0xA5; WRITE_BYTES];
    let mut times = Vec::with_capacity(SAMPLES);
    for _ in 0..SAMPLES {
        let began = Instant::now();
        file.write_all(&block)?;
        file.sync_data()?;
        times.push(u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX));
    }
    Ok(times)
}
