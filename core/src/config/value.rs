//! One value: parsed from text or from a node of a document, by the kind of its key.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use distric_model::namespace::is_identifier;
use distric_rules::document::{Node, NodeValue};

use super::table::{Bounds, Kind, TEXT_BYTES_MAX, Unit, WORKER_COORDINATORS_MAX, WORKER_LABELS_MAX};

/// A value that fits its key's kind and bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A name or a chosen word.
    Text(String),
    /// A path.
    Path(PathBuf),
    /// A socket address.
    Address(SocketAddr),
    /// Addresses, `host:port` each.
    Addresses(Vec<String>),
    /// A truth value.
    Bool(bool),
    /// A whole number in the unit of its key.
    Integer(u64),
    /// `auto`.
    Auto,
    /// Labels.
    Labels(BTreeMap<String, String>),
}

/// What is wrong with a value: the words, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueError {
    /// What is wrong, with the offending value.
    pub message: String,
    /// What would be right.
    pub hint: String,
}

impl ValueError {
    fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: hint.into() }
    }
}

/// Reads a value written as text, in a variable, a flag, or a string of the file.
pub fn from_text(kind: Kind, text: &str) -> Result<Value, ValueError> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(ValueError::new(format!("{} bytes are too long", text.len()), format!("at most {TEXT_BYTES_MAX} bytes")));
    }
    match kind {
        Kind::Name(bytes_max) if is_identifier(text, bytes_max) => Ok(Value::Text(text.to_owned())),
        Kind::Name(bytes_max) => {
            Err(ValueError::new(format!("{text:?} is not a name"), format!("1 to {bytes_max} characters of A-Z a-z 0-9 . _ -")))
        }
        Kind::Path if text.is_empty() || text.contains('\0') => Err(ValueError::new("an empty path", "the path of a directory")),
        Kind::Path => Ok(Value::Path(PathBuf::from(text))),
        Kind::Address => address(text).map(Value::Address),
        Kind::Addresses => addresses(text.split(',').map(str::trim).filter(|part| !part.is_empty())),
        Kind::Bool => match text {
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            _ => Err(ValueError::new(format!("{text:?} is not a truth value"), "true or false")),
        },
        Kind::Integer(bounds) => integer(text, bounds).map(Value::Integer),
        Kind::AutoOr(_) if text == "auto" => Ok(Value::Auto),
        Kind::AutoOr(bounds) => {
            integer(text, bounds).map(Value::Integer).map_err(|error| ValueError { hint: format!("auto, or {}", error.hint), ..error })
        }
        Kind::Choice(options) if options.contains(&text) => Ok(Value::Text(text.to_owned())),
        Kind::Choice(options) => {
            let guess =
                distric_rules::document::did_you_mean(text, options).map(|guess| format!("did you mean `{guess}`? ")).unwrap_or_default();
            Err(ValueError::new(format!("{text:?} is not known here"), format!("{guess}one of: {}", options.join(", "))))
        }
        Kind::Labels => labels(text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(|part| part.split_once('=').ok_or(part))),
    }
}

/// Reads a value written in a file.
pub fn from_node(kind: Kind, node: &Node) -> Result<Value, ValueError> {
    match (&node.value, kind) {
        (NodeValue::Null, _) => Err(ValueError::new("no value is written", "remove the line to get the default")),
        (NodeValue::String(text), _) => from_text(kind, text),
        (NodeValue::Bool(value), Kind::Bool) => Ok(Value::Bool(*value)),
        (NodeValue::Number(number), Kind::Integer(_) | Kind::AutoOr(_) | Kind::Name(_)) => from_text(kind, &number.to_string()),
        (NodeValue::List(items), Kind::Addresses) => {
            let mut texts = Vec::with_capacity(items.len().min(WORKER_COORDINATORS_MAX));
            for item in items {
                match &item.value {
                    NodeValue::String(text) => texts.push(text.as_str()),
                    _ => return Err(ValueError::new("an element is not text", "host:port")),
                }
            }
            addresses(texts.into_iter())
        }
        (NodeValue::Map(entries), Kind::Labels) => {
            let mut pairs = Vec::with_capacity(entries.len().min(WORKER_LABELS_MAX));
            for (key, value) in entries {
                match &value.value {
                    NodeValue::String(text) => pairs.push((key.text.clone(), text.clone())),
                    NodeValue::Number(number) => pairs.push((key.text.clone(), number.to_string())),
                    NodeValue::Bool(value) => pairs.push((key.text.clone(), value.to_string())),
                    _ => return Err(ValueError::new(format!("label {:?} is not text", key.text), "a map of name to text")),
                }
            }
            labels(pairs.iter().map(|(name, value)| Ok((name.as_str(), value.as_str()))))
        }
        _ => Err(ValueError::new(format!("{} does not fit here", node.kind()), expected(kind))),
    }
}

