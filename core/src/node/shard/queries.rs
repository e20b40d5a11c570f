//! Queries: reads of what the groups know, from this shard's or another shard's machines.
//!
//! A read by id goes to the group of the id's slot. Lists scatter to every shard; their pages are merged in order of id, and one id is
//! the position for all groups. Every node answers, once its own machine has applied what the leader had committed when the question
//! came (`barriers`).

use std::collections::BTreeMap;

use distric_exec::Reply;
use distric_exec::machine::TaskFilter;
use distric_exec::machine::admission::GateKey;
use distric_model::{GroupId, InstanceId, Instant, MessageId, TaskId};
use distric_wire::Code;
use distric_wire::client::{Query, QueryKind, Submit};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::connections::ReplyTo;
use super::filters::{filter_of, whole_filter};
use super::follow::Follower;
use super::pages::{finish_list, finish_nodes, finish_status, finish_workers, merge, merge_rows, rows_of};
use super::{Shard, ShardOutputs, rule_counts, trial_report};
use crate::node::letters::{AskId, Class, ConsensusLetter, ShardIndex, ShardLetter};
use crate::node::machine_clock::Now;
use crate::node::owner_of;
use crate::node::question::{Answer, CatalogQuestion, PageRequest, Question, Rows};
use crate::node::refusal::Refusal;

/// Most questions of one shard that wait for other shards.
pub const QUESTIONS_MAX: usize = 16_384;
/// A question that nobody answers is refused after this long, milliseconds. A catalog may take long to compile.
pub const QUESTION_TIMEOUT_MS: u64 = 30_000;
/// Rows of a page when the query names no limit.
const PAGE_ROWS_DEFAULT: usize = 100;
/// Most rows of a page.
const PAGE_ROWS_MAX: usize = 1_000;

/// Questions that wait for an answer.
#[derive(Debug, Default)]
pub(super) struct Questions {
    next: u64,
    open: BTreeMap<u64, Asked>,
}

#[derive(Debug)]
struct Asked {
    to: ReplyTo,
    deadline: Instant,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// One document.
    One,
    /// A page from every shard.
    Page { waiting: usize, limit: usize, parts: Vec<Rows> },
    /// A list of documents from every shard, as one array under a name, with members of its own.
    Gather { waiting: usize, parts: Vec<Value>, finish: fn(Vec<Value>) -> Value },
    /// The record of a key; then the message goes on.
    Recall { submit: Vec<u8> },
    /// Why an instance is where it is; then what its key says.
    Why,
    /// What the home of a key says, for this answer.
    WhyKey { answer: Value, place: usize },
}

impl Questions {
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    pub fn next_wake(&self) -> Option<Instant> {
        // Numbers grow with time and the patience is the same for all, so the first is the oldest.
        self.open.values().next().map(|asked| asked.deadline)
    }
}

impl Shard {
    /// A Query frame.
    pub(super) fn on_query(&mut self, now: Now, query: &Query<'_>, to: ReplyTo, out: &mut ShardOutputs) {
        match self.question_of(query) {
            Ok(Asking::One(group, question)) => self.ask_one(now, group, question, to, out),
            Ok(Asking::Why(group, question)) => self.ask(now, owner_of(group, self.options.count), question, to, Kind::Why, out),
            Ok(Asking::Page(question, limit)) => self.ask_page(now, &question, limit, to, out),
            Ok(Asking::Gather(question, finish)) => self.ask_all(now, &question, finish, to, out),
            Ok(Asking::Status(finish)) => self.ask_status(now, finish, to, out),
            Ok(Asking::Health) => {
                let health = self.health();
                self.document(now, to, &health, None, out);
            }
            Err(refusal) => self.refuse(now, to, refusal, out),
        }
    }

