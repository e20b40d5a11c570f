//! The words that drawn rules and messages are made of.

/// Parts of event types.
pub const NOUNS: [&str; 5] = ["payment", "order", "user", "login", "cart"];
/// Parts of event types.
pub const VERBS: [&str; 10] =
    ["created", "updated", "deleted", "failed", "approved", "declined", "refunded", "expired", "viewed", "clicked"];
/// Countries.
pub const COUNTRIES: [&str; 60] = [
    "US", "GB", "DE", "FR", "IN", "BR", "CN", "JP", "CA", "AU", "ES", "IT", "NL", "SE", "PL", "MX", "KR", "ID", "TR", "RU", "ZA", "NG",
    "EG", "AR", "CL", "CO", "PE", "VE", "UA", "RO", "CZ", "PT", "GR", "HU", "AT", "CH", "BE", "DK", "NO", "FI", "IE", "IL", "AE", "SA",
    "QA", "KW", "PK", "BD", "LK", "NP", "TH", "VN", "MY", "SG", "PH", "NZ", "KE", "GH", "MA", "TN",
];
/// Currencies.
pub const CURRENCIES: [&str; 8] = ["USD", "EUR", "GBP", "INR", "JPY", "BRL", "CAD", "AUD"];
/// Tiers of users.
pub const TIERS: [&str; 5] = ["free", "basic", "silver", "gold", "platinum"];
/// Channels.
pub const CHANNELS: [&str; 6] = ["web", "ios", "android", "pos", "api", "partner"];
/// Operating systems.
pub const SYSTEMS: [&str; 6] = [
    "Windows NT 10.0",
    "Macintosh; Intel Mac OS X 10_15_7",
    "X11; Linux x86_64",
    "iPhone; CPU iPhone OS 17_4",
    "Android 14; Pixel 8",
    "Android 13; SM-S911B",
];
/// Browsers.
pub const BROWSERS: [&str; 7] = ["Chrome", "Firefox", "Safari", "Edge", "Opera", "curl", "okhttp"];
/// Domains of mail addresses.
pub const DOMAINS: [&str; 6] = ["example.com", "mail.test", "corp.example.org", "shop.example.net", "tempmail.test", "uni.example.edu"];
/// Cities.
pub const CITIES: [&str; 20] = [
    "Berlin", "Paris", "London", "Madrid", "Rome", "Vienna", "Oslo", "Lima", "Quito", "Tokyo", "Osaka", "Delhi", "Mumbai", "Seoul",
    "Cairo", "Lagos", "Austin", "Boston", "Denver", "Miami",
];
/// First parts of tags.
pub const TAG_KINDS: [&str; 8] = ["vip", "new", "risk", "promo", "test", "fraud", "bulk", "b2b"];
/// Second parts of tags.
pub const TAG_LETTERS: [&str; 5] = ["a", "b", "c", "d", "e"];
/// Words of notes and mail addresses.
pub const WORDS: [&str; 36] = [
    "alpha",
    "bravo",
    "charlie",
    "delta",
    "echo",
    "foxtrot",
    "golf",
    "hotel",
    "india",
    "juliet",
    "kilo",
    "lima",
    "mike",
    "november",
    "oscar",
    "papa",
    "quebec",
    "romeo",
    "sierra",
    "tango",
    "uniform",
    "victor",
    "whiskey",
    "xray",
    "yankee",
    "zulu",
    "urgent",
    "refund",
    "chargeback",
    "gift",
    "manual",
    "review",
    "overdue",
    "blocked",
    "verified",
    "escalate",
];
/// Parts of URLs.
pub const PARTS: [&str; 10] = ["cart", "checkout", "account", "orders", "search", "product", "login", "help", "billing", "export"];

/// All event types, the most frequent ones first.
pub fn event_types() -> Vec<String> {
    VERBS.iter().flat_map(|verb| NOUNS.iter().map(move |noun| format!("{noun}.{verb}"))).collect()
}

/// All tags.
pub fn tags() -> Vec<String> {
    TAG_KINDS.iter().flat_map(|kind| TAG_LETTERS.iter().map(move |letter| format!("{kind}-{letter}"))).collect()
}
