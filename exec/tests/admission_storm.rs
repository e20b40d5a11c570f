//! Storms over several groups: records are lost, late, twice and in any order; limits hold all the time and everything ends.

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use distric_exec::command::{Command, OutAck};
use distric_exec::{InResult, Machine, Out, OutBody, Reply, Settings};
use distric_model::{GroupId, InstanceId, MessageId, Slot};
use serde_json::json;
use support::*;

const GROUPS: u32 = 3;
const KEYS: u64 = 4;

struct Storm {
    groups: Vec<World>,
    /// Records that were not acknowledged: source and record.
    flying: Vec<(usize, Arc<Out>)>,
    home: BTreeMap<InstanceId, usize>,
    begun: BTreeMap<String, Vec<InstanceId>>,
    asked: BTreeMap<(usize, String), Vec<InstanceId>>,
    seed: u64,
}

impl Storm {
    fn new(seed: u64) -> Self {
        let groups = (1..=GROUPS).map(|group| {
            let mut world = World::of_group(GroupId(group), Settings::default());
            let workflow = |id: &str, member: &str, rule: serde_json::Value| json!({ "id": id, member: rule, "tasks": [job("a", &[])] });
            let key = "${input.key}";
            world.define(workflow("two", "concurrency", json!({ "key": key, "limit": 2 })));
            world.define(workflow("newest", "concurrency", json!({ "key": key, "limit": 1, "when_full": "cancel_oldest" })));
            world.define(workflow("slow", "rate_limit", json!({ "key": key, "limit": 5, "per": "1s" })));
            world.define(workflow("calm", "debounce", json!({ "key": key, "wait": "500ms" })));
            world.define(workflow("many", "batch", json!({ "key": key, "max_items": 3, "max_wait": "700ms" })));
            world.define(json!({ "id": "ordered", "tasks": [job("a", &[])] }));
            world.worker_up(1, 1_000);
            world
        });
        Self { groups: groups.collect(), flying: Vec::new(), home: BTreeMap::new(), begun: BTreeMap::new(), asked: BTreeMap::new(), seed }
    }

