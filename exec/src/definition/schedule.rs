//! Schedules: when a workflow starts by itself, in the five fields of cron.
//!
//! Fields: minute, hour, day of the month, month, day of the week; `*`, numbers, names, ranges `a-b`, steps `*/n` and `a-b/n`, lists. When both days
//! are restricted, either will do. The fields are meant at a fixed offset from UTC: the rules of time zones are data that
//! differs between builds, and all replicas must come to the same instants.
//! Source: POSIX crontab; the either-day rule and the names are those of Vixie cron.

use distric_model::Timestamp;
use distric_rules::document::{Cursor, Members, NodeValue, Problems};
use serde_json::{Value, json};

use super::read::{known_members, word_of};

/// Most schedules of one workflow.
pub const SCHEDULES_MAX: usize = 16;
/// How many days are looked through for the next run: the 29th of February can be eight years away.
const DAYS_AHEAD_MAX: i64 = 8 * 366 + 1;

const DAY_MINUTES: i64 = 24 * 60;
const MINUTE_US: u64 = 60_000_000;

/// What becomes of runs that nobody could start in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Missed {
    /// One run for all of them.
    #[default]
    Once,
    /// None.
    Skip,
    /// Each of them, the latest ones as far as they are too many.
    All,
}

impl Missed {
    /// Every choice, as it is written.
    pub const WORDS: [(&str, Missed); 3] = [("once", Missed::Once), ("skip", Missed::Skip), ("all", Missed::All)];

    /// As it is written.
    pub fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, value)| *value == self).map_or("", |(word, _)| word)
    }
}

/// One schedule of a workflow.
#[derive(Clone, Debug, PartialEq)]
pub struct ScheduleDefinition {
    /// When.
    pub cron: Cron,
    /// What its instances work on: a JSON object, or null. They also see `scheduled_at`.
    pub input: Value,
    /// What becomes of runs that were missed.
    pub missed: Missed,
}

/// Five fields, and the offset from UTC that they are meant in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cron {
    text: String,
    /// Minutes east of UTC.
    offset_minutes: i32,
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    any_day: bool,
    any_weekday: bool,
}

impl Cron {
    /// Reads five fields. Errors: what is wrong, in a sentence.
    pub fn parse(text: &str, offset_minutes: i32) -> Result<Self, String> {
        let fields: Vec<&str> = text.split_ascii_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields[..] else {
            return Err(format!("{} fields instead of five: minute, hour, day of the month, month, day of the week", fields.len()));
        };
        let cron = Self {
            text: fields.join(" "),
            offset_minutes,
            minutes: field(minute, "minute", 0, 59, &[])?,
            hours: field(hour, "hour", 0, 23, &[])?,
            days: field(day, "day of the month", 1, 31, &[])?,
            months: field(month, "month", 1, 12, &MONTHS)?,
            // Sunday is 0 and 7.
            weekdays: {
                let days = field(weekday, "day of the week", 0, 7, &WEEKDAYS)?;
                (days | (days >> 7)) & 0x7f
            },
            any_day: day.starts_with('*'),
            any_weekday: weekday.starts_with('*'),
        };
        match cron.next_after(Timestamp::default()) {
            Some(_) => Ok(cron),
            None => Err("there is no such day".into()),
        }
    }

    /// The five fields.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The offset, as `+02:00`; `UTC` for none.
    pub fn offset(&self) -> String {
        let minutes = self.offset_minutes.abs();
        match self.offset_minutes {
            0 => "UTC".into(),
            offset => format!("{}{:02}:{:02}", if offset < 0 { '-' } else { '+' }, minutes / 60, minutes % 60),
        }
    }

    /// The first run after an instant. Shape: at most about 3,000 days are looked at, each by a few bits.
    pub fn next_after(&self, at: Timestamp) -> Option<Timestamp> {
        let local = (at.as_us() / MINUTE_US) as i64 + i64::from(self.offset_minutes) + 1;
        let (first_day, first_minute) = (local.div_euclid(DAY_MINUTES), local.rem_euclid(DAY_MINUTES));
        for day in first_day..first_day + DAYS_AHEAD_MAX {
            if !self.has_day(day) {
                continue;
            }
            let from = if day == first_day { first_minute } else { 0 };
            if let Some(minute) = self.minute_from(from) {
                let utc = day * DAY_MINUTES + minute - i64::from(self.offset_minutes);
                return Some(Timestamp::from_us(u64::try_from(utc).ok()?.saturating_mul(MINUTE_US)));
            }
        }
        None
    }

