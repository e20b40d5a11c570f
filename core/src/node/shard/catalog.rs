//! The catalog on the shards: the seat of group 0, changes on their way, and the compiled catalog in use.
//!
//! A change: checked by the compiler against the committed catalog, proposed for exactly that version, applied, compiled, handed to
//! every shard; only then is the client answered, so that whatever it sends next is judged by what it applied.
//! Invariant: every shard swaps between two messages; versions never go back on a shard.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use distric_model::{Change, GroupId, Instant, NodeId};
use distric_raft::Position;
use distric_wire::Code;
use serde_json::{Value, json};

use super::catalog_answers::{
    HISTORY_NAMES_MAX, all_problems, applied_answer, history_row, rule_row, trial_answer, trial_refusal, workflow_row,
};
use super::proposals::{Proposal, Waiting};
use super::queries::document;
use super::{Note, Shard, ShardOutputs, catalog_export};
use crate::node::catalog_view::CatalogView;
use crate::node::compile::plan;
use crate::node::envelope::{Envelope, ProposalNumber};
use crate::node::letters::{
    AskId, CatalogChangeRequest, CheckVerdict, Class, CommittedEntry, CompilerLetter, ConsensusLetter, RequestedChange, ShardLetter,
};
use crate::node::machine_clock::Now;
use crate::node::meta::{CatalogSource, META_COMMAND_BYTES_MAX, Meta, MetaCommand, MetaReply, TrialName, TrialRefusal, TrialState};
use crate::node::peer::Member;
use crate::node::question::{Answer, CatalogQuestion};
use crate::node::refusal::Refusal;

/// How often a change is checked and proposed again when another one was faster.
const CHANGE_TRIES_MAX: u8 = 5;

/// Group 0 on the shard that owns it.
#[derive(Debug, Default)]
pub(super) struct MetaSeat {
    meta: Meta,
    led_term: Option<u64>,
    active: bool,
    /// The term of the leader that was last heard of, here or elsewhere.
    term: Option<u64>,
    /// The term of the last entry applied.
    applied_term: Option<u64>,
    /// Its index.
    applied_index: u64,
    /// The two met once: the catalog is the cluster's, not one from the middle of the log.
    caught_up: bool,
    /// The cluster's founding entry was proposed in this term.
    founding: bool,
    /// A catalog is being compiled.
    compiling: bool,
    /// The revision that is in use on all shards.
    installed: Option<u64>,
    /// Shards that use a revision, while it spreads.
    spreading: Option<(u64, usize)>,
    /// Clients to answer when a revision is in use, and what.
    waiting: BTreeMap<u64, Vec<(AskId, Answer)>>,
    /// When this node looks again whether group 0 knows it as it is.
    pub(super) announce_at: Option<Instant>,
    /// Nodes that said who they are and that group 0 does not know so yet, with the tries that are left for each.
    pub(super) guests: BTreeMap<NodeId, (Member, u32)>,
    /// When they are proposed again.
    pub(super) guests_at: Option<Instant>,
}

impl MetaSeat {
    /// Whether its catalog is in use everywhere.
    pub fn is_ready(&self) -> bool {
        self.caught_up && self.installed == Some(self.meta.catalog().revision)
    }

    /// The state of group 0.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// Whether it has met what the leader had committed: what it knows is the cluster's, not the middle of a log.
    pub fn is_caught_up(&self) -> bool {
        self.caught_up
    }

    /// The last entry applied.
    pub fn applied_index(&self) -> u64 {
        self.applied_index
    }

    /// Appends what changed since the last checkpoint.
    pub fn take_changes(&mut self, out: &mut Vec<Change>) {
        self.meta.take_changes(out);
    }

    /// Puts a state from a checkpoint in the place of this one, unless this one has applied as much. Returns whether it did.
    pub fn install(&mut self, meta: Meta, at: Position) -> bool {
        if at.index.0 <= self.applied_index {
            return false;
        }
        self.meta = meta;
        self.applied_index = at.index.0;
        self.applied_term = Some(at.term.0);
        self.caught_up |= self.term == self.applied_term;
        true
    }

    /// Takes note of an election.
    pub fn on_leadership(&mut self, me: NodeId, term: u64, leader: Option<NodeId>) {
        self.led_term = (leader == Some(me)).then_some(term);
        self.term = leader.map(|_| term).or(self.term);
        self.caught_up |= self.term.is_some() && self.term == self.applied_term;
        self.active &= self.led_term.is_some();
        self.founding = false;
    }
}

