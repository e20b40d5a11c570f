//! Joining: a node that finds a cluster becomes a member of it, whatever happens to the cluster at that moment.

use distric_model::GroupId;
use distric_raft::Membership;

use crate::world::{Setup, World};

#[test]
fn a_node_that_says_who_it_is_while_nobody_leads_becomes_a_member_all_the_same() {
    for (seed, shards) in [(1, 1), (2, 3), (3, 1)] {
        let mut world = World::new(Setup { nodes: 3, spares: 1, work_groups: 2, ..Setup::of(seed, shards) });
        (0..3).for_each(|node| world.crash(node));
        world.start(3);
        // Each founder hears of the newcomer before it has heard of a leader.
        for node in 0..3 {
            world.start(node);
            world.run_ms(20);
        }
        let all = Membership::new(world.nodes.iter().map(|node| node.id).collect(), Vec::new()).expect("distinct voters");
        world.until(30_000, "every group has four voters", |world| {
            (0..=2).all(|group| world.nodes.iter().all(|node| node.members(GroupId(group)).as_ref() == Some(&all)))
        });
    }
}
