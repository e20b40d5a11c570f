//! Crash points: short stories, played once for every step that any replica takes in them, with the power failing right after that step
//! in six ways: what it wanted written is lost, half there, or all there; what it said is lost with it, or on its way already.
//!
//! The oracle looks on at every step. In the end everybody is up and agrees, all that was ever committed is there, and a new command goes in.

mod world;

use bytes::Bytes;
use distric_model::GroupId;
use distric_raft::*;
use world::{CrashPoint, Kept, NodeAt, World, node_id};

const GROUP: GroupId = GroupId(0);
/// Rounds of time and packets until everybody agrees.
const ROUNDS_MAX: usize = 400;

/// Stories; `|` separates what happens. See [`Story::act`].
const STORIES: [&str; 32] = [
    "propose 1 | settle",
    "propose 3 | propose 2 | settle | propose 1 | settle",
    "propose 2 | settle_two | propose 2 | settle",
    "propose 1 | lose | propose 1 | settle",
    "propose 2 | settle | elect 1 | settle",
    "propose 2 | elect 1 | propose 1 | settle",
    "propose 2 | settle_two | elect 1 | propose 2 | settle",
    "elect 1 | elect 2 | elect 0 | settle",
    "propose 1 | elect 1 | lose | elect 2 | propose 1 | settle",
    "propose 3 | lose | elect 2 | propose 3 | settle | elect 0 | settle",
    "transfer | settle",
    "propose 2 | transfer | settle | propose 1 | settle",
    "propose 2 | settle | transfer | lose | settle | propose 1 | settle",
    "transfer | settle | transfer | settle | propose 1 | settle",
    "voters 1,2,4 | settle",
    "propose 2 | voters 1,2 | settle | propose 1 | settle",
    "voters 2,3 | settle | propose 1 | settle",
    "voters 1,2,3,4 | settle | propose 1 | settle | voters 1,2,3 | settle",
    "propose 1 | voters 1,2,4 | lose | elect 1 | settle | propose 1 | settle",
    "voters 1,2,4 | settle_two | elect 1 | settle",
    "propose 3 | settle | compact 0 | propose 1 | settle",
    "propose 3 | settle | compact 2 | elect 1 | compact 0 | settle",
    "propose 3 | settle_two | compact 0 | propose 1 | settle",
    "propose 3 | settle_two | compact 0 | settle | elect 2 | settle",
    "propose 2 | settle | compact 0 | voters 1,2,3,4 | settle | propose 1 | settle",
    "propose 4 | settle_two | compact 0 | voters 1,2,3,4 | settle",
    "crash 2 | propose 3 | settle | compact 0 | restart 2 | settle",
    "crash 1 | propose 2 | settle | restart 1 | elect 1 | settle",
    "propose 1 | crash 0 | elect 1 | propose 1 | settle | restart 0 | settle",
    "read | propose 1 | read | settle",
    "propose 1 | settle | read | elect 1 | read | settle",
    "propose 2 | settle | crash 1 | crash 2 | propose 1 | lose | restart 1 | restart 2 | settle",
];

struct Story {
    world: World,
    reads_count: u64,
    commands_count: u64,
}

impl Story {
    fn new() -> Self {
        let mut world = World::with_spares(3, 1, 1, |_| {});
        world.traces = false;
        Self { world, reads_count: 0, commands_count: 0 }
    }

    fn play(&mut self, story: &str) {
        self.elect(0);
        for act in story.split('|') {
            self.act(act.trim());
        }
    }

    fn act(&mut self, act: &str) {
        let (word, rest) = act.split_once(' ').unwrap_or((act, ""));
        let number = || rest.parse().unwrap_or_else(|_| panic!("{act}: expected a number"));
        match word {
            "propose" => self.propose(number()),
            "settle" => self.world.settle(&[]),
            "settle_two" => {
                let leader = self.world.leader_of(GROUP).unwrap_or(0);
                self.world.settle(&[leader, (leader + 1) % 3]);
            }
            "lose" => self.world.packets.clear(),
            "elect" => self.elect(number() as NodeAt),
            "transfer" => {
                if let Some(leader) = self.world.leader_of(GROUP) {
                    let target = node_id((leader + 1) % 3);
                    self.world.step(leader, GROUP, Input::Transfer { target });
                }
            }
            "voters" => {
                let voters = rest.split(',').map(|name| node_id(name.parse::<usize>().expect("a node's number") - 1)).collect();
                let wanted = Membership::new(voters, Vec::new()).expect("a plain membership");
                if let Some(leader) = self.world.leader_of(GROUP) {
                    self.world.step(leader, GROUP, Input::ChangeMembership { wanted });
                }
            }
            "compact" => (0..4).for_each(|at| self.world.compact(at, GROUP, number())),
            "read" => {
                self.reads_count += 1;
                let id = ReadId(self.reads_count);
                if let Some(leader) = self.world.leader_of(GROUP) {
                    self.world.step(leader, GROUP, Input::Read { id });
                }
            }
            "crash" if self.world.is_up(number() as NodeAt) => self.world.crash(number() as NodeAt, 0),
            "crash" => {}
            "restart" => self.restart(number() as NodeAt),
            other => panic!("no act `{other}`"),
        }
    }