impl Shard {
    /// Entries of group 0.
    pub(super) fn on_meta_committed(&mut self, now: Now, entries: &[CommittedEntry], out: &mut ShardOutputs) {
        for entry in entries {
            self.stats.entries_applied_count += 1;
            let Some(seat) = &mut self.meta else { return };
            seat.applied_term = Some(entry.term);
            seat.applied_index = entry.index;
            seat.caught_up |= seat.term == seat.applied_term;
            if seat.led_term == Some(entry.term) && !seat.active {
                seat.active = true;
                out.notes.push(Note::GroupActive { group: GroupId::META.to_string(), term: entry.term });
            }
            if entry.data.is_empty() {
                continue;
            }
            let opened = Envelope::open(&entry.data).map_err(|error| error.to_string());
            let decoded =
                opened.and_then(|envelope| Ok((envelope, MetaCommand::decode(envelope.command).map_err(|error| error.to_string())?)));
            let (envelope, command) = match decoded {
                Ok(decoded) => decoded,
                Err(reason) => {
                    out.notes.push(Note::GroupHalted { group: GroupId::META.to_string(), index: entry.index, reason });
                    continue;
                }
            };
            let reply = seat.meta.apply(envelope.stamp, command);
            let revision = seat.meta.catalog().revision;
            match reply {
                MetaReply::Trial(TrialState { version, share, mode }) => {
                    self.to_all_shards(Class::Request, out, || ShardLetter::TrialShare { revision, version, mode, share });
                }
                MetaReply::Initialised => {
                    self.open_groups(out);
                    self.tell_members(out);
                }
                MetaReply::GossipKeys(_) => self.tell_gossip_keys(out),
                MetaReply::MemberPut | MetaReply::MemberRemoved => self.tell_members(out),
                _ => {}
            }
            let origin = envelope.origin;
            if origin.node == self.options.node && origin.boot == self.options.boot {
                let letter = ShardLetter::MetaReplied { number: origin.number, reply: Box::new(reply), revision };
                out.letter(origin.number.shard(), Class::Reply, letter);
            }
        }
        self.found_cluster(now, out);
        self.compile_if_behind(out);
        self.announce(now, out);
        self.release_barriers(now, GroupId::META, out);
    }

    /// The first leader of an empty group 0 mints the cluster. Proposed again after every start until it is applied; the first counts.
    fn found_cluster(&mut self, now: Now, out: &mut ShardOutputs) {
        let wanted = self.meta.as_ref().is_some_and(|seat| seat.active && seat.meta.cluster().is_none() && !seat.founding);
        if wanted {
            let command = Bytes::from(MetaCommand::Init(self.options.init.clone()).encode());
            let proposal =
                Proposal { waiting: Waiting::Housekeeping, group: GroupId::META, command, namespace: None, definition: None, redefined: 0 };
            self.propose(now, proposal, out);
            if let Some(seat) = &mut self.meta {
                seat.founding = true;
            }
        }
    }

    pub(super) fn open_groups(&mut self, out: &mut ShardOutputs) {
        let Some(init) = self.meta.as_ref().and_then(|seat| seat.meta.cluster()) else { return };
        let (cluster, work_groups, voters) = (init.cluster, init.work_groups, init.voters.clone());
        out.to_consensus.push(ConsensusLetter::OpenGroups { work_groups, voters });
        self.to_all_shards(Class::Request, out, || ShardLetter::Cluster { cluster, work_groups });
    }

    /// Starts the compiler when the committed catalog is newer than the one in use. One at a time: the newest wins.
    pub(super) fn compile_if_behind(&mut self, out: &mut ShardOutputs) {
        let Some(seat) = &mut self.meta else { return };
        let source = seat.meta.catalog();
        let behind = seat.installed != Some(source.revision) && seat.spreading.is_none_or(|(revision, _)| revision != source.revision);
        if seat.caught_up && behind && !seat.compiling {
            seat.compiling = true;
            out.to_compiler.push(CompilerLetter::Compile { source });
        }
    }

