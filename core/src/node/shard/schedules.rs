//! Schedules: the groups that this node leads schedule what its catalog says.
//!
//! A difference is looked for when a group gets its leader here and when the catalog changes; nothing polls. The definition goes before the
//! schedule, as it goes before a start.

use distric_exec::Command;
use distric_exec::command::Schedule;
use distric_exec::machine::schedule_slot;
use distric_model::{GroupId, Namespace};
use serde_json::Value;

use super::{Shard, ShardOutputs};
use crate::node::machine_clock::Now;

impl Shard {
    /// Proposes what differs between the schedules of a group and those of the catalog.
    pub(super) fn reconcile_schedules(&mut self, now: Now, group: GroupId, out: &mut ShardOutputs) {
        if !self.serving {
            return;
        }
        let Some(partition) = self.partitions.get(&group).filter(|partition| partition.is_active()) else { return };
        let mut known = partition.machine.scheduled();
        let mut commands = Vec::new();
        for (namespace, workflow, version) in self.scheduled_in(group) {
            let pins = self.catalog.pins(&namespace, &workflow, version);
            if known.remove(&(namespace.clone(), workflow.clone())).is_some_and(|known| known.0 == version && known.1 == pins) {
                continue;
            }
            let Some(define) = self.definition(&namespace, &workflow, version) else { continue };
            commands.push(define);
            commands.extend(pins.iter().filter_map(|(called, version)| self.definition(&namespace, called, *version)));
            commands.push(Command::Schedule(Schedule { namespace, workflow, version: Some(version), pins }));
        }
        let gone = known
            .into_keys()
            .map(|(namespace, workflow)| Command::Schedule(Schedule { namespace, workflow, version: None, pins: Vec::new() }));
        commands.extend(gone);
        for command in commands {
            self.propose_housekeeping(now, group, &command, out);
        }
    }

    /// The same for every group here.
    pub(super) fn reconcile_all_schedules(&mut self, now: Now, out: &mut ShardOutputs) {
        let groups: Vec<GroupId> = self.partitions.keys().copied().collect();
        groups.into_iter().for_each(|group| self.reconcile_schedules(now, group, out));
    }

    /// The workflows in service that have schedules whose home is a group, with their latest versions.
    fn scheduled_in(&self, group: GroupId) -> Vec<(Namespace, std::sync::Arc<str>, u64)> {
        let mut found = Vec::new();
        for (namespace, view) in &self.catalog.namespaces {
            for (workflow, versions) in view.workflows.iter().filter(|(_, versions)| !versions.retired) {
                let is_scheduled = versions.bodies.get(&versions.latest).is_some_and(|body| has_schedule(body));
                if is_scheduled && self.group_of_slot(schedule_slot(namespace, workflow)) == group {
                    found.push((namespace.clone(), workflow.clone(), versions.latest));
                }
            }
        }
        found
    }
}

/// Whether a canonical definition has schedules. Most have not even the word.
fn has_schedule(body: &str) -> bool {
    body.contains("\"schedule\"")
        && serde_json::from_str::<Value>(body).is_ok_and(|body| body["schedule"].as_array().is_some_and(|list| !list.is_empty()))
}
