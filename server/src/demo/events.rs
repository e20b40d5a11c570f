//! The committed stream: payments, orders and what goes wrong with them, from one seed.
//!
//! In: a seed.  Out: [`Event`]s, the same on every machine.  May touch: nothing outside this file.
//! Amounts are whole cents until they are printed, so that no rounding depends on the machine.
//! Some events come twice under one idempotency key, with the very same payload, as a shop's retry would send them.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Events in the committed stream.
pub const STREAM_EVENTS: usize = 5_000;
/// The seed of the committed stream.
pub const STREAM_SEED: u64 = 7_400;
/// One event in so many is the repetition of an earlier one.
const REPEAT_ONE_IN: u64 = 33;
/// A repetition follows at most so many events later.
const REPEAT_DISTANCE_MAX: u64 = 400;
/// Users in the stream.
const USERS: u64 = 400;
/// 2026-03-02T00:00:00Z, seconds since the Unix epoch: when the stream begins.
const STREAM_START_S: u64 = 1_772_409_600;

/// One event as it stands in `events.jsonl`: an envelope and its payload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// Event type of the envelope.
    pub event_type: String,
    /// Stable over repetitions.
    pub idempotency_key: String,
    /// Whose events must keep their order.
    pub routing_key: String,
    /// Who sent it.
    pub source: String,
    /// The payload.
    pub payload: Value,
}

/// The committed stream.
pub fn stream() -> Vec<Event> {
    generate(STREAM_SEED, STREAM_EVENTS)
}

/// The stream of `seed`, `count` events long. A shorter stream is the beginning of a longer one.
pub fn generate(seed: u64, count: usize) -> Vec<Event> {
    let mut draw = Draw(seed);
    let mut events: Vec<Event> = Vec::with_capacity(count);
    while events.len() < count {
        if !events.is_empty() && draw.below(REPEAT_ONE_IN) == 0 {
            let back = 1 + draw.below(REPEAT_DISTANCE_MAX.min(events.len() as u64)) as usize;
            events.push(events[events.len() - back].clone());
        } else {
            let number = events.len() as u64;
            events.push(event(&mut draw, number));
        }
    }
    events
}

/// The lines of `events.jsonl`.
pub fn to_jsonl(events: &[Event]) -> String {
    let mut text = String::with_capacity(events.len() * 400);
    for event in events {
        text.push_str(&serde_json::to_string(event).expect("an event is a tree of texts and numbers"));
        text.push('\n');
    }
    text
}

/// SplitMix64 (Steele, Lea, Flood 2014): the whole state is one word.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// `0..bound`; the bias of the modulus is far below one in a million for the bounds used here.
    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn pick<'a>(&mut self, options: &[&'a str]) -> &'a str {
        options[self.below(options.len() as u64) as usize]
    }

    /// Few large, many small: a price in cents with a long tail.
    fn cents(&mut self) -> u64 {
        match self.below(100) {
            0..60 => 300 + self.below(9_000),
            60..90 => 5_000 + self.below(60_000),
            90..98 => 50_000 + self.below(200_000),
            _ => 200_000 + self.below(2_000_000),
        }
    }
}

/// Cents as a price with two decimals.
fn price(cents: u64) -> f64 {
    cents as f64 / 100.0
}

fn instant(number: u64) -> String {
    // Seconds of a few days; the calendar is simple enough to spell it without a library: all inside March 2026.
    let seconds = STREAM_START_S + number * 47;
    let (days, in_day) = ((seconds - STREAM_START_S) / 86_400, seconds % 86_400);
    format!("2026-03-{:02}T{:02}:{:02}:{:02}Z", 2 + days, in_day / 3_600, in_day / 60 % 60, in_day % 60)
}

