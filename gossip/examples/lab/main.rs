//! The lab: named, seeded experiments on the virtual network, printed as tables.
//!
//! `cargo xtask gossip-lab E4 --n 1000 --trials 40 --kill 10 --loss 0 --seed 1`; without an experiment, what there is.
//! Trials are shared out to `--worlds` worlds with seeds of their own, which `--threads` threads run; so a table depends on the
//! arguments alone, and not on the machine.

#[path = "../../tests/world/mod.rs"]
mod world;

mod asked;
mod blocked;
mod churn;
mod crashes;
mod joining;
mod loss;
mod partitions;
mod quiet;
mod report;
mod spreading;

use asked::Asked;

/// Name, what it is, and what runs it.
type Experiment = (&'static str, &'static str, fn(&Asked) -> u64);

const EXPERIMENTS: &[Experiment] = &[
    (
        "CAL",
        "blocked members with memberlist's parameters, against Lifeguard's table V [--config swim|lha-probe|lha-suspicion|lifeguard]",
        blocked::calibration,
    ),
    ("E1", "threshold: members blocked once [--config, default ours] [--style hold|pause]", blocked::threshold),
    ("E2", "interval: members blocked again and again [--config] [--style]", blocked::interval),
    ("E3", "members that get a 129th of a processor", blocked::starved),
    ("E4", "crash of --kill at once", crashes::crash),
    ("E5", "bootstrap by one seed", joining::bootstrap),
    ("E6", "1 % of the members lose all that comes in (or goes out), 20 s on and 20 s off", loss::flip_flop),
    ("E7", "1 % of the members lose --gray permille of what goes out (or comes in)", loss::gray),
    ("E8", "seventeen joins at 10 % loss", joining::lossy_join),
    ("E9", "one urgent event [--backlog UPDATES]", spreading::dissemination),
    ("E10", "partitions", partitions::partition),
    ("E11", "churn, rolling restart, mass restart", churn::churn),
    ("E12", "E4 while every load changes [--hz]", crashes::load_storm),
    ("E13", "paused observers", quiet::paused_observers),
    ("E14", "idle bandwidth and memory", quiet::idle),
    ("PKT", "what a packet costs one member, in real time", quiet::packets),
    ("FP", "loss alone", quiet::false_positives),
];

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let asked = match Asked::parse(&words) {
        Ok(asked) => asked,
        Err(error) => {
            eprintln!("lab: {error}");
            std::process::exit(2);
        }
    };
    let Some((name, what, run)) = EXPERIMENTS.iter().find(|(name, ..)| words.first().is_some_and(|word| word == name)) else {
        println!("lab EXPERIMENT {}\n", asked::OPTIONS);
        EXPERIMENTS.iter().for_each(|(name, what, _)| println!("  {name:<4} {what}"));
        return;
    };
    println!("{name} {}", words[1..].join(" "));
    println!("  {what}");
    let started = std::time::Instant::now();
    let packets = run(&asked);
    let took = started.elapsed();
    println!(
        "  {packets} packets, {:.1} s of wall clock, {:.2} us each\n",
        took.as_secs_f64(),
        took.as_micros() as f64 / packets.max(1) as f64
    );
}
