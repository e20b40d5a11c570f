//! Snapshots between coordinators, as the raft core sees them: it hands over and never touches a file.

use std::rc::Rc;

use distric_model::GroupId;
use distric_raft::{Install, LogIndex, Position, Term};
use distric_wire::peer::FetchSnapshot;
use distric_wire::{Frame, PeerMessage};

use super::CoreRim;
use crate::node::letters::ConnId;
use crate::reactor::clock;
use crate::reactor::mesh::{StateLetter, StateReply};
use crate::reactor::peers::bulk::Fetch;
use crate::reactor::raft_stats::Refused;

impl CoreRim {
    /// What the state writer says. Returns whether it said anything.
    pub(super) fn drain_states(self: &Rc<Self>) -> bool {
        let mut busy = false;
        loop {
            let Some(reply) = self.states.borrow_mut().pop() else { break };
            busy = true;
            let now = clock::now();
            let (mut consensus, mut out) = (self.consensus.borrow_mut(), self.out.borrow_mut());
            match reply {
                StateReply::Checkpointed { group, snapshot, took_us } => {
                    self.stats.borrow_mut().checkpoint.observe_us(took_us);
                    consensus.on_checkpointed(now, group, &snapshot, &mut out);
                }
                StateReply::Exported { group, to, snapshot } => consensus.on_exported(now, group, to, snapshot, &mut out),
                StateReply::Installed { group, install, state: Some(state) } => {
                    consensus.on_installed(now, group, install.snapshot, state, &mut out);
                }
                StateReply::Installed { group, install, state: None } => {
                    consensus.on_install_failed(now, group, install.from, &mut out);
                }
                StateReply::Chunk(conn, frame) => {
                    if let Some((conn, _)) = self.conns.borrow().get(&conn) {
                        conn.append(&frame);
                    }
                }
            }
        }
        while let Ok((fetch, result)) = self.fetched.try_recv() {
            busy = true;
            let Fetch { group, install, path, .. } = fetch;
            match result {
                // Meanwhile the log may have got here by itself.
                Ok(()) if !self.consensus.borrow().has_outrun(group, &install) => {
                    self.post.borrow_mut().state(StateLetter::Install { group, install, path });
                }
                Ok(()) => self.give_up(group, &install),
                Err(reason) => {
                    tracing::warn!(target: "distric_core::peers", event = "snapshot_fetch_failed", group = %group, peer = %install.from, reason, "a snapshot cannot be fetched");
                    self.give_up(group, &install);
                }
            }
        }
        busy
    }

    fn give_up(&self, group: GroupId, install: &Install) {
        self.consensus.borrow_mut().on_install_failed(clock::now(), group, install.from, &mut self.out.borrow_mut());
    }

    /// Fetching blocks, so each fetch has a thread of its own; a group has one at a time.
    pub(super) fn start_fetches(&self) {
        let wanted: Vec<(GroupId, Install)> = self.out.borrow_mut().installs.drain(..).collect();
        for (group, install) in wanted {
            let address = self.members.borrow().iter().find(|member| member.node == install.from).map(|member| member.peer_address.clone());
            let Some(address) = address else {
                self.give_up(group, &install);
                continue;
            };
            tracing::info!(
                target: "distric_core::peers", event = "snapshot_fetch", group = %group, peer = %install.from,
                index = install.snapshot.position.index.0, "fetching a snapshot"
            );
            let path = self.transfer_dir.join(format!("for-us-{}", group.0));
            let fetch = Fetch { me: self.me.clone(), address, group, install, path };
            let (fetches, bell, control) = (self.fetches.clone(), self.bell.try_clone(), self.control.clone());
            let failed = fetch.clone();
            let run = move || {
                let result = fetch.run(|| !control.shards_are_done());
                let _ = fetches.send((fetch, result));
                if let Ok(bell) = bell {
                    bell.ring();
                }
            };
            if std::thread::Builder::new().name("fetch".to_owned()).spawn(run).is_err() {
                let _ = self.fetches.send((failed, Err("no thread".to_owned())));
            }
        }
    }

    /// A frame on a bulk connection.
    pub(super) fn on_bulk(&self, id: ConnId, frame: &Frame<'_>) {
        match PeerMessage::decode(frame.header.message_type, frame.payload) {
            Ok(Some(PeerMessage::FetchSnapshot(FetchSnapshot { group, last_term, last_index, offset }))) => {
                let position = Position::new(Term(last_term), LogIndex(last_index));
                self.post.borrow_mut().state(StateLetter::Chunk { conn: id, group: GroupId(group), position, offset });
            }
            _ => {
                self.stats.borrow_mut().refuse(Refused::BadLetter);
                tracing::warn!(target: "distric_core::peers", event = "peer_bad_frame", reason = Refused::BadLetter.name(), "something else than a question for a snapshot on a bulk connection");
                if let Some((conn, _)) = self.conns.borrow().get(&id) {
                    conn.kill();
                }
            }
        }
    }
}