    fn dice(&mut self, sides: u64) -> u64 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) % sides
    }

    fn start(&mut self) {
        let group = self.dice(u64::from(GROUPS)) as usize;
        let workflow = ["two", "newest", "slow", "calm", "many", "ordered"][self.dice(6) as usize];
        let key = format!("k{}", self.dice(KEYS));
        let n = self.home.len();
        let mut message = self.groups[group].message(json!({ "key": key, "n": n }));
        message.actions = vec![action(workflow)];
        if workflow == "ordered" {
            message.actions[0].ordering_key = Some(Arc::from(&*key));
        }
        // A slot belongs to one group: the ids of two groups differ by it.
        message.message_id = MessageId::new(self.groups[group].now, Slot::truncate(group as u16), n as u64);
        let Reply::Accepted { instances, .. } = self.groups[group].ingest(message) else { panic!() };
        self.home.insert(instances[0].1, group);
        if workflow == "ordered" {
            self.asked.entry((group, key)).or_default().push(instances[0].1);
        }
    }

    /// Takes what was sent, and lets some of what flies arrive.
    fn carry_some(&mut self, share: u64) {
        for source in 0..self.groups.len() {
            let outs = self.groups[source].take_outs();
            self.flying.extend(outs.into_iter().map(|out| (source, out)));
        }
        let mut kept = Vec::new();
        for place in 0..self.flying.len() {
            let (source, out) = self.flying[place].clone();
            if self.dice(100) >= share {
                kept.push((source, out));
                continue;
            }
            let target = match &out.body {
                OutBody::Told(told) => self.home[&told.instance],
                OutBody::Ask(ask) => usize::from(ask.gate.slot().number()) % self.groups.len(),
                OutBody::Leave(leave) => usize::from(leave.gate.slot().number()) % self.groups.len(),
                _ => 0,
            };
            let from = self.groups[source].machine.group();
            let times = 1 + self.dice(2);
            let mut results: Vec<InResult> = (0..times).map(|_| self.groups[target].relay(from, &out)).collect();
            let first = results[0].clone();
            assert!(results.iter().all(|result| *result == first), "a record that comes twice has one answer: {results:?}");
            // The answer may be lost as well: the record comes again.
            match results.pop() {
                Some(InResult::Final(result)) if self.dice(10) > 0 => {
                    self.groups[source].apply(Command::OutAck(OutAck { seq: out.seq, result }));
                }
                _ => kept.push((source, out)),
            }
        }
        self.flying = kept;
        self.check();
    }

    fn finish_some(&mut self, share: u64) {
        for group in 0..self.groups.len() {
            for _ in 0..self.groups[group].inbox.len() {
                if self.dice(100) < share {
                    let assignment = self.groups[group].inbox.remove(0);
                    let outcome = if self.dice(5) == 0 { failed() } else { completed(json!(1)) };
                    self.groups[group].report(&assignment, outcome);
                }
            }
            if self.dice(10) == 0 {
                let ids: Vec<InstanceId> = self.home.iter().filter(|(_, home)| **home == group).map(|(id, _)| *id).collect();
                if !ids.is_empty() {
                    let id = ids[self.dice(ids.len() as u64) as usize];
                    self.groups[group].cancel(id);
                }
            }
        }
        self.check();
    }

    fn pass(&mut self, ms: u64) {
        self.groups.iter_mut().for_each(|world| world.advance_ms(ms));
        self.check();
    }

    fn check(&mut self) {
        let mut running: BTreeMap<(String, String), usize> = BTreeMap::new();
        for world in &self.groups {
            for instance in world.machine.instances(&Default::default(), None, 1_000).items {
                if instance.status != "running" {
                    continue;
                }
                let input: serde_json::Value =
                    serde_json::from_str(world.machine.instance(instance.id).unwrap().input.unwrap().get()).unwrap();
                let key = input["key"].as_str().unwrap_or("batch").to_owned();
                *running.entry((instance.workflow.to_string(), key)).or_default() += 1;
            }
        }
        for ((workflow, key), count) in &running {
            let limit = match workflow.as_str() {
                "two" => 2,
                "newest" | "ordered" => 1,
                _ => usize::MAX,
            };
            assert!(*count <= limit, "{count} of `{workflow}` run with the key {key}");
        }
        for ((group, key), ids) in &self.asked {
            // In the order in which they came: none begins before an earlier one of its group and key did, or ended.
            let began: Vec<bool> = ids.iter().map(|id| self.groups[*group].instance(*id).summary.started_at_us.is_some()).collect();
            let ended: Vec<bool> = ids.iter().map(|id| self.groups[*group].instance(*id).summary.ended_at_us.is_some()).collect();
            if let Some(last) = began.iter().rposition(|began| *began) {
                assert!((0..last).all(|place| ended[place]), "{key}: {began:?} {ended:?}");
                self.begun.insert(key.clone(), ids[..=last].to_vec());
            }
        }
    }

    fn restart_one(&mut self) {
        let group = self.dice(u64::from(GROUPS)) as usize;
        let machine = &mut self.groups[group].machine;
        let mut changes = Vec::new();
        // A checkpoint of all there is: that of a machine that was never asked for one.
        let mut other = Machine::new(machine.group(), Settings::default());
        let log = std::mem::take(&mut self.groups[group].log);
        log.iter().for_each(|(at, bytes)| other.apply(*at, Command::decode(bytes).unwrap(), &mut Vec::new()));
        self.groups[group].log = log;
        other.take_changes(&mut changes);
        let records: BTreeMap<Vec<u8>, Vec<u8>> = changes.into_iter().filter_map(|change| Some((change.key, change.value?))).collect();
        let restored = Machine::restore(&records).expect("a checkpoint is restored");
        assert_eq!(restored.digest(), self.groups[group].machine.digest());
        self.groups[group].machine = restored;
    }
}

fn storm(seed: u64) {
    let mut storm = Storm::new(seed);
    for round in 0..120 {
        for _ in 0..storm.dice(4) {
            storm.start();
        }
        storm.carry_some(60);
        storm.finish_some(50);
        let ms = storm.dice(400);
        storm.pass(ms);
        if round % 30 == 29 {
            storm.restart_one();
        }
    }
    // The weather clears: everything arrives, all attempts end.
    for _ in 0..400 {
        storm.carry_some(100);
        storm.finish_some(100);
        storm.pass(300);
    }
    for world in &storm.groups {
        let stats = world.machine.stats();
        assert_eq!(
            (stats.instances_open, stats.keys_open, stats.starts_waiting, stats.out_pending),
            (0, 0, 0, 0),
            "seed {seed}: {stats:?}"
        );
    }
    let batched: usize = storm.groups.iter().map(|world| world.machine.stats().instances_skipped_count as usize).sum();
    assert!(batched > 0, "seed {seed}: nothing was debounced or batched");
}

#[test]
fn limits_and_order_hold_in_every_weather_and_everything_ends() {
    (1..=6).for_each(storm);
}