    fn question_of(&self, query: &Query<'_>) -> Result<Asking, Refusal> {
        let namespace = Self::namespace_of(query.namespace)?;
        let unknown = || Refusal::new(Code::UnknownKind, format!("query kind {} is not known here", query.kind)).field("kind");
        let limit = query.limit.map_or(PAGE_ROWS_DEFAULT, |limit| (limit as usize).clamp(1, PAGE_ROWS_MAX));
        let page = || -> Result<PageRequest, Refusal> {
            let after = match query.cursor {
                None => None,
                Some(cursor) => Some(
                    Uuid::try_parse(cursor)
                        .map_err(|_| Refusal::new(Code::BadArgument, "the cursor is not one that this node gave out").field("cursor"))?,
                ),
            };
            Ok(PageRequest {
                namespace: namespace.clone(),
                status: query.status.map(str::to_owned),
                workflow: query.name.map(str::to_owned),
                after,
                limit,
                more: filter_of(query.filter)?,
            })
        };
        Ok(match QueryKind::from_number(query.kind).ok_or_else(unknown)? {
            QueryKind::Message => {
                let id = id_of(query.id, MessageId::from_uuid)?;
                Asking::One(self.group_of_slot(id.slot()), Question::Message(namespace, id))
            }
            QueryKind::Instance => {
                let id = id_of(query.id, InstanceId::from_uuid)?;
                Asking::One(self.group_of_slot(id.slot()), Question::Instance(namespace, id))
            }
            QueryKind::Task => {
                let id = id_of(query.id, TaskId::from_uuid)?;
                Asking::One(self.group_of_slot(id.slot()), Question::Task(namespace, id))
            }
            QueryKind::WhyTask => {
                let id = id_of(query.id, TaskId::from_uuid)?;
                Asking::One(self.group_of_slot(id.slot()), Question::WhyTask(namespace, id))
            }
            QueryKind::WhyInstance => {
                let id = id_of(query.id, InstanceId::from_uuid)?;
                Asking::Why(self.group_of_slot(id.slot()), Question::WhyInstance(namespace, id))
            }
            QueryKind::Tasks => Asking::Page(Question::Tasks(page()?), limit),
            QueryKind::Instances => Asking::Page(Question::Instances(page()?), limit),
            QueryKind::Incidents => Asking::Page(Question::Incidents(page()?), limit),
            QueryKind::Incident => {
                let id = id_of(query.id, InstanceId::from_uuid)?;
                Asking::One(self.group_of_slot(id.slot()), Question::Incident(namespace, id))
            }
            QueryKind::Schedules => Asking::Gather(Question::Schedules(namespace), finish_list),
            QueryKind::Workers => Asking::Gather(Question::Workers, finish_workers),
            QueryKind::ClusterStatus => Asking::Status(finish_status),
            QueryKind::Nodes => Asking::Status(finish_nodes),
            QueryKind::Health => Asking::Health,
            QueryKind::Rules => Asking::One(GroupId::META, Question::Catalog(CatalogQuestion::Rules(namespace))),
            QueryKind::Rule => Asking::One(GroupId::META, Question::Catalog(CatalogQuestion::Rule(namespace, name_of(query.name)?))),
            QueryKind::WorkflowDefinitions => Asking::One(GroupId::META, Question::Catalog(CatalogQuestion::Workflows(namespace))),
            QueryKind::WorkflowDefinition => {
                Asking::One(GroupId::META, Question::Catalog(CatalogQuestion::Workflow(namespace, name_of(query.name)?)))
            }
            QueryKind::CatalogExport => {
                let after = query.cursor.map(str::to_owned);
                Asking::One(GroupId::META, Question::Catalog(CatalogQuestion::Export { namespace, version: query.version, after }))
            }
            QueryKind::RuleStatistics => Asking::Gather(Question::RuleStatistics(namespace), rule_counts::finish),
            QueryKind::Trial => Asking::Gather(Question::Trial { samples: false }, trial_report::finish),
            QueryKind::TrialSamples => Asking::Gather(Question::Trial { samples: true }, trial_report::finish_samples),
            QueryKind::CatalogHistory => Asking::One(GroupId::META, Question::Catalog(CatalogQuestion::History { limit })),
        })
    }

    /// Asks the shard of a group; its answer becomes the client's.
    pub(super) fn ask_one(&mut self, now: Now, group: GroupId, question: Question, to: ReplyTo, out: &mut ShardOutputs) {
        self.ask(now, owner_of(group, self.options.count), question, to, Kind::One, out);
    }

    /// Asks for the record of a resend's key before any rule is evaluated.
    pub(super) fn ask_recall(
        &mut self,
        now: Now,
        group: GroupId,
        question: Question,
        submit: Vec<u8>,
        to: ReplyTo,
        out: &mut ShardOutputs,
    ) {
        self.ask(now, owner_of(group, self.options.count), question, to, Kind::Recall { submit }, out);
    }

