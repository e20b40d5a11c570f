//! door
/// Why a message matches what it matches.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Explanation {}
impl std::fmt::Display for Explanation { fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { Ok(()) } }
