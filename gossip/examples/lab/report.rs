//! Rows of the tables.

/// The value at a share of the sorted samples, seconds.
fn at(samples: &[u64], share: f64) -> f64 {
    let rank = ((samples.len() as f64 * share).ceil() as usize).clamp(1, samples.len());
    samples[rank - 1] as f64 / 1e6
}

/// The 95 % interval of a quantile, by order statistics (Conover 1999, section 3.2).
fn interval(samples: &[u64], share: f64) -> (f64, f64) {
    let n = samples.len() as f64;
    let width = 1.96 * (n * share * (1.0 - share)).sqrt();
    let clamp = |rank: f64| (rank.round() as usize).clamp(1, samples.len());
    let of = |rank: usize| samples[rank - 1] as f64 / 1e6;
    (of(clamp(n * share - width)), of(clamp(n * share + width + 1.0)))
}

/// Median, 99 % and 99.9 % of times in microseconds, each with its 95 % interval.
pub fn times(name: &str, mut samples: Vec<u64>) {
    if samples.is_empty() {
        println!("  {name:<28} no samples");
        return;
    }
    samples.sort_unstable();
    let quantile = |share| {
        let (low, high) = interval(&samples, share);
        format!("{:.2} [{low:.2}, {high:.2}]", at(&samples, share))
    };
    println!(
        "  {name:<22} n={:<6} p50 {}  p99 {}  p99.9 {}  max {:.2} s",
        samples.len(),
        quantile(0.5),
        quantile(0.99),
        quantile(0.999),
        at(&samples, 1.0)
    );
}

/// Mean, 99 % and largest of rates per node.
pub fn rates(name: &str, mut samples: Vec<u64>) {
    samples.sort_unstable();
    let mean = samples.iter().sum::<u64>() as f64 / samples.len().max(1) as f64;
    let of = |share| at(&samples, share) * 1e6;
    println!("  {name:<22} mean {mean:.1}  p99 {:.0}  max {:.0}", of(0.99), of(1.0));
}
