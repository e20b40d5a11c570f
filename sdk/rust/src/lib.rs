//! Client and worker library.
