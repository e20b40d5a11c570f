//! JSON to parameters, and columns to JSON.
//!
//! Parameters go as text, and the database reads them as whatever type they have there: numbers of any size, times, addresses, enums, arrays.
//! Columns come in the types below; another one is an error that says how to ask for it.

use std::error::Error;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::BytesMut;
use serde_json::{Map, Number, Value};
use tokio_postgres::Row;
use tokio_postgres::types::{Format, FromSql, IsNull, Kind, ToSql, Type, to_sql_checked};
use uuid::Uuid;

use super::failures::failed;
use crate::TaskFailure;
use crate::failure::{self, Code};

/// A JSON value, to be bound to a parameter.
#[derive(Debug)]
pub(super) struct Param<'a>(pub(super) &'a Value);

impl ToSql for Param<'_> {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match (self.0, ty.kind()) {
            (Value::Null, _) => return Ok(IsNull::Yes),
            (value, _) if *ty == Type::JSON || *ty == Type::JSONB => out.extend_from_slice(value.to_string().as_bytes()),
            (Value::Array(items), Kind::Array(_)) => out.extend_from_slice(array_text(items).as_bytes()),
            (Value::String(text), _) => out.extend_from_slice(text.as_bytes()),
            (Value::Number(number), _) => out.extend_from_slice(number.to_string().as_bytes()),
            (Value::Bool(truth), _) => out.extend_from_slice(if *truth { b"true" } else { b"false" }),
            (Value::Array(_) | Value::Object(_), _) => {
                return Err(
                    format!("an array or object cannot be bound to a parameter of type {}: cast it, such as $1::jsonb", ty.name()).into()
                );
            }
        }
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    to_sql_checked!();
}

/// The literal of an array: `{"a","b",NULL,{"c"}}`.
fn array_text(items: &[Value]) -> String {
    let mut text = String::from("{");
    for (n, item) in items.iter().enumerate() {
        if n > 0 {
            text.push(',');
        }
        match item {
            Value::Null => text.push_str("NULL"),
            Value::Array(inner) => text.push_str(&array_text(inner)),
            Value::String(plain) => quote(plain, &mut text),
            other => quote(&other.to_string(), &mut text),
        }
    }
    text.push('}');
    text
}

fn quote(plain: &str, text: &mut String) {
    text.push('"');
    for c in plain.chars() {
        if matches!(c, '"' | '\\') {
            text.push('\\');
        }
        text.push(c);
    }
    text.push('"');
}

/// A row as an object by the names of its columns.
pub(super) fn row_of(row: &Row) -> Result<Value, TaskFailure> {
    let mut members = Map::with_capacity(row.len());
    for (n, column) in row.columns().iter().enumerate() {
        let value = row.try_get::<_, Option<Column>>(n).map_err(|error| match Column::accepts(column.type_()) {
            true => failed("query", &error),
            false => {
                let (name, ty) = (column.name(), column.type_().name());
                failure::permanent(
                    Code::BadConfig,
                    format!("config.query: column `{name}` is of type {ty}, which is not read here: select {name}::text"),
                )
            }
        })?;
        members.insert(column.name().to_owned(), value.map_or(Value::Null, |column| column.0));
    }
    Ok(Value::Object(members))
}

/// A column's value that is not null.
struct Column(Value);