    fn ask_page(&mut self, now: Now, question: &Question, limit: usize, to: ReplyTo, out: &mut ShardOutputs) {
        let kind = Kind::Page { waiting: self.options.count, limit, parts: Vec::new() };
        if let Some(from) = self.open_question(now, to, kind, out) {
            self.to_all_shards(Class::Request, out, || ShardLetter::Ask { from, question: Box::new(question.clone()) });
        }
    }

    fn ask_all(&mut self, now: Now, question: &Question, finish: fn(Vec<Value>) -> Value, to: ReplyTo, out: &mut ShardOutputs) {
        let kind = Kind::Gather { waiting: self.options.count, parts: Vec::new(), finish };
        if let Some(from) = self.open_question(now, to, kind, out) {
            self.to_all_shards(Class::Request, out, || ShardLetter::Ask { from, question: Box::new(question.clone()) });
        }
    }

    /// As [`Self::ask_all`], and the raft core as well.
    fn ask_status(&mut self, now: Now, finish: fn(Vec<Value>) -> Value, to: ReplyTo, out: &mut ShardOutputs) {
        let kind = Kind::Gather { waiting: self.options.count + 1, parts: Vec::new(), finish };
        if let Some(from) = self.open_question(now, to, kind, out) {
            self.to_all_shards(Class::Request, out, || ShardLetter::Ask { from, question: Box::new(Question::Status) });
            out.to_consensus.push(ConsensusLetter::Status { from });
        }
    }

    fn ask(&mut self, now: Now, shard: ShardIndex, question: Question, to: ReplyTo, kind: Kind, out: &mut ShardOutputs) {
        if let Some(from) = self.open_question(now, to, kind, out) {
            out.letter(shard, Class::Request, ShardLetter::Ask { from, question: Box::new(question) });
        }
    }

    fn open_question(&mut self, now: Now, to: ReplyTo, kind: Kind, out: &mut ShardOutputs) -> Option<AskId> {
        if self.questions.open.len() >= QUESTIONS_MAX {
            let refusal =
                Refusal::new(Code::Overloaded, "too many queries wait on this shard").limit("questions_max", QUESTIONS_MAX as u64);
            self.refuse(now, to, refusal, out);
            return None;
        }
        let number = self.questions.next;
        self.questions.next += 1;
        self.questions.open.insert(number, Asked { to, deadline: now.mono.plus_ms(QUESTION_TIMEOUT_MS), kind });
        Some(AskId { shard: self.options.index, number })
    }

    /// Questions that nobody answered.
    pub(super) fn expire_questions(&mut self, now: Now, out: &mut ShardOutputs) {
        while let Some((number, asked)) = self.questions.open.first_key_value()
            && asked.deadline <= now.mono
        {
            let number = *number;
            if let Some(asked) = self.questions.open.remove(&number) {
                self.refuse(now, asked.to, Refusal::new(Code::OutcomeUnknown, "no answer from another core in time"), out);
            }
        }
    }

    /// Another shard, or this one, asks what the groups here know.
    pub(super) fn on_question(&mut self, now: Now, from: AskId, question: Question, out: &mut ShardOutputs) {
        let groups = self.groups_of(&question);
        if groups.is_empty() {
            return self.answer_question(now, from, question, out);
        }
        self.wait_for(groups, from, question, out);
    }

