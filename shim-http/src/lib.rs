//! REST over the SDK.