    /// The compiler is done.
    pub(super) fn on_compiled(&mut self, compiled: Result<Arc<CatalogView>, String>, out: &mut ShardOutputs) {
        let Some(seat) = &mut self.meta else { return };
        seat.compiling = false;
        match compiled {
            Ok(view) => {
                seat.spreading = Some((view.revision, 0));
                self.to_all_shards(Class::Request, out, || ShardLetter::Catalog(view.clone()));
            }
            Err(reason) => {
                // Checked before it was committed, so only a newer version's catalog gets here; the old one stays in use.
                seat.installed = Some(seat.meta.catalog().revision);
                out.notes.push(Note::CatalogUnusable { reason });
            }
        }
    }

    /// A compiled catalog for this shard: in use from the next message on.
    pub(super) fn install(&mut self, now: Now, view: Arc<CatalogView>, out: &mut ShardOutputs) {
        if view.revision >= self.catalog.revision {
            self.trial.install(&view);
            self.turn_to(view);
        }
        if !std::mem::replace(&mut self.serving, true) {
            self.deliver_all_again(now);
        }
        self.reconcile_all_schedules(now, out);
        let revision = self.catalog.revision;
        out.letter(crate::node::owner_of(GroupId::META, self.options.count), Class::Reply, ShardLetter::CatalogInstalled { revision });
    }

    /// The catalog in use, built in one piece. Of another revision it is of no use: what came since is compiled over it by itself.
    pub(super) fn settle(&mut self, view: Arc<CatalogView>) {
        if view.revision == self.catalog.revision {
            self.turn_to(view);
        }
    }

    fn turn_to(&mut self, view: Arc<CatalogView>) {
        for namespace in self.catalog.namespaces.keys() {
            self.rule_counts.turn(namespace, self.catalog.rules(namespace), view.rules(namespace));
            self.trial.turn(namespace, self.catalog.rules(namespace), view.rules(namespace));
        }
        self.catalog = view;
    }

    /// A shard uses a revision now; when all do, whoever waits for it is answered.
    pub(super) fn on_installed(&mut self, revision: u64, out: &mut ShardOutputs) {
        let (count, version) = (self.options.count, self.catalog.version);
        let Some(seat) = &mut self.meta else { return };
        let Some((spreading, shards)) = &mut seat.spreading else { return };
        if revision < *spreading {
            return;
        }
        *shards += 1;
        if *shards < count {
            return;
        }
        let revision = *spreading;
        seat.spreading = None;
        seat.installed = Some(revision);
        let rest = seat.waiting.split_off(&(revision + 1));
        let answered = std::mem::replace(&mut seat.waiting, rest);
        out.notes.push(Note::CatalogInstalled { version });
        for (from, answer) in answered.into_values().flatten() {
            Self::answer(from, answer, out);
        }
        self.compile_if_behind(out);
    }

    /// A change of the catalog, on the shard of group 0.
    pub(super) fn on_change(&mut self, now: Now, from: AskId, request: Box<CatalogChangeRequest>, out: &mut ShardOutputs) {
        let Some(seat) = &self.meta else { return };
        let base = seat.meta.catalog();
        if let Err(refusal) = self.admit(1).and_then(|()| precondition(&request, &base)) {
            return Self::answer(from, Answer::Rejected(Box::new(refusal)), out);
        }
        // Nothing is to be checked, and to end a trial must not wait for whatever is compiled.
        let name = |version: &Option<u64>| TrialName { namespace: request.namespace.clone(), version: *version };
        let command = match &request.change {
            RequestedChange::SetTrial { version, share } => MetaCommand::SetTrial(name(version), *share),
            RequestedChange::EndTrial { version } => MetaCommand::EndTrial(name(version)),
            _ => return out.to_compiler.push(CompilerLetter::Check { from, request, base, tries: 0 }),
        };
        if request.dry_run {
            let body = json!({ "dry_run": true, "catalog_version": base.version, "would_be": base.version });
            return Self::answer(from, document(&body, Some(base.version)), out);
        }
        self.propose_change(now, from, request, 1, &command, out);
    }