    fn restart(&mut self, at: NodeAt) {
        if !self.world.is_up(at) {
            self.world.start(at);
        }
    }

    fn propose(&mut self, count: u64) {
        let Some(leader) = self.world.leader_of(GROUP) else { return };
        let commands = (0..count).map(|n| Bytes::from(format!("c{}", self.commands_count + n))).collect();
        self.commands_count += count;
        self.world.propose(leader, GROUP, commands);
    }

    /// Gives a node the time to stand for election; whether it wins is another matter.
    fn elect(&mut self, at: NodeAt) {
        for _ in 0..2 {
            self.world.tick(at, GROUP);
            self.world.settle(&[]);
        }
    }

    /// Time goes on until everybody has applied one more command; then all is looked at.
    fn end(&mut self, what: &str) {
        self.world.crash_point = None;
        (0..4).for_each(|at| self.restart(at));
        let mut last_of: Option<(NodeAt, Term)> = None;
        for _ in 0..ROUNDS_MAX {
            self.world.settle(&[]);
            let Some((due, at, group)) = self.world.next_wake() else { break };
            self.world.now = self.world.now.max(due);
            self.world.step(at, group, Input::Tick);
            self.world.settle(&[]);
            if self.is_calm() {
                let leader = self.world.leader_of(GROUP).expect("calm");
                let lead = (leader, self.world.raft(leader, GROUP).expect("it leads").term());
                if last_of.replace(lead) == Some(lead) {
                    break;
                }
                self.propose(1);
                self.world.settle(&[]);
            }
        }
        assert!(last_of.is_some() && self.is_calm(), "{what}: no calm within {ROUNDS_MAX} rounds");
        self.world.oracle.check_log_matching(GROUP, &mut self.world.nodes);
        let truth = self.world.oracle.committed(GROUP).to_vec();
        assert!(truth.last().is_some_and(|entry| entry.kind == EntryKind::Command), "{what}: a command went in at the end");
        let leader = self.world.leader_of(GROUP).expect("calm");
        for member in self.world.raft(leader, GROUP).expect("it leads").membership().voters().to_vec() {
            let node = self.world.nodes.iter().find(|node| node.id == member).expect("members are nodes");
            assert!(node.applied[&GROUP] == truth, "{what}: a voter has applied something else than what was committed");
        }
    }

    /// One leader whom all voters follow, no change half-way, everything committed and applied by all of them.
    fn is_calm(&self) -> bool {
        let Some(raft) = self.world.leader_of(GROUP).and_then(|leader| self.world.raft(leader, GROUP)) else { return false };
        let status = raft.status();
        let members = raft.membership();
        let follows = |node: &world::Node| {
            node.rafts.as_ref().and_then(|rafts| rafts.get(&GROUP)).is_some_and(|raft| {
                let other = raft.status();
                other.leader == Some(status.id) && other.handed_out == status.commit && other.last == status.last
            })
        };
        let voters = self.world.nodes.iter().filter(|node| members.voters().contains(&node.id));
        !members.is_joint() && members.goal().is_none() && status.commit == status.last.index && voters.into_iter().all(follows)
    }
}

#[test]
fn the_power_may_fail_after_any_step() {
    let (mut points_count, mut fewest_steps) = (0, u64::MAX);
    let founding_steps = Story::new().world.steps_count;
    for story in STORIES {
        let mut whole = Story::new();
        whole.play(story);
        let steps_count = whole.world.steps_count;
        whole.end(story);
        fewest_steps = fewest_steps.min(steps_count - founding_steps);
        for step in founding_steps + 1..=steps_count {
            for kept in [Kept::Nothing, Kept::Half, Kept::All] {
                for said in [false, true] {
                    let point = CrashPoint { step, kept, said };
                    let mut played = Story::new();
                    played.world.crash_point = Some(point);
                    played.play(story);
                    assert!(played.world.crash_point.is_none(), "{story}: {point:?} was not reached");
                    played.end(&format!("{story}: {point:?}"));
                    points_count += 1;
                }
            }
        }
    }
    // A story that does nothing would pass.
    assert!(fewest_steps >= 20 && points_count >= 10_000, "{points_count} crash points, at least {fewest_steps} steps a story");
    println!("{points_count} crash points in {} stories", STORIES.len());
}
