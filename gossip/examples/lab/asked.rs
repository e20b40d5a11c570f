//! What was asked for on the command line, and the worlds that it is tried in.

use std::sync::atomic::{AtomicUsize, Ordering};

use distric_gossip::{Config, KEY_BYTES, KeyChoice, KeyId, KeyRing};

use crate::world::{S, World};

/// More machines than this do not join one by one: each begins with a copy of the view of the first.
const JOINED_MAX: usize = 500;

/// The options of all experiments.
pub const OPTIONS: &str = "[--n N] [--trials T] [--worlds W] [--threads P] [--kill K] [--loss PERMILLE] [--gray PERMILLE] [--hz HZ] \
                           [--backlog UPDATES] [--reps R] [--every K] [--factor PERCENT] [--seed S] [--sealed 0|1] [--config NAME] [--style hold|pause|freeze]";

/// Parsed, with defaults.
#[derive(Clone, Debug)]
pub struct Asked {
    pub n: usize,
    pub trials: usize,
    pub worlds: usize,
    pub threads: usize,
    pub kill: usize,
    pub loss_permille: u64,
    pub gray_permille: u64,
    pub hz: u64,
    pub backlog: usize,
    /// Repetitions of each cell of E1 and E2.
    pub reps: usize,
    /// Of the cells of E1 and E2 every so-manieth is run.
    pub every: usize,
    /// `suspicion_factor` in hundredths; 0: the default.
    pub factor_percent: usize,
    pub seed: u64,
    /// Whether packets are sealed.
    pub sealed: bool,
    pub config: String,
    pub style: Style,
}

/// How a member stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Its process runs on, but nothing leaves or reaches it.
    Hold,
    /// Its process stands still and its clock goes on.
    Pause,
    /// Both stand still.
    Freeze,
}

impl Style {
    pub fn apply(self, world: &mut World, at: usize, for_us: u64) {
        match self {
            Self::Hold => world.hold(at, for_us),
            Self::Pause => world.pause(at, for_us),
            Self::Freeze => world.freeze(at, for_us),
        }
    }
}

impl Asked {
    pub fn parse(words: &[String]) -> Result<Self, String> {
        let mut asked = Self {
            n: 128,
            trials: 10,
            worlds: 1,
            threads: 1,
            kill: 1,
            loss_permille: 0,
            gray_permille: 800,
            hz: 20,
            backlog: 0,
            reps: 1,
            every: 1,
            factor_percent: 0,
            seed: 1,
            sealed: false,
            config: "ours".to_owned(),
            style: Style::Pause,
        };
        let mut rest = words.iter().skip(1);
        while let Some(name) = rest.next() {
            let value = rest.next().ok_or_else(|| format!("{name} takes a value"))?;
            let number = || value.parse::<usize>().map_err(|_| format!("{name} takes a number, not `{value}`"));
            match name.as_str() {
                "--n" => asked.n = number()?.max(2),
                "--trials" => asked.trials = number()?.max(1),
                "--worlds" => asked.worlds = number()?.max(1),
                "--threads" => asked.threads = number()?.max(1),
                "--kill" => asked.kill = number()?,
                "--loss" => asked.loss_permille = number()? as u64,
                "--gray" => asked.gray_permille = number()? as u64,
                "--hz" => asked.hz = number()?.max(1) as u64,
                "--backlog" => asked.backlog = number()?,
                "--reps" => asked.reps = number()?.max(1),
                "--every" => asked.every = number()?.max(1),
                "--factor" => asked.factor_percent = number()?,
                "--sealed" => asked.sealed = number()? == 1,
                "--seed" => asked.seed = number()? as u64,
                "--config" => asked.config.clone_from(value),
                "--style" => {
                    asked.style = match value.as_str() {
                        "hold" => Style::Hold,
                        "pause" => Style::Pause,
                        "freeze" => Style::Freeze,
                        other => return Err(format!("--style is hold, pause or freeze, not `{other}`")),
                    }
                }
                other => return Err(format!("no option `{other}`; {OPTIONS}")),
            }
        }
        asked.tune(0, &mut crate::world::World::config(0, vec![]))?;
        Ok(asked)
    }

    /// The settings asked for: ours, or those of memberlist as far as they have a counterpart here. Errors: an unknown name.
    pub fn tune(&self, n: usize, config: &mut Config) -> Result<(), String> {
        config.profile.zone = format!("zone-{}", n % 3);
        config.profile.capacity = 8;
        if self.sealed {
            config.keys = Some(KeyRing::new([(KeyId(1), [7; KEY_BYTES])]).expect("one key is a ring"));
            config.key_choice = KeyChoice { version: 1, primary: KeyId(1), floor: KeyId(0) };
        }
        if self.factor_percent > 0 {
            config.suspicion_factor = self.factor_percent as f64 / 100.0;
        }
        let (spread, health) = match self.config.as_str() {
            "ours" => return Ok(()),
            "swim" => (1, 0),
            "lha-probe" => (1, 8),
            "lha-suspicion" => (6, 0),
            "lifeguard" => (6, 8),
            other => return Err(format!("no settings `{other}`: ours, swim, lha-probe, lha-suspicion, lifeguard")),
        };
        if self.factor_percent == 0 {
            config.suspicion_factor = 5.0;
        }
        (config.suspicion_spread, config.local_health_max) = (spread, health);
        config.suspicion_floor_ms = 1;
        config.probe_interval_ms = 1_000;
        (config.direct_timeout_ms_min, config.direct_timeout_ms_max) = (333, 333);
        config.witnesses = 0;
        (config.counts_each_silent_relay, config.patience_max) = (true, 0);
        (config.urgent_packets_per_s, config.gossip_interval_ms, config.gossip_fan_out) = (0, 200, 3);
        Ok(())
    }

    /// A world in which all see all and have been at rest for ten seconds.
    pub fn formed(&self, seed: u64) -> World {
        let tune = |n: usize, config: &mut Config| self.tune(n, config).expect("the name was checked");
        let mut world = if self.n > JOINED_MAX { World::copied(seed, self.n, tune) } else { World::formed(seed, self.n, tune) };
        world.weather.loss_permille = self.loss_permille;
        world.run_for(10 * S);
        world
    }

    /// Runs `one` for each of `count` numbers on the threads asked for; the results in the order of the numbers.
    pub fn parallel<T: Send>(&self, count: usize, one: impl Fn(usize) -> T + Sync) -> Vec<T> {
        let next = AtomicUsize::new(0);
        let mut results: Vec<(usize, T)> = std::thread::scope(|scope| {
            let work = || {
                let mut done = Vec::new();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return done;
                    }
                    done.push((number, one(number)));
                }
            };
            let threads: Vec<_> = (0..self.threads).map(|_| scope.spawn(work)).collect();
            threads.into_iter().flat_map(|thread| thread.join().expect("an experiment does not fail")).collect()
        });
        results.sort_by_key(|(number, _)| *number);
        results.into_iter().map(|(_, result)| result).collect()
    }

    /// Runs the trials in worlds of their own: `one` gets a formed world and how many trials are its share.
    pub fn worlds<T: Send>(&self, one: impl Fn(&mut World, usize) -> T + Sync) -> Vec<T> {
        let worlds = self.worlds.min(self.trials);
        self.parallel(worlds, |number| {
            let share = self.trials / worlds + usize::from(number < self.trials % worlds);
            one(&mut self.formed(self.seed + 1_000 * number as u64), share)
        })
    }
}