    fn propose_change(
        &mut self,
        now: Now,
        from: AskId,
        request: Box<CatalogChangeRequest>,
        tries: u8,
        command: &MetaCommand,
        out: &mut ShardOutputs,
    ) {
        let command = Bytes::from(command.encode());
        if command.len() > META_COMMAND_BYTES_MAX {
            let reason = format!("the change has {} bytes when compressed, and the log takes {META_COMMAND_BYTES_MAX}", command.len());
            let refusal = Refusal::new(Code::TooLarge, reason).limit("meta_command_bytes_max", META_COMMAND_BYTES_MAX as u64);
            return Self::answer(from, Answer::Rejected(Box::new(refusal)), out);
        }
        let waiting = Waiting::Catalog { from, request, tries };
        self.propose(now, Proposal { waiting, group: GroupId::META, command, namespace: None, definition: None, redefined: 0 }, out);
    }

    /// The compiler's verdict on a change.
    #[expect(clippy::too_many_arguments, reason = "one letter's content")]
    pub(super) fn on_checked(
        &mut self,
        now: Now,
        from: AskId,
        request: Box<CatalogChangeRequest>,
        base: &CatalogSource,
        tries: u8,
        verdict: CheckVerdict,
        out: &mut ShardOutputs,
    ) {
        match verdict {
            CheckVerdict::Bad { first, problems } => {
                let mut refusal = Refusal::new(Code::BadCatalog, all_problems(&first.message, &problems)).field(first.path);
                refusal.at = (first.line > 0).then_some((first.line, first.column));
                Self::answer(from, Answer::Rejected(Box::new(refusal)), out);
            }
            CheckVerdict::Good { command, warnings } if request.dry_run => {
                let mut body = plan(&command, base);
                body["warnings"] = warnings;
                Self::answer(from, document(&body, Some(base.version)), out);
            }
            CheckVerdict::Good { command, .. } => self.propose_change(now, from, request, tries + 1, &command, out),
        }
    }

    /// The meta machine answered.
    pub(super) fn on_meta_replied(&mut self, now: Now, number: ProposalNumber, reply: MetaReply, revision: u64, out: &mut ShardOutputs) {
        let Some((opened_at, proposal)) = self.proposals.close(number) else { return };
        self.stats.commit.observe_us(now.mono.since_us(opened_at));
        let (from, request, tries) = match proposal.waiting {
            Waiting::Catalog { from, request, tries } => (from, request, tries),
            Waiting::Command(to) => return self.answer_member_command(now, to, &reply, out),
            _ => return,
        };
        let Some(seat) = &mut self.meta else { return };
        let mut answer_in_use = |answer: Answer| {
            if seat.installed.is_some_and(|installed| installed >= revision) {
                Self::answer(from, answer, out);
            } else {
                seat.waiting.entry(revision).or_default().push((from, answer));
            }
        };
        match reply {
            MetaReply::Applied(change) => answer_in_use(applied_answer(&change)),
            MetaReply::Trial(trial) => answer_in_use(trial_answer(&trial, seat.meta.catalog().version)),
            MetaReply::TrialRefused(refusal) => Self::answer(from, Answer::Rejected(Box::new(trial_refusal(&refusal))), out),
            MetaReply::VersionConflict { expected, actual } => {
                let base = seat.meta.catalog();
                let again = if tries < CHANGE_TRIES_MAX {
                    precondition(&request, &base)
                } else {
                    Err(Refusal::new(Code::Conflict, format!("the catalog changed from version {expected} to {actual} meanwhile"))
                        .retry_after_ms(100))
                };
                match again {
                    Ok(()) => out.to_compiler.push(CompilerLetter::Check { from, request, base, tries }),
                    Err(refusal) => Self::answer(from, Answer::Rejected(Box::new(refusal)), out),
                }
            }
            MetaReply::Initialised
            | MetaReply::MemberPut
            | MetaReply::MemberRemoved
            | MetaReply::MemberRefused(_)
            | MetaReply::GossipKeys(_)
            | MetaReply::GossipKeysRefused(_) => {}
        }
    }

