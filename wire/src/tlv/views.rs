//! Arrays and maps as lazy views: over a frame's bytes when they came in, over the caller's slices when they go out.
//!
//! Both look the same to a reader, and are equal when their elements are. None of them allocates.

use std::fmt;
use std::slice;
use std::sync::Arc;

use distric_model::limits::{BATCH_MESSAGES_MAX, HEADERS_MAX};
use uuid::Uuid;

use super::reader::{Field, Fields};
use super::writer::{field_bytes, position_tag, put};
use super::{ARRAY_ITEMS_MAX, Kind, Value};
use crate::error::Problem;
use crate::task::TaskRef;

/// The count limit of a container.
struct CountLimit {
    name: &'static str,
    items_max: usize,
}

const ITEMS: CountLimit = CountLimit { name: "array_items_max", items_max: ARRAY_ITEMS_MAX };
const BATCH: CountLimit = CountLimit { name: "batch_messages_max", items_max: BATCH_MESSAGES_MAX };
const HEADERS: CountLimit = CountLimit { name: "headers_max", items_max: HEADERS_MAX };

/// Reads one element of a container at its position.
fn element<'a, V: Value<'a>>(field: Field<'a>, position: usize) -> Result<V, Problem> {
    if field.kind != V::KIND.code() {
        return Err(Problem::WrongType { expected: V::KIND, found: field.kind });
    }
    if usize::from(field.tag) != position {
        return Err(Problem::WrongPosition { position, found: field.tag });
    }
    V::read(field.value)
}

/// Checks every element of an array and counts them.
fn checked<'a, V: Value<'a>>(bytes: &'a [u8], limit: &CountLimit) -> Result<usize, Problem> {
    let mut fields = Fields::new(bytes);
    let mut count = 0;
    while let Some(field) = fields.next_field().map_err(|(_, problem)| problem)? {
        if count == limit.items_max {
            return Err(Problem::TooMany { limit_name: limit.name, limit: limit.items_max });
        }
        element::<V>(field, count)?;
        count += 1;
    }
    Ok(count)
}

/// The next element of bytes that were [`checked`].
fn next_checked<'a, V: Value<'a>>(fields: &mut Fields<'a>) -> Option<V> {
    let field = fields.next_field().expect("the view was checked whole when it was made")?;
    Some(V::read(field.value).expect("the view was checked whole when it was made"))
}

