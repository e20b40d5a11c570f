//! Real processes under fault.
