//! Linearizability of one key's history, by the search of Wing and Gong with Lowe's memory of what was tried (WGL).
//!
//! A key is a register that is written once: the first message under it fixes what it is, later ones and reads are told that. Histories of
//! different keys are independent (linearizability is local: Herlihy and Wing 1990, theorem 1), so each is searched alone.

use std::collections::BTreeSet;

use uuid::Uuid;

/// Most operations on one key that are searched.
pub const OPERATIONS_MAX: usize = 128;

/// What was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Put this message under the key, or tell what is there.
    Put,
    /// Tell what is there.
    Get,
}

/// One question with its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// What was asked.
    pub asked: Asked,
    /// When.
    pub asked_at_us: u64,
    /// When it was answered; never for one whose outcome nobody knows: it may take effect at any later time, or never.
    pub answered_at_us: Option<u64>,
    /// What is under the key by the answer; `None`: nothing.
    pub told: Option<Uuid>,
}

/// Whether some order of the operations, each somewhere between its question and its answer, explains all answers.
///
/// Panics: with more than [`OPERATIONS_MAX`] operations.
pub fn is_linearizable(history: &[Operation]) -> bool {
    assert!(history.len() <= OPERATIONS_MAX, "{} operations on one key", history.len());
    // What an operation without an answer would have put there: whatever the key was told to be by anybody.
    let fixed = history.iter().find_map(|operation| operation.told);
    let mut tried = BTreeSet::new();
    search(history, fixed, 0, None, &mut tried)
}

/// `done`: the operations that have taken effect, a bit each; `state`: what is under the key then.
fn search(history: &[Operation], fixed: Option<Uuid>, done: u128, state: Option<Uuid>, tried: &mut BTreeSet<(u128, Option<Uuid>)>) -> bool {
    let open = || history.iter().enumerate().filter(move |(at, _)| done & (1 << at) == 0);
    let Some(first_answer_us) = open().filter_map(|(_, operation)| operation.answered_at_us).min() else {
        return true; // Nothing that is left was answered: it need not have happened.
    };
    if !tried.insert((done, state)) {
        return false;
    }
    open().filter(|(_, operation)| operation.asked_at_us <= first_answer_us).any(|(at, operation)| {
        let after = match operation.asked {
            Asked::Put => state.or(operation.told).or(fixed),
            Asked::Get => state,
        };
        let explains = operation.answered_at_us.is_none() || operation.told == after;
        explains && search(history, fixed, done | (1 << at), after, tried)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Uuid = Uuid::from_u128(1);
    const B: Uuid = Uuid::from_u128(2);

    fn put(asked_at_us: u64, answered_at_us: u64, told: Uuid) -> Operation {
        Operation { asked: Asked::Put, asked_at_us, answered_at_us: Some(answered_at_us), told: Some(told) }
    }

    fn get(asked_at_us: u64, answered_at_us: u64, told: Option<Uuid>) -> Operation {
        Operation { asked: Asked::Get, asked_at_us, answered_at_us: Some(answered_at_us), told }
    }

    const LOST: Operation = Operation { asked: Asked::Put, asked_at_us: 0, answered_at_us: None, told: None };

    #[test]
    fn answers_that_some_order_explains_are_taken() {
        assert!(is_linearizable(&[]));
        assert!(is_linearizable(&[put(0, 5, A), put(3, 9, A), get(6, 7, Some(A))]));
        assert!(is_linearizable(&[put(0, 5, A), get(1, 2, None), get(3, 4, Some(A))]), "the put takes effect between the two");
        assert!(is_linearizable(&[LOST, get(1, 2, None), get(3, 4, Some(A)), get(5, 6, Some(A))]), "one without an answer may come late");
        assert!(is_linearizable(&[LOST, get(1, 2, None)]), "or never");
    }

    #[test]
    fn answers_that_no_order_explains_are_found() {
        assert!(!is_linearizable(&[put(0, 1, A), get(2, 3, None)]), "what was acknowledged is not there");
        assert!(!is_linearizable(&[put(0, 1, A), put(2, 3, B)]), "two messages under one key");
        assert!(!is_linearizable(&[LOST, get(1, 2, Some(A)), get(3, 4, None)]), "what was seen is gone");
        assert!(!is_linearizable(&[get(1, 2, Some(A)), put(3, 4, A)]), "seen before it was sent");
    }
}