fn event(draw: &mut Draw, number: u64) -> Event {
    let user = User::draw(draw);
    let (event_type, key, payload) = match draw.below(100) {
        0..42 => ("payment_received", format!("pay-{number:06}"), payment(draw, number, &user)),
        42..68 => ("order_placed", format!("ord-{number:06}"), order(draw, number, &user)),
        68..76 => ("payment_failed", format!("fail-{number:06}"), failed_payment(draw, number, &user)),
        76..84 => ("refund_requested", format!("ref-{number:06}"), refund(draw, number, &user)),
        84..87 => ("chargeback.opened", format!("chb-{number:06}"), chargeback(draw, number, &user)),
        87..95 => ("login", format!("log-{number:06}"), login(draw, number, &user)),
        _ => (
            "page_viewed",
            format!("view-{number:06}"),
            json!({"created_at": instant(number), "page": draw.pick(&["/", "/cart", "/help"]), "user": {"id": user.id}}),
        ),
    };
    let source = draw.pick(&["checkout-eu", "checkout-us", "mobile-gateway", "back-office"]).to_owned();
    Event { event_type: event_type.to_owned(), idempotency_key: key, routing_key: user.id, source, payload }
}

struct User {
    id: String,
    tier: &'static str,
    email: String,
    country: &'static str,
}

impl User {
    fn draw(draw: &mut Draw) -> Self {
        let number = draw.below(USERS);
        // What belongs to a user is a function of the user, so that it agrees over events.
        let mut own = Draw(number ^ 0x7573_6572);
        let domain = own.pick(&["example.org", "mail.example.com", "example.net", "qa.example.test"]);
        Self {
            id: format!("u-{number:04}"),
            tier: own.pick(&["free", "free", "silver", "gold", "platinum"]),
            email: format!("user{number}@{domain}"),
            country: own.pick(&["DE", "FR", "GB", "US", "IN", "NL", "BR", "RU", "NG", "JP"]),
        }
    }

    fn json(&self) -> Value {
        json!({"country": self.country, "email": self.email, "id": self.id, "tier": self.tier})
    }
}

fn ip(draw: &mut Draw) -> String {
    match draw.below(12) {
        0 => format!("10.20.{}.{}", draw.below(4), 1 + draw.below(250)),
        1 => format!("2001:db8:{:x}::{:x}", draw.below(64), 1 + draw.below(4_000)),
        2 => format!("203.0.113.{}", 1 + draw.below(250)),
        _ => format!("198.51.{}.{}", 100 + draw.below(2), 1 + draw.below(250)),
    }
}

fn user_agent(draw: &mut Draw) -> &'static str {
    draw.pick(&[
        "Mozilla/5.0 (X11; Linux x86_64) Firefox/131.0",
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X)",
        "ShopApp/7.4.1 (Android 15)",
        "ShopApp/6.0.0 (iOS 17)",
        "Mozilla/5.0 (Windows NT 10.0; Win64) Chrome/130.0",
        "python-requests/2.31",
    ])
}

fn payment(draw: &mut Draw, number: u64, user: &User) -> Value {
    let mut payment = json!({
        "payment_id": format!("pay-{number:06}"),
        "amount": price(draw.cents()),
        "currency": draw.pick(&["EUR", "EUR", "USD", "GBP", "INR", "BRL"]),
        "created_at": instant(number),
        "ip": ip(draw),
        "method": draw.pick(&["card", "card", "card", "transfer", "wallet", "voucher"]),
        "status": draw.pick(&["authorised", "authorised", "authorised", "authorised", "pending"]),
        "user": user.json(),
        "user_agent": user_agent(draw),
    });
    if payment["method"] == "card" {
        payment["card"] =
            json!({"bin": draw.pick(&["411111", "545454", "400000", "371449"]), "last4": format!("{:04}", draw.below(10_000))});
    }
    if draw.one_in(4) {
        payment["device"] = json!({"id": format!("d-{:05}", draw.below(3_000)), "trusted": draw.one_in(2)});
    }
    payment
}