    /// Reads of the catalog, on the shard of group 0.
    pub(super) fn answer_catalog(&self, question: CatalogQuestion) -> Answer {
        let Some(seat) = &self.meta else { return Answer::Absent("the catalog lives on another core".to_owned()) };
        let catalog = seat.meta.catalog();
        let version = Some(catalog.version);
        match question {
            CatalogQuestion::Rules(namespace) => {
                let mut rows: Vec<Value> = catalog
                    .namespaces
                    .get(&namespace)
                    .into_iter()
                    .flat_map(|source| &source.rules)
                    .map(|(_, rule)| rule_row(rule))
                    .collect();
                // Priority first, as they are tried; the map behind them is in order of id already.
                rows.sort_by_key(|row| std::cmp::Reverse(row["priority"].as_i64().unwrap_or(0)));
                document(&json!({ "items": rows, "catalog_version": catalog.version }), version)
            }
            CatalogQuestion::Rule(namespace, id) => {
                match catalog.namespaces.get(&namespace).and_then(|source| source.rules.get(id.as_str())) {
                    Some(rule) => document(&rule_row(rule), version),
                    None => Answer::Absent(format!("no rule `{id}` in namespace {namespace}")),
                }
            }
            CatalogQuestion::Workflows(namespace) => {
                let rows: Vec<Value> = catalog
                    .namespaces
                    .get(&namespace)
                    .into_iter()
                    .flat_map(|source| &source.workflows)
                    .filter(|(_, record)| !record.retired)
                    .map(|(_, record)| workflow_row(record))
                    .collect();
                document(&json!({ "items": rows, "catalog_version": catalog.version }), version)
            }
            CatalogQuestion::Workflow(namespace, id) => {
                match catalog.namespaces.get(&namespace).and_then(|source| source.workflows.get(id.as_str())) {
                    Some(record) => document(&workflow_row(record), version),
                    None => Answer::Absent(format!("no workflow definition `{id}` in namespace {namespace}")),
                }
            }
            CatalogQuestion::History { limit } => {
                let mut names_left = HISTORY_NAMES_MAX;
                let rows: Vec<Value> = seat.meta.history().rev().take(limit).map(|change| history_row(change, &mut names_left)).collect();
                document(&json!({ "items": rows, "catalog_version": catalog.version, "oldest_version": catalog.oldest() }), version)
            }
            CatalogQuestion::Export { namespace, version, after } => {
                let frame_bytes_max = self.options.frame_bytes_max as usize;
                catalog_export::page(&catalog, &namespace, version.unwrap_or(catalog.version), after.as_deref(), frame_bytes_max)
            }
        }
    }
}

/// Whether a change may be made at all: its version, and that what it removes is there.
fn precondition(request: &CatalogChangeRequest, base: &CatalogSource) -> Result<(), Refusal> {
    if let Some(expected) = request.if_match.filter(|expected| *expected != base.version) {
        return Err(
            Refusal::new(Code::PreconditionFailed, format!("the catalog has version {}, not {expected}", base.version)).field("if_match")
        );
    }
    let source = base.namespaces.get(&request.namespace);
    match &request.change {
        RequestedChange::StartTrial { .. } if source.is_none() => {
            let reason =
                format!("namespace {} has no rules yet that a candidate could be compared with: apply the first ones", request.namespace);
            Err(Refusal::new(Code::Conflict, reason))
        }
        RequestedChange::StartTrial { .. } => base.may_start_trial().map_err(|refusal| trial_refusal(&refusal)),
        RequestedChange::PromoteTrial { version } | RequestedChange::SetTrial { version, .. } | RequestedChange::EndTrial { version } => {
            let name = TrialName { namespace: request.namespace.clone(), version: *version };
            let trial = base.trial_named(&name).map_err(|refusal| trial_refusal(&refusal))?;
            match &request.change {
                RequestedChange::PromoteTrial { .. } if trial.is_outdated => {
                    Err(trial_refusal(&TrialRefusal::Outdated { version: trial.version, base_version: trial.base_version }))
                }
                _ => Ok(()),
            }
        }
        RequestedChange::Rollback { version } if !base.knows(*version) => {
            let reason =
                format!("version {version} is not kept: the catalog has version {}, and versions from {} on", base.version, base.oldest());
            Err(Refusal::new(Code::NotFound, reason).field("version"))
        }
        RequestedChange::DeleteRule { id } | RequestedChange::SwitchRule { id, .. }
            if !source.is_some_and(|source| source.rules.contains_key(id.as_str())) =>
        {
            Err(Refusal::new(Code::NotFound, format!("no rule `{id}` in namespace {}", request.namespace)))
        }
        RequestedChange::DeleteWorkflow { id }
            if !source.is_some_and(|source| source.workflows.get(id.as_str()).is_some_and(|record| !record.retired)) =>
        {
            Err(Refusal::new(Code::NotFound, format!("no workflow definition `{id}` in namespace {}", request.namespace)))
        }
        _ => Ok(()),
    }
}
