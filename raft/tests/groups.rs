//! Several groups on three nodes, one store per node: they share its flush and nothing else.

mod world;

use bytes::Bytes;
use distric_raft::EntryKind;

use world::World;

#[test]
fn groups_on_one_store_agree_each_for_itself_and_survive_the_loss_of_a_node() {
    let mut world = World::new(3, 5, |_| {});
    world.traces = false;
    // Group g is led by node g mod 3.
    for group in world.groups.clone() {
        world.tick(group.0 as usize % 3, group);
        settle(&mut world);
    }
    for round in 0..20 {
        for group in world.groups.clone() {
            let leader = world.leader_of(group).unwrap();
            assert_eq!(leader, group.0 as usize % 3);
            world.propose(leader, group, vec![Bytes::from(format!("{group} {round}"))]);
        }
        // Five groups have staged their writes at every leader; one flush makes them durable.
        settle(&mut world);
    }
    // What is not flushed is lost on one node, and made up for by the others after its return.
    for group in world.groups.clone() {
        world.propose(group.0 as usize % 3, group, vec![Bytes::from_static(b"last")]);
    }
    world.crash(1, 0);
    settle(&mut world);
    world.start(1);
    // Whoever's time has come: heartbeats, and elections of the groups that node 1 led.
    for _ in 0..200 {
        let (due, at, group) = world.next_wake().unwrap();
        world.now = world.now.max(due);
        world.tick(at, group);
        settle(&mut world);
    }
    for group in world.groups.clone() {
        let truth = world.oracle.committed(group).to_vec();
        let commands = truth.iter().filter(|entry| entry.kind == EntryKind::Command);
        assert!(commands.clone().count() >= 20, "{group} lost commands");
        assert!(commands.clone().all(|entry| entry.data.as_ref() == b"last" || entry.data.starts_with(group.to_string().as_bytes())));
        for node in &world.nodes {
            assert!(node.applied[&group] == truth, "{group}: a node has applied something else");
        }
        world.oracle.check_log_matching(group, &mut world.nodes);
    }
}

/// Delivers and flushes until nothing moves.
fn settle(world: &mut World) {
    while !world.packets.is_empty() || world.nodes.iter().any(|node| !node.writing.is_empty()) {
        for packet in std::mem::take(&mut world.packets) {
            world.deliver(packet);
        }
        (0..world.nodes.len()).filter(|at| world.is_up(*at)).collect::<Vec<_>>().into_iter().for_each(|at| world.flush(at));
    }
}
