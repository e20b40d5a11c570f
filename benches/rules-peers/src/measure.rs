//! Measuring sides by turns.

use std::hint::black_box;
use std::time::Instant;

/// What came out for one side.
pub struct Measured {
    pub name: String,
    pub messages_count: usize,
    pub matches: f64,
    pub cpu_us: f64,
    pub mean_us: f64,
    pub p50_us: f64,
    pub p99_us: f64,
}

impl Measured {
    /// The head of the table.
    pub const HEAD: &str = "workload     side              cpu us   mean us    p50 us    p99 us  x distric   matches  messages";

    /// A line of it. `first_us`: the CPU time of our side.
    pub fn line(&self, workload: &str, first_us: f64) -> String {
        format!(
            "{workload:<12} {:<15} {:>8.2} {:>9.2} {:>9.2} {:>9.2} {:>10.2} {:>9.2} {:>9}",
            self.name,
            self.cpu_us,
            self.mean_us,
            self.p50_us,
            self.p99_us,
            self.cpu_us / first_us,
            self.matches,
            self.messages_count
        )
    }
}

/// CPU time of this thread.
pub fn cpu_ns() -> u64 {
    clock_ns(rustix::time::ClockId::ThreadCPUTime)
}

/// CPU time of all threads.
pub fn process_cpu_ns() -> u64 {
    clock_ns(rustix::time::ClockId::ProcessCPUTime)
}

fn clock_ns(clock: rustix::time::ClockId) -> u64 {
    let now = rustix::time::clock_gettime(clock);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Runs each side over the messages, pass by pass in turn: one message several times in a row would find everything in the caches. A
/// side that needs more than `slow_ns` a message gets a twentieth of them.
pub fn measure(
    sides: &mut [(&str, Box<dyn FnMut(&[u8]) -> usize + '_>)],
    messages: &[String],
    passes: usize,
    slow_ns: u64,
) -> Vec<Measured> {
    struct Account {
        count: usize,
        matches: usize,
        cpu_ns: u64,
        passes_ns: Vec<Vec<u64>>,
    }
    let mut accounts = Vec::new();
    for (_, side) in sides.iter_mut() {
        let started = Instant::now();
        let few = messages.len().min(100);
        messages[..few].iter().for_each(|message| {
            black_box(side(message.as_bytes()));
        });
        let is_slow = started.elapsed().as_nanos() as u64 / few.max(1) as u64 > slow_ns;
        let count = if is_slow { messages.len().div_ceil(20) } else { messages.len() };
        let matches = messages[..count].iter().map(|message| side(message.as_bytes())).sum();
        accounts.push(Account { count, matches, cpu_ns: 0, passes_ns: vec![Vec::new(); count] });
    }
    for _ in 0..passes {
        for ((_, side), account) in sides.iter_mut().zip(&mut accounts) {
            let began = cpu_ns();
            messages[..account.count].iter().for_each(|message| {
                black_box(side(black_box(message.as_bytes())));
            });
            account.cpu_ns += cpu_ns() - began;
            for (message, passes_ns) in messages.iter().zip(&mut account.passes_ns) {
                let started = Instant::now();
                black_box(side(black_box(message.as_bytes())));
                passes_ns.push(started.elapsed().as_nanos() as u64);
            }
        }
    }
    let name_of = sides.iter().map(|(name, _)| *name);
    let measured = name_of.zip(accounts).map(|(name, mut account)| {
        let mut latencies: Vec<u64> = account
            .passes_ns
            .iter_mut()
            .map(|passes| {
                passes.sort_unstable();
                passes[passes.len() / 2]
            })
            .collect();
        latencies.sort_unstable();
        let percentile = |p: usize| latencies[(latencies.len() - 1) * p / 100] as f64 / 1e3;
        Measured {
            name: name.to_string(),
            messages_count: account.count,
            matches: account.matches as f64 / account.count as f64,
            cpu_us: account.cpu_ns as f64 / 1e3 / (account.count * passes) as f64,
            mean_us: latencies.iter().sum::<u64>() as f64 / 1e3 / latencies.len() as f64,
            p50_us: percentile(50),
            p99_us: percentile(99),
        }
    });
    measured.collect()
}