impl<'a> FromSql<'a> for Column {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        let value = match *ty {
            Type::BOOL => Value::from(bool::from_sql(ty, raw)?),
            Type::INT2 => Value::from(i16::from_sql(ty, raw)?),
            Type::INT4 => Value::from(i32::from_sql(ty, raw)?),
            Type::INT8 => Value::from(i64::from_sql(ty, raw)?),
            Type::OID => Value::from(u32::from_sql(ty, raw)?),
            Type::FLOAT4 => float(f64::from(f32::from_sql(ty, raw)?)),
            Type::FLOAT8 => float(f64::from_sql(ty, raw)?),
            Type::NUMERIC => Value::from(numeric(raw)?),
            Type::UUID => Value::from(Uuid::from_sql(ty, raw)?.to_string()),
            Type::JSON | Type::JSONB => Value::from_sql(ty, raw)?,
            Type::BYTEA => Value::from(STANDARD.encode(raw)),
            Type::TIMESTAMPTZ => Value::from(jiff::Timestamp::from_sql(ty, raw)?.to_string()),
            Type::TIMESTAMP => Value::from(jiff::civil::DateTime::from_sql(ty, raw)?.to_string()),
            Type::DATE => Value::from(jiff::civil::Date::from_sql(ty, raw)?.to_string()),
            Type::TIME => Value::from(jiff::civil::Time::from_sql(ty, raw)?.to_string()),
            _ => match ty.kind() {
                Kind::Array(_) => {
                    let items = Vec::<Option<Self>>::from_sql(ty, raw)?;
                    items.into_iter().map(|item| item.map_or(Value::Null, |item| item.0)).collect()
                }
                Kind::Domain(inner) => return Self::from_sql(inner, raw),
                // The labels of an enum, and everything that is text.
                _ => Value::from(std::str::from_utf8(raw)?),
            },
        };
        Ok(Self(value))
    }

    fn accepts(ty: &Type) -> bool {
        match ty.kind() {
            Kind::Array(inner) | Kind::Domain(inner) => Self::accepts(inner),
            Kind::Enum(_) => true,
            _ => matches!(
                *ty,
                Type::BOOL
                    | Type::INT2
                    | Type::INT4
                    | Type::INT8
                    | Type::OID
                    | Type::FLOAT4
                    | Type::FLOAT8
                    | Type::NUMERIC
                    | Type::UUID
                    | Type::JSON
                    | Type::JSONB
                    | Type::BYTEA
                    | Type::TIMESTAMPTZ
                    | Type::TIMESTAMP
                    | Type::DATE
                    | Type::TIME
                    | Type::TEXT
                    | Type::VARCHAR
                    | Type::BPCHAR
                    | Type::NAME
                    | Type::UNKNOWN
            ),
        }
    }
}

/// JSON has no infinities: they become the text that the database shows.
fn float(value: f64) -> Value {
    Number::from_f64(value).map_or_else(
        || {
            Value::from(if value.is_nan() {
                "NaN"
            } else if value > 0.0 {
                "Infinity"
            } else {
                "-Infinity"
            })
        },
        Value::Number,
    )
}

/// A `numeric` as exact text: count of digits to the base 10,000, weight of the first, sign, digits after the point, the digits (each 16 bits).
fn numeric(raw: &[u8]) -> Result<String, Box<dyn Error + Sync + Send>> {
    let word = |at: usize| -> Result<u16, Box<dyn Error + Sync + Send>> {
        let bytes = raw.get(2 * at..2 * at + 2).ok_or("a numeric is too short")?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    };
    let (count, weight, sign, scale) = (word(0)?, i32::from(word(1)? as i16), word(2)?, usize::from(word(3)?));
    match sign {
        0x0000 | 0x4000 => {}
        0xC000 => return Ok("NaN".to_owned()),
        0xD000 => return Ok("Infinity".to_owned()),
        0xF000 => return Ok("-Infinity".to_owned()),
        other => return Err(format!("a numeric has the sign {other:#06x}").into()),
    }
    let digit = |place: i32| -> Result<u16, Box<dyn Error + Sync + Send>> {
        // Places count down from the weight; beyond the stored ones they are zero.
        match usize::try_from(weight - place) {
            Ok(n) if n < usize::from(count) => word(4 + n),
            _ => Ok(0),
        }
    };
    let mut text = String::from(if sign == 0x4000 { "-" } else { "" });
    write!(text, "{}", digit(weight.max(0))?)?;
    for place in (0..weight.max(0)).rev() {
        write!(text, "{:04}", digit(place)?)?;
    }
    if scale > 0 {
        let mut fraction = String::new();
        for n in 0..scale.div_ceil(4) {
            write!(fraction, "{:04}", digit(-1 - i32::try_from(n)?)?)?;
        }
        write!(text, ".{}", &fraction[..scale])?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn words(words: &[u16]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    #[test]
    fn numerics_are_exact() {
        // 12345.67: digits 1 2345 6700, weight 1, scale 2.
        assert_eq!(numeric(&words(&[3, 1, 0, 2, 1, 2345, 6700])).unwrap(), "12345.67");
        assert_eq!(numeric(&words(&[1, 0xFFFF, 0x4000, 3, 10])).unwrap(), "-0.001");
        assert_eq!(numeric(&words(&[0, 0, 0, 2])).unwrap(), "0.00");
        assert_eq!(numeric(&words(&[1, 2, 0, 0, 1])).unwrap(), "100000000");
        assert_eq!(numeric(&words(&[0, 0, 0xC000, 0])).unwrap(), "NaN");
        assert!(numeric(&[0, 1]).is_err() && numeric(&words(&[2, 0, 0, 0, 1])).is_ok_and(|text| text == "1"));
    }

    #[test]
    fn arrays_are_quoted() {
        let items = json!(["a\"b\\c", null, 7, ["x"]]);
        assert_eq!(array_text(items.as_array().unwrap()), r#"{"a\"b\\c",NULL,"7",{"x"}}"#);
    }
}
