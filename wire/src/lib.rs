//! The binary protocol: frames, TLV, message families.