    /// Answers from what is applied here.
    pub(super) fn answer_question(&mut self, now: Now, from: AskId, question: Question, out: &mut ShardOutputs) {
        let answer = match question {
            Question::Recall { group, namespace, key, payload_hash } => {
                Answer::Recalled(self.partition(group).machine.recall(&namespace, &key, payload_hash).map(Box::new))
            }
            Question::Message(namespace, id) => {
                let view = self.partition_of(id.slot()).machine.message(id).filter(|view| view.namespace == namespace);
                found(view, || {
                    format!("no message {id}: it never came, its time in history is over, or it matched no rule and was not kept")
                })
            }
            Question::Instance(namespace, id) => {
                let view = self.partition_of(id.slot()).machine.instance(id).filter(|view| view.summary.namespace == namespace);
                found(view, || format!("no workflow instance {id}: it never was, or its time in history is over"))
            }
            Question::Task(namespace, id) => {
                let view = self.partition_of(id.slot()).machine.task(id).filter(|view| view.namespace == namespace);
                found(view, || format!("no task {id}: it never was, or its time in history is over"))
            }
            Question::WhyTask(namespace, id) => {
                let known = self.partition_of(id.slot()).machine.task(id).is_some_and(|view| view.namespace == namespace);
                let view = self.partition_of(id.slot()).machine.why_task(id).filter(|_| known);
                found(view, || format!("no task {id}: it never was, or its time in history is over"))
            }
            Question::WhyInstance(namespace, id) => {
                let known = self.partition_of(id.slot()).machine.instance(id).is_some_and(|view| view.summary.namespace == namespace);
                let view = self.partition_of(id.slot()).machine.why_instance(id).filter(|_| known);
                found(view, || format!("no workflow instance {id}: it never was, or its time in history is over"))
            }
            Question::Gate(key, instance) => document(&self.partition_of(key.slot()).machine.gate_view(&key, Some(instance)), None),
            Question::Tasks(page) => Answer::Rows(self.page_of_tasks(&page)),
            Question::Instances(page) => Answer::Rows(self.page_of_instances(&page)),
            Question::Incidents(page) => Answer::Rows(self.page_of_incidents(&page)),
            Question::Incident(namespace, id) => {
                let view = self.partition_of(id.slot()).machine.incident(id).filter(|view| view.incident.namespace == namespace);
                found(view, || format!("no incident of {id}: it has not failed, was retried, or its time in history is over"))
            }
            Question::Schedules(namespace) => {
                let rows: Vec<_> = self.partitions.values().flat_map(|partition| partition.machine.schedules_view(&namespace)).collect();
                document(&rows, None)
            }
            Question::RuleStatistics(namespace) => {
                let rules = self.catalog.namespaces.get(&namespace).map(|part| &part.rules);
                document(&self.rule_counts.view(&namespace, rules), None)
            }
            Question::Trial { samples } => document(&self.trial_part(samples), None),
            Question::Workers => {
                let rows: Vec<Value> = self
                    .partitions
                    .values()
                    .flat_map(|partition| partition.machine.workers_view())
                    .filter_map(|view| serde_json::to_value(view).ok())
                    .collect();
                document(&Value::Array(rows), None)
            }
            Question::Status => document(&self.status_part(), None),
            Question::Catalog(question) => self.answer_catalog(question),
            Question::Change(request) => return self.on_change(now, from, request, out),
            Question::Follow { namespace, instance, shard, conn, message_id } => {
                self.follow(now, &namespace, instance, Follower { shard, conn, message_id }, out)
            }
        };
        Self::answer(from, answer, out);
    }

    /// Sends an answer to whoever asked.
    pub(super) fn answer(from: AskId, answer: Answer, out: &mut ShardOutputs) {
        out.letter(from.shard, Class::Reply, ShardLetter::Answered { number: from.number, answer: Box::new(answer) });
    }

    /// The answer to a question of this shard.
    pub(super) fn on_answer(&mut self, now: Now, number: u64, answer: Answer, out: &mut ShardOutputs) {
        let Some(asked) = self.questions.open.get_mut(&number) else { return };
        let complete = match (&mut asked.kind, answer) {
            (Kind::Page { waiting, parts, .. }, Answer::Rows(rows)) => {
                parts.push(rows);
                *waiting -= 1;
                *waiting == 0
            }
            (Kind::Gather { waiting, parts, .. }, Answer::Document(part, _)) => {
                parts.push(serde_json::from_slice(&part).unwrap_or_default());
                *waiting -= 1;
                *waiting == 0
            }
            (_, answer) => {
                let asked = self.questions.open.remove(&number).expect("looked up above");
                return self.finish_one(now, asked, answer, out);
            }
        };
        if !complete {
            return;
        }
        let asked = self.questions.open.remove(&number).expect("looked up above");
        match asked.kind {
            Kind::Page { limit, parts, .. } => {
                let (body, next_cursor) = merge(parts, limit);
                self.raw_document(now, asked.to, &body, next_cursor.as_deref(), None, out);
            }
            Kind::Gather { parts, finish, .. } => self.document(now, asked.to, &finish(parts), None, out),
            Kind::One | Kind::Recall { .. } | Kind::Why | Kind::WhyKey { .. } => {}
        }
    }