/// Declares a lazy array: `Name` of `Item`, lent as `[Item]` or as `[Owned]`.
macro_rules! array_view {
    ($(#[$meta:meta])* $name:ident, $iter:ident, $repr:ident, $item:ty, $type_name:literal, $limit:expr, $owned:ty, |$lent:ident| $lend:expr) => {
        $(#[$meta])*
        #[derive(Clone, Copy)]
        pub struct $name<'a>($repr<'a>);

        #[derive(Clone, Copy)]
        enum $repr<'a> {
            Wire { bytes: &'a [u8], count: usize },
            Lent(&'a [$item]),
            Owned(&'a [$owned]),
        }

        impl<'a> $name<'a> {
            /// No elements.
            pub const EMPTY: Self = Self($repr::Lent(&[]));

            /// A view of the caller's elements.
            pub const fn of(items: &'a [$item]) -> Self {
                Self($repr::Lent(items))
            }

            /// A view of elements that the caller owns.
            pub const fn of_owned(items: &'a [$owned]) -> Self {
                Self($repr::Owned(items))
            }

            /// How many elements.
            pub const fn len(&self) -> usize {
                match self.0 {
                    $repr::Wire { count, .. } => count,
                    $repr::Lent(items) => items.len(),
                    $repr::Owned(items) => items.len(),
                }
            }

            /// Whether there are none.
            pub const fn is_empty(&self) -> bool {
                self.len() == 0
            }

            /// The elements in order.
            pub fn iter(&self) -> $iter<'a> {
                match self.0 {
                    $repr::Wire { bytes, .. } => $iter::Wire(Fields::new(bytes)),
                    $repr::Lent(items) => $iter::Lent(items.iter()),
                    $repr::Owned(items) => $iter::Owned(items.iter()),
                }
            }
        }

        #[doc = concat!("The elements of a [`", stringify!($name), "`].")]
        #[derive(Clone, Debug)]
        #[doc(hidden)]
        pub enum $iter<'a> {
            /// Over checked bytes.
            Wire(Fields<'a>),
            /// Over borrowed elements.
            Lent(slice::Iter<'a, $item>),
            /// Over owned elements.
            Owned(slice::Iter<'a, $owned>),
        }

        impl<'a> Iterator for $iter<'a> {
            type Item = $item;

            fn next(&mut self) -> Option<$item> {
                match self {
                    Self::Wire(fields) => next_checked(fields),
                    Self::Lent(items) => items.next().copied(),
                    Self::Owned(items) => items.next().map(|$lent| $lend),
                }
            }
        }

        impl<'a> IntoIterator for $name<'a> {
            type Item = $item;
            type IntoIter = $iter<'a>;

            fn into_iter(self) -> $iter<'a> {
                self.iter()
            }
        }

        impl<'a> Value<'a> for $name<'a> {
            const KIND: Kind = Kind::Array;
            const TYPE_NAME: &'static str = $type_name;

            fn read(bytes: &'a [u8]) -> Result<Self, Problem> {
                let count = checked::<$item>(bytes, &$limit)?;
                Ok(Self($repr::Wire { bytes, count }))
            }

            fn value_bytes(&self) -> usize {
                match self.0 {
                    $repr::Wire { bytes, .. } => bytes.len(),
                    _ => self.iter().map(|item| field_bytes(&item)).sum(),
                }
            }

            fn write(&self, out: &mut Vec<u8>) {
                match self.0 {
                    $repr::Wire { bytes, .. } => out.extend_from_slice(bytes),
                    _ => self.iter().enumerate().for_each(|(position, item)| put(out, position_tag(position), &item)),
                }
            }
        }

        impl Default for $name<'_> {
            fn default() -> Self {
                Self::EMPTY
            }
        }

        impl PartialEq for $name<'_> {
            fn eq(&self, other: &Self) -> bool {
                self.iter().eq(other.iter())
            }
        }

        impl fmt::Debug for $name<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_list().entries(self.iter()).finish()
            }
        }
    };
}

array_view! {
    /// An array of strings.
    Strs, StrsIter, StrsRepr, &'a str, "array<str>", ITEMS, Arc<str>, |text| &**text
}
array_view! {
    /// An array of UUIDs.
    Uuids, UuidsIter, UuidsRepr, Uuid, "array<uuid>", ITEMS, Uuid, |id| *id
}
array_view! {
    /// An array of u32 numbers.
    U32s, U32sIter, U32sRepr, u32, "array<u32>", ITEMS, u32, |number| *number
}
array_view! {
    /// An array of u64 numbers.
    U64s, U64sIter, U64sRepr, u64, "array<u64>", ITEMS, u64, |number| *number
}
array_view! {
    /// An array of byte strings, each a payload of its own; at most `BATCH_MESSAGES_MAX`.
    Items, ItemsIter, ItemsRepr, &'a [u8], "array<bytes>", BATCH, Vec<u8>, |bytes| bytes.as_slice()
}
array_view! {
    /// An array of task references, each a byte string on the wire.
    TaskRefs, TaskRefsIter, TaskRefsRepr, TaskRef, "array<bytes>", ITEMS, TaskRef, |task| *task
}

/// A map from string to string without duplicate keys, at most `HEADERS_MAX` of them, in the sender's order.
#[derive(Clone, Copy)]
pub struct Headers<'a>(HeadersRepr<'a>);