fn address(text: &str) -> Result<SocketAddr, ValueError> {
    if let Some(port) = text.strip_prefix("localhost:").and_then(|port| port.parse::<u16>().ok()) {
        return Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    }
    text.parse().map_err(|_| {
        ValueError::new(format!("{text:?} is not an address to listen on"), "IP:port, for example 127.0.0.1:7400 or [::1]:7400")
    })
}

fn addresses<'a>(parts: impl Iterator<Item = &'a str>) -> Result<Value, ValueError> {
    let mut all = Vec::new();
    for part in parts {
        let port = part.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
        if !matches!(port, Some(Ok(1..))) {
            return Err(ValueError::new(format!("{part:?} is not an address"), "host:port"));
        }
        all.push(part.to_owned());
    }
    if all.is_empty() || all.len() > WORKER_COORDINATORS_MAX {
        return Err(ValueError::new(format!("{} addresses", all.len()), format!("1 to {WORKER_COORDINATORS_MAX} of host:port")));
    }
    Ok(Value::Addresses(all))
}

fn labels<'a>(pairs: impl Iterator<Item = Result<(&'a str, &'a str), &'a str>>) -> Result<Value, ValueError> {
    let mut all = BTreeMap::new();
    for pair in pairs {
        let (name, value) = pair.map_err(|part| ValueError::new(format!("{part:?} is not a label"), "name=value, comma-separated"))?;
        if !is_identifier(name, 64) || value.len() > 256 {
            return Err(ValueError::new(
                format!("label {name:?} has a bad name or a value over 256 bytes"),
                "names of A-Z a-z 0-9 . _ -, up to 64",
            ));
        }
        all.insert(name.to_owned(), value.to_owned());
        if all.len() > WORKER_LABELS_MAX {
            return Err(ValueError::new("too many labels", format!("at most {WORKER_LABELS_MAX}")));
        }
    }
    Ok(Value::Labels(all))
}

/// A whole number with an optional suffix of its unit, within its bounds.
fn integer(text: &str, bounds: Bounds) -> Result<u64, ValueError> {
    let digits_end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, suffix) = text.split_at(digits_end);
    let factor = match (bounds.unit, suffix.trim_start()) {
        (_, "") => 1,
        (Unit::Bytes, "B") | (Unit::Milliseconds, "ms") => 1,
        (Unit::Bytes, "KiB") => 1 << 10,
        (Unit::Bytes, "MiB") => 1 << 20,
        (Unit::Bytes, "GiB") => 1 << 30,
        (Unit::Milliseconds, "s") => 1_000,
        (Unit::Milliseconds, "m") => 60_000,
        (Unit::Milliseconds, "h") => 3_600_000,
        _ => 0,
    };
    match digits.parse::<u64>().ok().filter(|_| factor > 0).and_then(|number| number.checked_mul(factor)) {
        None => Err(ValueError::new(format!("{text:?} is not a whole number"), range(bounds))),
        Some(number) if number < bounds.min || number > bounds.max => {
            Err(ValueError::new(format!("{number} is out of range"), range(bounds)))
        }
        Some(number) => Ok(number),
    }
}

/// The bounds in words.
pub fn range(bounds: Bounds) -> String {
    let unit = match bounds.unit {
        Unit::Count => "",
        Unit::Bytes => " bytes",
        Unit::Milliseconds => " ms",
    };
    format!("{} to {}{unit}", bounds.min, bounds.max)
}

/// What a kind expects, in words; also the type column of the reference.
pub fn expected(kind: Kind) -> String {
    match kind {
        Kind::Name(bytes_max) => format!("name, up to {bytes_max} characters"),
        Kind::Path => "path".to_owned(),
        Kind::Address => "IP:port".to_owned(),
        Kind::Addresses => format!("list of host:port, up to {WORKER_COORDINATORS_MAX}"),
        Kind::Bool => "true or false".to_owned(),
        Kind::Integer(bounds) => range(bounds),
        Kind::AutoOr(bounds) => format!("auto, or {}", range(bounds)),
        Kind::Choice(options) => options.join(", "),
        Kind::Labels => format!("map of name to text, up to {WORKER_LABELS_MAX}"),
    }
}

impl Value {
    /// As JSON, the form of `config print --json`.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Text(text) => text.as_str().into(),
            Self::Path(path) => path.to_string_lossy().into(),
            Self::Address(address) => address.to_string().into(),
            Self::Addresses(all) => all.clone().into(),
            Self::Bool(value) => (*value).into(),
            Self::Integer(number) => (*number).into(),
            Self::Auto => "auto".into(),
            Self::Labels(all) => {
                all.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect::<serde_json::Map<_, _>>().into()
            }
        }
    }
}