    fn finish_one(&mut self, now: Now, asked: Asked, answer: Answer, out: &mut ShardOutputs) {
        match (asked.kind, answer) {
            (Kind::Recall { submit }, Answer::Recalled(recalled)) => {
                self.go_on_after_recall(now, &submit, recalled.as_deref(), asked.to, out)
            }
            (Kind::Why, Answer::Document(body, _)) => self.ask_key_of(now, &body, asked.to, out),
            (Kind::WhyKey { mut answer, place }, Answer::Document(gate, _)) => {
                answer["blockers"][place]["gate"] = serde_json::from_slice(&gate).unwrap_or_default();
                self.document(now, asked.to, &answer, None, out);
            }
            (_, Answer::Document(body, version)) => self.raw_document(now, asked.to, &body, None, version, out),
            (_, Answer::Part(body, version, cursor)) => self.raw_document(now, asked.to, &body, Some(&cursor), Some(version), out),
            (_, Answer::Absent(reason)) => self.refuse(now, asked.to, Refusal::new(Code::NotFound, reason), out),
            (_, Answer::Rejected(refusal)) => self.refuse(now, asked.to, *refusal, out),
            (_, Answer::Following) => {
                if let ReplyTo::Frame { conn, bytes, .. } = asked.to {
                    self.connections.settle(conn, bytes);
                }
            }
            (_, Answer::Rows(_) | Answer::Recalled(_)) => {
                self.refuse(now, asked.to, Refusal::new(Code::Internal, "an answer of the wrong kind came from another core"), out);
            }
        }
    }

    /// Why an instance is where it is: when it waits for a key, the home of the key says what holds it.
    fn ask_key_of(&mut self, now: Now, body: &[u8], to: ReplyTo, out: &mut ShardOutputs) {
        let answer: Value = serde_json::from_slice(body).unwrap_or_default();
        let blockers = answer["blockers"].as_array();
        let place = blockers.and_then(|blockers| blockers.iter().position(|blocker| blocker["kind"] == "waiting_for_key"));
        let gate = place.and_then(|place| Some((GateKey::deserialize(&answer["blockers"][place]["at"]).ok()?, place)));
        let instance = answer["instance"].as_str().and_then(|id| id.parse::<Uuid>().ok()).and_then(|id| InstanceId::from_uuid(id).ok());
        match (gate, instance) {
            (Some((gate, place)), Some(instance)) => {
                let shard = owner_of(self.group_of_slot(gate.slot()), self.options.count);
                self.ask(now, shard, Question::Gate(gate, instance), to, Kind::WhyKey { answer, place }, out);
            }
            _ => self.raw_document(now, to, body, None, None, out),
        }
    }

    fn go_on_after_recall(&mut self, now: Now, submit: &[u8], recalled: Option<&Reply>, to: ReplyTo, out: &mut ShardOutputs) {
        if let Some(reply) = recalled {
            return self.answer_submit(now, to, reply, out);
        }
        let submit = Submit::decode(submit).expect("encoded by this shard from a message that decoded");
        match self.admit(1).and_then(|()| Self::namespace_of(submit.namespace)) {
            Ok(namespace) => self.decide_and_propose(now, &submit, namespace, to, out),
            Err(refusal) => self.refuse(now, to, refusal, out),
        }
    }

    /// The group of an id's slot.
    pub(super) fn partition_of(&mut self, slot: distric_model::Slot) -> &mut super::Partition {
        let group = self.group_of_slot(slot);
        self.partition(group)
    }

    fn page_of_tasks(&self, page: &PageRequest) -> Rows {
        let filter = TaskFilter { namespace: Some(page.namespace.clone()), status: page.status.clone() };
        let after = page.after.and_then(|id| TaskId::from_uuid(id).ok());
        let parts = self.partitions.values().map(|partition| {
            let found = partition.machine.tasks(&filter, after, page.limit);
            rows_of(&found.items, |view| view.id.uuid(), found.next_cursor.as_deref())
        });
        merge_rows(parts.collect(), page.limit)
    }