fn order(draw: &mut Draw, number: u64, user: &User) -> Value {
    let lines = 1 + draw.below(3);
    let mut total_cents = 0;
    let items: Vec<Value> = (0..lines)
        .map(|_| {
            let (cents, quantity) = (200 + draw.below(12_000), 1 + draw.below(3));
            total_cents += cents * quantity;
            let kind = draw.pick(&["BOOK", "TOY", "ELEC", "FOOD", "GARD"]);
            json!({"price": price(cents), "quantity": quantity, "sku": format!("{kind}-{:04}", draw.below(500))})
        })
        .collect();
    let mut order = json!({
        "order_id": format!("ord-{number:06}"),
        "created_at": instant(number),
        "items": items,
        "shipping": {"country": user.country, "speed": draw.pick(&["standard", "standard", "Express", "EXPRESS", "pickup"])},
        "total": price(total_cents),
        "user": user.json(),
    });
    if draw.one_in(5) {
        order["coupon"] = json!(format!("{}-{:03}", draw.pick(&["SPRING", "WELCOME", "VIP"]), draw.below(200)));
    }
    if draw.one_in(12) {
        order["note"] = json!(draw.pick(&["please gift wrap", "leave at the door", "ring twice", "gift for a friend"]));
    }
    order
}

fn failed_payment(draw: &mut Draw, number: u64, user: &User) -> Value {
    json!({
        "payment_id": format!("pay-{number:06}"),
        "amount": price(draw.cents()),
        "attempt": 1 + draw.below(5),
        "created_at": instant(number),
        "error": {"code": draw.pick(&["insufficient_funds", "card_expired", "do_not_honor", "issuer_timeout"])},
        "user": user.json(),
    })
}

fn refund(draw: &mut Draw, number: u64, user: &User) -> Value {
    json!({
        "refund_id": format!("ref-{number:06}"),
        "amount": price(draw.cents()),
        "created_at": instant(number),
        "payment_id": format!("pay-{:06}", draw.below(number.max(1))),
        "reason": draw.pick(&["item damaged in transit", "wrong item", "late delivery", "changed my mind", "duplicate charge", "never arrived"]),
        "user": user.json(),
    })
}

fn chargeback(draw: &mut Draw, number: u64, user: &User) -> Value {
    json!({
        "chargeback_id": format!("chb-{number:06}"),
        "amount": price(draw.cents()),
        "created_at": instant(number),
        "network": draw.pick(&["visa", "mastercard", "amex"]),
        "user": user.json(),
    })
}

fn login(draw: &mut Draw, number: u64, user: &User) -> Value {
    json!({"created_at": instant(number), "ip": ip(draw), "ok": !draw.one_in(9), "user": user.json(), "user_agent": user_agent(draw)})
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashSet};

    use super::*;

    #[test]
    fn the_committed_file_is_what_the_generator_makes() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/payments/events.jsonl");
        let file = std::fs::read_to_string(path).unwrap_or_default();
        assert!(file == to_jsonl(&stream()), "events.jsonl is stale: cargo run -p distric-server --example generate_events");
        assert!(file.len() < 2 << 20, "{} bytes", file.len());
    }

    #[test]
    fn a_shorter_stream_is_the_beginning_of_a_longer_one() {
        assert_eq!(generate(1, 50), generate(1, 80)[..50]);
        assert_ne!(generate(1, 50), generate(2, 50));
    }

    #[test]
    fn one_key_always_has_one_payload_and_some_keys_repeat() {
        let events = stream();
        let mut by_key: BTreeMap<&str, &Event> = BTreeMap::new();
        for event in &events {
            assert_eq!(*by_key.entry(&event.idempotency_key).or_insert(event), event);
        }
        let repeats = events.len() - by_key.len();
        assert!((50..400).contains(&repeats), "{repeats} repeats");
        let kinds: HashSet<_> = events.iter().map(|event| event.event_type.as_str()).collect();
        assert_eq!(kinds.len(), 7);
    }
}