#[derive(Clone, Copy)]
enum HeadersRepr<'a> {
    Wire { bytes: &'a [u8], count: usize },
    Lent(&'a [(&'a str, &'a str)]),
    Owned(&'a [(String, String)]),
}

impl<'a> Headers<'a> {
    /// No pairs.
    pub const EMPTY: Self = Self(HeadersRepr::Lent(&[]));

    /// A view of the caller's pairs. The reader refuses a key that comes twice and more than `HEADERS_MAX` pairs.
    pub const fn of(pairs: &'a [(&'a str, &'a str)]) -> Self {
        Self(HeadersRepr::Lent(pairs))
    }

    /// A view of pairs that the caller owns; as [`Headers::of`].
    pub const fn of_owned(pairs: &'a [(String, String)]) -> Self {
        Self(HeadersRepr::Owned(pairs))
    }

    /// How many pairs.
    pub const fn len(&self) -> usize {
        match self.0 {
            HeadersRepr::Wire { count, .. } => count,
            HeadersRepr::Lent(pairs) => pairs.len(),
            HeadersRepr::Owned(pairs) => pairs.len(),
        }
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The pairs in order.
    pub fn iter(&self) -> HeadersIter<'a> {
        match self.0 {
            HeadersRepr::Wire { bytes, .. } => HeadersIter::Wire(Fields::new(bytes)),
            HeadersRepr::Lent(pairs) => HeadersIter::Lent(pairs.iter()),
            HeadersRepr::Owned(pairs) => HeadersIter::Owned(pairs.iter()),
        }
    }

    /// The value of a key.
    pub fn find(&self, key: &str) -> Option<&'a str> {
        self.iter().find(|(name, _)| *name == key).map(|(_, value)| value)
    }
}

/// The pairs of a [`Headers`].
#[derive(Clone, Debug)]
#[doc(hidden)]
pub enum HeadersIter<'a> {
    /// Over checked bytes.
    Wire(Fields<'a>),
    /// Over borrowed pairs.
    Lent(slice::Iter<'a, (&'a str, &'a str)>),
    /// Over owned pairs.
    Owned(slice::Iter<'a, (String, String)>),
}

impl<'a> Iterator for HeadersIter<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Wire(fields) => Some((next_checked(fields)?, next_checked(fields)?)),
            Self::Lent(pairs) => pairs.next().copied(),
            Self::Owned(pairs) => pairs.next().map(|(key, value)| (key.as_str(), value.as_str())),
        }
    }
}

impl<'a> IntoIterator for Headers<'a> {
    type Item = (&'a str, &'a str);
    type IntoIter = HeadersIter<'a>;

    fn into_iter(self) -> HeadersIter<'a> {
        self.iter()
    }
}

impl<'a> Value<'a> for Headers<'a> {
    const KIND: Kind = Kind::Map;
    const TYPE_NAME: &'static str = "map<str,str>";

    fn read(bytes: &'a [u8]) -> Result<Self, Problem> {
        let mut fields = Fields::new(bytes);
        let mut count = 0;
        while let Some(key) = fields.next_field().map_err(|(_, problem)| problem)? {
            if count == HEADERS.items_max {
                return Err(Problem::TooMany { limit_name: HEADERS.name, limit: HEADERS.items_max });
            }
            let key = element::<&str>(key, 2 * count)?;
            let value = fields.next_field().map_err(|(_, problem)| problem)?.ok_or(Problem::KeyWithoutValue)?;
            element::<&str>(value, 2 * count + 1)?;
            // Quadratic, but HEADERS_MAX is small, and unequal lengths cost one comparison.
            let before = Self(HeadersRepr::Wire { bytes, count });
            if before.iter().take(count).any(|(earlier, _)| earlier == key) {
                return Err(Problem::DuplicateKey { position: count });
            }
            count += 1;
        }
        Ok(Self(HeadersRepr::Wire { bytes, count }))
    }

    fn value_bytes(&self) -> usize {
        match self.0 {
            HeadersRepr::Wire { bytes, .. } => bytes.len(),
            _ => self.iter().map(|(key, value)| field_bytes(&key) + field_bytes(&value)).sum(),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        if let HeadersRepr::Wire { bytes, .. } = self.0 {
            out.extend_from_slice(bytes);
            return;
        }
        for (pair, (key, value)) in self.iter().enumerate() {
            put(out, position_tag(2 * pair), &key);
            put(out, position_tag(2 * pair + 1), &value);
        }
    }
}

impl Default for Headers<'_> {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl PartialEq for Headers<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl fmt::Debug for Headers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// Values whose absence means something: `false`, no headers.
pub(crate) trait Absent: Default {
    /// Whether it is what its absence would mean, so that it need not be sent.
    fn is_absent(&self) -> bool;
}

impl Absent for bool {
    fn is_absent(&self) -> bool {
        !*self
    }
}

impl Absent for Headers<'_> {
    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

impl Absent for U64s<'_> {
    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}