    fn page_of_instances(&self, page: &PageRequest) -> Rows {
        let filter = whole_filter(page);
        let after = page.after.and_then(|id| InstanceId::from_uuid(id).ok());
        let parts = self.partitions.values().map(|partition| {
            let found = partition.machine.instances(&filter, after, page.limit);
            rows_of(&found.items, |view| view.id.uuid(), found.next_cursor.as_deref())
        });
        merge_rows(parts.collect(), page.limit)
    }

    fn page_of_incidents(&self, page: &PageRequest) -> Rows {
        let filter = whole_filter(page);
        let after = page.after.and_then(|id| InstanceId::from_uuid(id).ok());
        let parts = self.partitions.values().map(|partition| {
            let found = partition.machine.incidents(&filter, after, page.limit);
            rows_of(&found.items, |view| view.instance.uuid(), found.next_cursor.as_deref())
        });
        merge_rows(parts.collect(), page.limit)
    }

    /// This shard's groups, for the status of the cluster.
    fn status_part(&self) -> Value {
        let groups: Vec<Value> = self
            .leaders
            .iter()
            .filter(|(group, _)| owner_of(**group, self.options.count) == self.options.index)
            .map(|(group, (term, leader))| {
                let partition = self.partitions.get(group);
                let halted =
                    partition.and_then(|partition| partition.halted()).map(|(index, reason)| json!({ "index": index, "reason": reason }));
                json!({
                    "group": group.to_string(), "number": group.0, "term": term, "leader": leader, "shard": self.options.index,
                    "applied_index": partition.map(|partition| partition.machine.applied_index()), "halted": halted,
                })
            })
            .collect();
        json!({
            "groups": groups, "node": self.options.node, "name": &*self.options.node_name, "address": &*self.options.address,
            "version": self.options.server_version, "shards": self.options.count, "cluster": self.cluster.map(|(cluster, _)| cluster),
            "catalog_version": self.catalog.version, "workers": self.workers.cards().len(),
            "gossip": self.gossip.as_ref().filter(|_| self.options.index == 0).map(|view| view.document()),
        })
    }

    /// The node's own checks, as this shard sees them.
    fn health(&self) -> Value {
        let halted = self.partitions.values().any(|partition| partition.halted().is_some());
        let raft = if self.is_ready() { "UP" } else { "DOWN" };
        let storage = if halted { "DEGRADED" } else { "UP" };
        let workers = if self.workers.cards().is_empty() { "DEGRADED" } else { "UP" };
        let gossip = self.gossip_check();
        let checks = json!({ "raft": raft, "gossip": gossip, "workers_available": workers, "storage": storage });
        let status = match (raft, workers, (storage, gossip), self.draining) {
            ("DOWN", ..) | (.., true) => "DOWN",
            ("UP", "UP", ("UP", "UP"), false) => "UP",
            _ => "DEGRADED",
        };
        json!({ "status": status, "checks": checks })
    }
}

/// What a Query asks of whom.
enum Asking {
    One(GroupId, Question),
    Why(GroupId, Question),
    Page(Question, usize),
    Gather(Question, fn(Vec<Value>) -> Value),
    Status(fn(Vec<Value>) -> Value),
    Health,
}

pub(super) fn id_of<T>(id: Option<Uuid>, parse: fn(Uuid) -> Result<T, distric_model::IdError>) -> Result<T, Refusal> {
    let id = id.ok_or_else(|| Refusal::new(Code::BadArgument, "this query needs an id").field("id"))?;
    parse(id).map_err(|error| Refusal::new(Code::BadArgument, error.to_string()).field("id"))
}

fn name_of(name: Option<&str>) -> Result<String, Refusal> {
    name.map(str::to_owned).ok_or_else(|| Refusal::new(Code::BadArgument, "this query needs a name").field("name"))
}

fn found<T: Serialize>(view: Option<T>, reason: impl FnOnce() -> String) -> Answer {
    match view {
        Some(view) => document(&view, None),
        None => Answer::Absent(reason()),
    }
}

/// A view as an answer.
pub(super) fn document<T: Serialize>(view: &T, version: Option<u64>) -> Answer {
    Answer::Document(serde_json::to_vec(view).expect("views are plain data with text keys"), version)
}
