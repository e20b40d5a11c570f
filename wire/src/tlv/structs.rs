//! One table per message: the macro that turns it into a struct, a decoder, an encoder and a [`super::FieldSpec`] list.
//!
//! A macro, because a decoder written by hand for thirty messages would repeat the same six mistakes thirty times,
//! and because `docs/protocol.md` and the golden vectors are checked against the very table that the code is made of.

/// Declares messages and nested structures:
/// `struct Name<'a> = 0x4001 { tag name: mode type, … }`, mode being `required`, `optional` (an `Option`) or
/// `default` (absent means the type's default, which is not sent). Without `= type` it is a nested structure.
macro_rules! tlv_struct {
    ($(#[$meta:meta])* struct $name:ident<$lt:lifetime> $(= $type:literal)? { $($body:tt)+ }) => {
        $crate::tlv::structs::tlv_struct! { @define $(#[$meta])* [$name<$lt>] $name { $($body)+ } }
        $crate::tlv::structs::tlv_struct! { @codec [$lt] [$name<$lt>] $name { $($body)+ } }
        $( $crate::tlv::structs::tlv_struct! { @message [$lt] [$name<$lt>] $name $type } )?
    };
    ($(#[$meta:meta])* struct $name:ident $(= $type:literal)? { $($body:tt)+ }) => {
        $crate::tlv::structs::tlv_struct! { @define $(#[$meta])* [$name] $name { $($body)+ } }
        $crate::tlv::structs::tlv_struct! { @codec ['m] [$name] $name { $($body)+ } }
        $( $crate::tlv::structs::tlv_struct! { @message ['m] [$name] $name $type } )?
    };

    (@define $(#[$meta:meta])* [$($full:tt)+] $name:ident { $( $(#[$doc:meta])* $tag:literal $field:ident: $mode:ident $ty:ty ),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq)]
        pub struct $($full)+ {
            $( $(#[$doc])* pub $field: $crate::tlv::structs::field_type!($mode $ty), )+
        }
    };

    (@codec [$lt:lifetime] [$($full:tt)+] $name:ident { $( $(#[$doc:meta])* $tag:literal $field:ident: $mode:ident $ty:ty ),+ $(,)? }) => {
        impl<$lt> $($full)+ {
            /// Its name in errors and in `docs/protocol.md`.
            pub const NAME: &'static str = stringify!($name);

            /// Its table of fields, by tag.
            pub const FIELDS: &'static [$crate::tlv::FieldSpec] = &[
                $( $crate::tlv::FieldSpec {
                    tag: $tag,
                    name: stringify!($field),
                    type_name: <$ty as $crate::tlv::Value<$lt>>::TYPE_NAME,
                    required: $crate::tlv::structs::field_required!($mode),
                }, )+
            ];

            /// Reads a payload. Borrows from it, allocates nothing. Errors: [`crate::DecodeError`], naming message and tag.
            pub fn decode(payload: &$lt [u8]) -> Result<Self, $crate::error::DecodeError> {
                $( let mut $field: Option<$ty> = None; )+
                let mut fields = $crate::tlv::reader::MessageFields::new(stringify!($name), payload);
                while let Some(field) = fields.next_field()? {
                    match field.tag {
                        $( $tag => fields.read_into(field, stringify!($field), &mut $field)?, )+
                        _ => fields.skip(field)?,
                    }
                }
                Ok(Self { $( $field: $crate::tlv::structs::field_finish!($mode fields $tag $field), )+ })
            }

            /// Appends the payload.
            pub fn encode_payload(&self, out: &mut Vec<u8>) {
                $( $crate::tlv::structs::field_put!($mode self out $tag $field); )+
            }

            /// Bytes that [`Self::encode_payload`] appends.
            pub fn payload_bytes(&self) -> usize {
                0 $( + $crate::tlv::structs::field_bytes!($mode self $field) )+
            }
        }
    };

    (@message [$lt:lifetime] [$($full:tt)+] $name:ident $type:literal) => {
        impl<$lt> $crate::message::Message<$lt> for $($full)+ {
            const TYPE: u16 = $type;
            const NAME: &'static str = stringify!($name);

            fn decode(payload: &$lt [u8]) -> Result<Self, $crate::error::DecodeError> {
                <$($full)+>::decode(payload)
            }

            fn encode_payload(&self, out: &mut Vec<u8>) {
                <$($full)+>::encode_payload(self, out);
            }

            fn payload_bytes(&self) -> usize {
                <$($full)+>::payload_bytes(self)
            }
        }
    };
}

macro_rules! field_type {
    (required $ty:ty) => { $ty };
    (optional $ty:ty) => { Option<$ty> };
    (default $ty:ty) => { $ty };
}

macro_rules! field_required {
    (required) => {
        true
    };
    (optional) => {
        false
    };
    (default) => {
        false
    };
}

macro_rules! field_finish {
    (required $fields:ident $tag:literal $field:ident) => {
        match $field {
            Some(value) => value,
            None => return Err($fields.missing($tag, stringify!($field))),
        }
    };
    (optional $fields:ident $tag:literal $field:ident) => {
        $field
    };
    (default $fields:ident $tag:literal $field:ident) => {
        $field.unwrap_or_default()
    };
}

macro_rules! field_put {
    (required $self:ident $out:ident $tag:literal $field:ident) => {
        $crate::tlv::writer::put($out, $tag, &$self.$field)
    };
    (optional $self:ident $out:ident $tag:literal $field:ident) => {
        if let Some(value) = &$self.$field {
            $crate::tlv::writer::put($out, $tag, value);
        }
    };
    (default $self:ident $out:ident $tag:literal $field:ident) => {
        if !$crate::tlv::views::Absent::is_absent(&$self.$field) {
            $crate::tlv::writer::put($out, $tag, &$self.$field);
        }
    };
}

macro_rules! field_bytes {
    (required $self:ident $field:ident) => {
        $crate::tlv::writer::field_bytes(&$self.$field)
    };
    (optional $self:ident $field:ident) => {
        $self.$field.as_ref().map_or(0, $crate::tlv::writer::field_bytes)
    };
    (default $self:ident $field:ident) => {
        if $crate::tlv::views::Absent::is_absent(&$self.$field) { 0 } else { $crate::tlv::writer::field_bytes(&$self.$field) }
    };
}

pub(crate) use {field_bytes, field_finish, field_put, field_required, field_type, tlv_struct};
