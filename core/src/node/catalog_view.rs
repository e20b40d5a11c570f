//! The catalog as a shard uses it: compiled, shared read-only, swapped between two messages.

use std::collections::BTreeMap;
use std::sync::Arc;

use distric_exec::command::PinList;
use distric_exec::definition::pins_of;
use distric_model::{Namespace, Timestamp};

use super::meta::TrialMode;

/// One version of the whole catalog.
#[derive(Debug, Default)]
pub struct CatalogView {
    /// The version; 0 is the empty catalog.
    pub version: u64,
    /// Namespaces that have one.
    pub namespaces: BTreeMap<Namespace, NamespaceView>,
    /// The candidate beside it.
    pub trial: Option<TrialView>,
    /// Which state of group 0 it is made from: grows with every change, also of a trial.
    pub revision: u64,
}

/// A candidate beside the catalog.
#[derive(Debug)]
pub struct TrialView {
    /// The version that its decisions name.
    pub version: u64,
    /// Whose rules it may replace.
    pub namespace: Namespace,
    /// What it is there for.
    pub mode: TrialMode,
    /// For which share of the messages, in hundredths of a percent.
    pub share: u32,
    /// The catalog that it was made beside.
    pub base_version: u64,
    /// The rules have changed since: it cannot be promoted any more.
    pub is_outdated: bool,
    /// When it began, machine time.
    pub started_at_us: Timestamp,
    /// Who asked.
    pub author: Option<Arc<str>>,
    /// Why.
    pub reason: Option<Arc<str>>,
    /// Its rules.
    pub rules: distric_rules::Catalog,
}

/// One namespace's part.
#[derive(Debug)]
pub struct NamespaceView {
    /// The compiled rules.
    pub rules: distric_rules::Catalog,
    /// The workflows by id.
    pub workflows: BTreeMap<Arc<str>, WorkflowView>,
}

/// One workflow.
#[derive(Clone, Debug)]
pub struct WorkflowView {
    /// What `latest` means now.
    pub latest: u64,
    /// No longer started by name.
    pub retired: bool,
    /// The canonical JSON of every version.
    pub bodies: BTreeMap<u64, Arc<str>>,
    /// What the latest version may come to call, with the versions that a start pins.
    pub pins: PinList,
}

impl CatalogView {
    /// A workflow that may be started: the version asked for, or the latest of one in service.
    pub fn resolve(&self, namespace: &Namespace, workflow: &str, version: Option<u64>) -> Option<u64> {
        let workflow = self.namespaces.get(namespace)?.workflows.get(workflow)?;
        match version {
            Some(version) => workflow.bodies.contains_key(&version).then_some(version),
            None => (!workflow.retired).then_some(workflow.latest),
        }
    }

    /// The workflows that a version of a workflow may come to call, with the versions that a start pins: the latest of those in service.
    pub fn pins(&self, namespace: &Namespace, workflow: &str, version: u64) -> PinList {
        let Some(part) = self.namespaces.get(namespace) else { return Vec::new() };
        match part.workflows.get(workflow) {
            Some(view) if view.latest == version => view.pins.clone(),
            Some(view) => view.bodies.get(&version).map_or_else(Vec::new, |body| pins_of(body, |id| latest_of(&part.workflows, id))),
            None => Vec::new(),
        }
    }

    /// The compiled rules of a namespace that has some.
    pub fn rules(&self, namespace: &Namespace) -> Option<&distric_rules::Catalog> {
        self.namespaces.get(namespace).map(|part| &part.rules)
    }

    /// The body of one version of a workflow.
    pub fn body(&self, namespace: &Namespace, workflow: &str, version: u64) -> Option<&Arc<str>> {
        self.namespaces.get(namespace)?.workflows.get(workflow)?.bodies.get(&version)
    }
}

/// Version and body of what the name of a workflow means now.
pub(super) fn latest_of<'a>(workflows: &'a BTreeMap<Arc<str>, WorkflowView>, id: &str) -> Option<(u64, &'a str)> {
    let view = workflows.get(id).filter(|view| !view.retired)?;
    Some((view.latest, &**view.bodies.get(&view.latest)?))
}