    fn minute_from(&self, from: i64) -> Option<i64> {
        let has = |set: u64, number: i64| set & (1 << number) != 0;
        (from / 60..24).filter(|hour| has(self.hours, *hour)).find_map(|hour| {
            let first = if hour == from / 60 { from % 60 } else { 0 };
            (first..60).find(|minute| has(self.minutes, *minute)).map(|minute| hour * 60 + minute)
        })
    }

    /// Whether it runs on a day, counted from 1970.
    fn has_day(&self, day: i64) -> bool {
        let (month, of_month) = month_and_day(day);
        // The first of January 1970 was a Thursday.
        let weekday = (day + 4).rem_euclid(7);
        let by_day = self.days & (1 << of_month) != 0;
        let by_weekday = self.weekdays & (1 << weekday) != 0;
        let fits = match (self.any_day, self.any_weekday) {
            (false, false) => by_day || by_weekday,
            _ => by_day && by_weekday,
        };
        self.months & (1 << month) != 0 && fits
    }
}

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// One field as the bits of its numbers.
fn field(text: &str, name: &str, min: u32, max: u32, names: &[&str]) -> Result<u64, String> {
    let number = |word: &str| -> Result<u32, String> {
        let named = names.iter().position(|known| word.eq_ignore_ascii_case(known)).map(|place| place as u32 + min);
        let number = named.or_else(|| word.parse().ok().filter(|_| word.bytes().all(|byte| byte.is_ascii_digit())));
        number.filter(|number| (min..=max).contains(number)).ok_or_else(|| format!("{name}: `{word}` is not within {min} and {max}"))
    };
    let mut bits = 0;
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            None => (part, 1),
            Some((range, step)) => {
                let step = step.parse::<u32>().ok().filter(|step| (1..=max).contains(step));
                (range, step.ok_or_else(|| format!("{name}: the step of `{part}` is not within 1 and {max}"))?)
            }
        };
        let (first, last) = match range.split_once('-') {
            _ if range == "*" => (min, max),
            Some((first, last)) => (number(first)?, number(last)?),
            None if part.contains('/') => (number(range)?, max),
            None => (number(range)?, number(range)?),
        };
        if first > last {
            return Err(format!("{name}: `{range}` ends before it begins"));
        }
        (first..=last).step_by(step as usize).for_each(|number| bits |= 1_u64 << number);
    }
    Ok(bits)
}

/// Month (from 1) and day of the month of a day counted from 1970 (the proleptic Gregorian calendar; Hinnant, "chrono-compatible
/// low-level date algorithms").
fn month_and_day(day: i64) -> (i64, i64) {
    let shifted = day + 719_468;
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    (if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 }, day)
}

/// Reads the member `schedule`: one, or a list of them.
pub(super) fn read(cursor: &Cursor<'_>, problems: &mut Problems) -> Vec<ScheduleDefinition> {
    let items = match &cursor.node.value {
        NodeValue::List(_) => cursor.list(problems).unwrap_or_default(),
        _ => vec![cursor.clone()],
    };
    if let Some(beyond) = items.get(SCHEDULES_MAX) {
        beyond.error(problems, "the workflow has more schedules than SCHEDULES_MAX", Some(&format!("at most {SCHEDULES_MAX}")));
    }
    items.iter().take(SCHEDULES_MAX).filter_map(|item| read_one(item, problems)).collect()
}

fn read_one(cursor: &Cursor<'_>, problems: &mut Problems) -> Option<ScheduleDefinition> {
    let members = known_members(cursor, problems, &["cron", "timezone", "input", "missed"], &[])?;
    let offset_minutes = members.get("timezone").and_then(|timezone| read_offset(&timezone, problems)).unwrap_or(0);
    let cron_at = members.required(problems, "cron");
    let cron = cron_at.and_then(|at| {
        let text = at.string_or(problems, EXPECTED_CRON)?;
        Cron::parse(text, offset_minutes).map_err(|message| at.error(problems, message, Some(EXPECTED_CRON))).ok()
    });
    let input = read_input(&members, problems);
    let missed = members.get("missed").and_then(|word| word_of(&word, problems, &Missed::WORDS)).unwrap_or_default();
    Some(ScheduleDefinition { cron: cron?, input, missed })
}

const EXPECTED_CRON: &str = "five fields such as `*/15 9-17 * * mon-fri`";

fn read_input(members: &Members<'_>, problems: &mut Problems) -> Value {
    let Some(input) = members.get("input") else { return Value::Null };
    input.any_map(problems);
    input.node.to_json()
}

