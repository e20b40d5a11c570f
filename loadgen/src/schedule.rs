//! When messages are meant to be sent. Pure: time comes in as an argument.

use std::time::Duration;

use tokio::time::Instant;

use crate::flow::Window;
use crate::{Options, Pace};

/// The intended times of one connection's messages.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Schedule {
    /// As soon as there is room, until then.
    Closed { until: Instant },
    /// One every so often, `next` being the number of the next one.
    Open { first_at: Instant, interval_s: f64, next: u64, until: Instant },
}

impl Schedule {
    /// The share of connection `index` in the pace of all.
    pub(crate) fn new(options: &Options, index: u32, window: &Window) -> Self {
        let until = window.measure_until;
        match options.pace {
            Pace::InFlight(_) => Self::Closed { until },
            Pace::Rate(rate) => {
                // Connections take turns: together they are evenly spaced.
                let offset = Duration::from_secs_f64(f64::from(index) / rate);
                Self::Open { first_at: window.start + offset, interval_s: f64::from(options.connections) / rate, next: 0, until }
            }
        }
    }

    /// The intended time of the next message, when that is not after `now`. Takes it.
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<Instant> {
        match self {
            Self::Closed { until } => (now < *until).then_some(now),
            Self::Open { first_at, interval_s, next, until } => {
                // From the start each time: adding intervals up would drift.
                let at = *first_at + Duration::from_secs_f64(*interval_s * *next as f64);
                if at > now || at >= *until {
                    return None;
                }
                *next += 1;
                Some(at)
            }
        }
    }

    /// Whether there will be no further message.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        match self {
            Self::Closed { until } => now >= *until,
            Self::Open { first_at, interval_s, next, until } => *first_at + Duration::from_secs_f64(*interval_s * *next as f64) >= *until,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_schedule_keeps_its_times_however_late_it_is_asked() {
        let start = Instant::now();
        let ms = |ms| start + Duration::from_millis(ms);
        let window = Window { start, measure_from: start, measure_until: ms(50), give_up_at: ms(60) };
        let options = Options { pace: Pace::Rate(200.0), connections: 2, ..Options::default() };
        let mut schedule = Schedule::new(&options, 1, &window);
        assert_eq!(schedule.take_due(ms(4)), None);
        assert_eq!(schedule.take_due(ms(5)), Some(ms(5)), "the second connection is half an interval behind the first");
        assert!(!schedule.is_over(ms(1_000)), "what was meant to be sent is sent, late as it may be");
        let late: Vec<_> = std::iter::from_fn(|| schedule.take_due(ms(1_000))).collect();
        assert_eq!(late, [ms(15), ms(25), ms(35), ms(45)]);
        assert!(schedule.is_over(ms(0)));
    }
}
