//! Random operations on a segment store and on the memory store, which must agree, across restarts.

use proptest::prelude::*;

use super::*;
use crate::memory::MemoryStore;

/// Of one group: which, how far the cut goes back if there is one, entries, bytes of each, whether the state changes, and how far ahead
/// the log begins anew if it does.
type Part = (u32, Option<u64>, u64, usize, bool, Option<u64>);

#[derive(Clone, Debug)]
enum Operation {
    Write(Vec<Part>),
    Compact(u32, u64),
    Upkeep,
    Reopen,
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let reset = proptest::option::weighted(0.05, 0_u64..20);
    let write = (0_u32..4, proptest::option::weighted(0.2, 0_u64..6), 0_u64..5, 0_usize..2_500, any::<bool>(), reset);
    let one = prop_oneof![
        6 => proptest::collection::vec(write, 1..4).prop_map(Operation::Write),
        3 => (0_u32..4, 0_u64..12).prop_map(|(group, kept)| Operation::Compact(group, kept)),
        3 => Just(Operation::Upkeep),
        1 => Just(Operation::Reopen),
    ];
    proptest::collection::vec(one, 1..60)
}

/// What the operation means for groups that are as the model has them.
fn writes(model: &MemoryStore, parts: &[Part], term: u64) -> Vec<GroupWrite> {
    let known: BTreeMap<GroupId, Recovered> = model.clone().recover().unwrap().into_iter().collect();
    // Where the log of each group begins and ends after what was made so far.
    let mut logs: BTreeMap<GroupId, (u64, u64)> =
        known.iter().map(|(group, known)| (*group, (known.base.index.0, known.last.index.0))).collect();
    let mut made = Vec::new();
    for (group, cut, count, data_bytes, has_state, reset) in parts {
        let group = GroupId(*group);
        let (base, end) = logs.entry(group).or_default();
        // Within the log, or beyond its end.
        let reset_to = reset.map(|ahead| Position::new(Term(term), LogIndex(*base + ahead)));
        if let Some(reset) = reset_to {
            (*base, *end) = (reset.index.0, reset.index.0);
        }
        let truncate_from = cut.map(|back| LogIndex((*end + 1).saturating_sub(back).max(*base + 1)));
        *end = truncate_from.map_or(*end, |from| from.0 - 1);
        let entries = (*end + 1..=*end + count).map(|index| Entry { term: Term(term), ..entry(index, *data_bytes) }).collect();
        *end += count;
        // The first state that a group gets must cover its terms.
        let needs_state = *has_state || *count > 0 || reset_to.is_some();
        let hard_state = needs_state.then_some(HardState { term: Term(term), vote: None, commit: LogIndex(0) });
        if hard_state.is_some() || truncate_from.is_some() {
            made.push(GroupWrite { group, hard_state, reset_to, truncate_from, entries });
        }
    }
    made
}

fn assert_same(store: &mut SegmentStore, model: &mut MemoryStore) {
    let (found, expected) = (store.recover().unwrap(), model.recover().unwrap());
    assert_eq!(format!("{found:?}"), format!("{expected:?}"));
    for (group, _) in expected {
        for bytes_max in [u64::MAX, 3_000] {
            let from = model.recover().unwrap().into_iter().find(|(found, _)| *found == group).unwrap().1.base.index.next();
            let read = |store: &mut dyn LogStore| store.read(group, from, LogIndex(u64::MAX), bytes_max).unwrap();
            assert_eq!(read(store), read(model));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn it_does_what_the_memory_store_does(operations in operations()) {
        let dir = scratch();
        let mut store = open(dir.path()).unwrap();
        let mut model = MemoryStore::new();
        for (at, operation) in operations.iter().enumerate() {
            match operation {
                Operation::Write(parts) => {
                    let writes = writes(&model, parts, at as u64 + 1);
                    store.write(&writes).unwrap();
                    model.write(&writes).unwrap();
                }
                Operation::Compact(group, kept) => {
                    let upto = LogIndex(last(&store, GroupId(*group)).saturating_sub(*kept));
                    store.truncate_prefix(GroupId(*group), upto).unwrap();
                    model.truncate_prefix(GroupId(*group), upto).unwrap();
                }
                Operation::Upkeep => while store.upkeep().unwrap() {},
                Operation::Reopen => {
                    drop(store);
                    store = open(dir.path()).unwrap();
                    assert_same(&mut store, &mut model);
                }
            }
        }
        assert_same(&mut store, &mut model);
        drop(store);
        assert_same(&mut open(dir.path()).unwrap(), &mut model);
    }
}