/// `UTC`, `Z` or `+02:00`.
fn read_offset(cursor: &Cursor<'_>, problems: &mut Problems) -> Option<i32> {
    let text = cursor.string_or(problems, EXPECTED_OFFSET)?;
    let offset = match text {
        "UTC" | "Z" => Some(0),
        _ => parse_offset(text),
    };
    if offset.is_none() {
        cursor.error(
            problems,
            "not an offset from UTC (the rules of named zones change, and all replicas must agree)",
            Some(EXPECTED_OFFSET),
        );
    }
    offset
}

const EXPECTED_OFFSET: &str = "UTC, or an offset such as +02:00";

fn parse_offset(text: &str) -> Option<i32> {
    let sign = match text.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, minutes) = text.get(1..)?.split_once(':')?;
    let number = |text: &str, max: i32| {
        let is_number = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<i32>().ok().filter(|number| is_number && *number <= max)
    };
    Some(sign * (number(hours, 14)? * 60 + number(minutes, 59)?))
}

/// The member of the canonical JSON.
pub(super) fn to_json(schedules: &[ScheduleDefinition]) -> Value {
    let one = |schedule: &ScheduleDefinition| {
        let mut members = json!({ "cron": schedule.cron.text(), "timezone": schedule.cron.offset(), "missed": schedule.missed.word() });
        if !schedule.input.is_null() {
            members["input"] = schedule.input.clone();
        }
        members
    };
    schedules.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        let instant: jiff::Timestamp = text.parse().unwrap();
        Timestamp::from_us(instant.as_microsecond() as u64)
    }

    fn runs(cron: &str, offset: i32, after: &str, count: usize) -> Vec<String> {
        let cron = Cron::parse(cron, offset).unwrap();
        let mut now = at(after);
        let mut found = Vec::new();
        for _ in 0..count {
            now = cron.next_after(now).unwrap();
            found.push(jiff::Timestamp::from_microsecond(now.as_us() as i64).unwrap().to_string());
        }
        found
    }

    #[test]
    fn runs_come_when_the_fields_say() {
        let cases = [
            ("*/20 * * * *", 0, "2026-01-01T00:00:00Z", vec!["2026-01-01T00:20:00Z", "2026-01-01T00:40:00Z", "2026-01-01T01:00:00Z"]),
            ("0 9 * * mon-fri", 0, "2026-11-27T09:00:00Z", vec!["2026-11-30T09:00:00Z", "2026-12-01T09:00:00Z"]),
            ("30 0 1 * *", 120, "2026-01-31T22:29:59Z", vec!["2026-01-31T22:30:00Z", "2026-02-28T22:30:00Z"]),
            ("0 0 29 feb *", 0, "2096-03-01T00:00:00Z", vec!["2104-02-29T00:00:00Z"]),
            // Either day will do.
            ("0 0 13 * 5", 0, "2026-02-10T00:00:00Z", vec!["2026-02-13T00:00:00Z", "2026-02-20T00:00:00Z"]),
            ("0 0 * * 7", 0, "2026-11-28T00:00:00Z", vec!["2026-11-29T00:00:00Z"]),
            ("59 23 31 12 *", -330, "2026-01-01T00:00:00Z", vec!["2026-01-01T05:29:00Z", "2027-01-01T05:29:00Z"]),
            ("5-59/30 1,3 * * *", 0, "2026-01-01T00:00:00Z", vec!["2026-01-01T01:05:00Z", "2026-01-01T01:35:00Z", "2026-01-01T03:05:00Z"]),
        ];
        for (cron, offset, after, expected) in cases {
            assert_eq!(runs(cron, offset, after, expected.len()), expected, "{cron}");
        }
    }

    #[test]
    fn what_is_no_schedule_says_why() {
        for (text, part) in [
            ("* * * *", "4 fields instead of five"),
            ("60 * * * *", "minute: `60` is not within 0 and 59"),
            ("* * * * mo", "day of the week: `mo`"),
            ("*/0 * * * *", "the step of `*/0`"),
            ("5-1 * * * *", "ends before it begins"),
            ("0 0 30 2 *", "there is no such day"),
            ("+5 * * * *", "minute: `+5`"),
        ] {
            let error = Cron::parse(text, 0).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
        assert_eq!(
            (parse_offset("+02:00"), parse_offset("-05:30"), parse_offset("2"), parse_offset("+2:00")),
            (Some(120), Some(-330), None, None)
        );
    }
}
