//! One replica of one Raft group, a pure machine.
