//! Scripts: every packet and every flush moved by hand, and the recorded trace of what the replicas did.
//!
//! A file is a comment (`#` lines) and blocks: commands, `---`, what happened. `RAFT_SCRIPTS_REFRESH=1 cargo test -p
//! distric-raft --test scripts` records anew; read the difference before it is committed. Commands:
//!
//! - `nodes COUNT [spare=COUNT] [uncommitted=BYTES] [append=BYTES] [cache=BYTES] [priorities]` founds a group; always the first
//!   command. Spare nodes belong to nobody yet. With priorities `n1` offers itself first, then `n2`, and so on
//! - `elect N` lets `N` win an election and everybody learn of it, without a trace
//! - `tick N` moves the clock to when `N` wants a tick; `advance MS` only moves the clock
//! - `propose N TEXT...`; `big N BYTES` proposes one command of so many bytes
//! - `deliver [A>B | A>]` delivers what lies about now, in order; `drop [...]` loses it; `copy [...]` keeps a copy
//!   aside, which `replay` delivers as often as wanted
//! - `flush N...` makes all staged writes of `N` durable, `flush_one N` only the oldest; `load N` answers its request for entries
//! - `settle [N...]` delivers and flushes until nothing is left to do, among these nodes only if some are named
//! - `change N VOTERS [LEARNERS]` (as in `n1,n2 n3`) asks for a change of members; `transfer N TO`; `read N ID`
//! - `compact N [BEHIND]` makes a checkpoint and compacts up to so many entries before it; `snapshot N` answers the wish for
//!   one, `snapshot_fail N` cannot; `install N` fetches and installs, `install_fail N` cannot, `install_crash N` stops right after
//!   the state is durable
//! - `members` prints who are members in the eyes of every replica
//! - `crash N [kept=WRITES]`, `restart N`; `forge A>B heartbeat term=T commit=I` and other forged messages
//! - `status` prints every replica

mod world;

use std::fmt::Write;
use std::path::Path;

use bytes::Bytes;
use distric_model::GroupId;
use distric_raft::*;

use world::{NodeAt, Packet, World};

#[test]
fn scripts_play_as_recorded() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut paths: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "script"));
    paths.sort();
    assert!(paths.len() >= 40, "only {} scripts in {}", paths.len(), dir.display());
    let refresh = std::env::var_os("RAFT_SCRIPTS_REFRESH").is_some();
    let mut differing = Vec::new();
    for path in paths {
        let recorded = std::fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let played = std::panic::catch_unwind(|| Player::play(&name, &recorded)).unwrap_or_else(|_| panic!("{name} fell over"));
        if played != recorded {
            if refresh {
                std::fs::write(&path, &played).unwrap();
            } else {
                let at = played
                    .lines()
                    .zip(recorded.lines())
                    .position(|(a, b)| a != b)
                    .unwrap_or(played.lines().count().min(recorded.lines().count()));
                let line = |text: &str| text.lines().nth(at).unwrap_or("(end)").to_owned();
                differing.push(format!("{name}:{}\n  recorded: {}\n  played:   {}", at + 1, line(&recorded), line(&played)));
            }
        }
    }
    assert!(differing.is_empty(), "{}\nRAFT_SCRIPTS_REFRESH=1 records anew", differing.join("\n"));
}

struct Player {
    name: String,
    world: Option<World>,
    aside: Vec<Packet>,
}

impl Player {
    /// Plays a whole file and returns it as it should be.
    fn play(name: &str, text: &str) -> String {
        let mut player = Self { name: name.to_owned(), world: None, aside: Vec::new() };
        let mut played = String::new();
        let mut is_output = false;
        let mut block: Vec<&str> = Vec::new();
        for line in text.lines().chain([""]) {
            if line.starts_with('#') {
                writeln!(played, "{line}").unwrap();
            } else if line == "---" {
                is_output = true;
            } else if line.trim().is_empty() {
                if !block.is_empty() {
                    block.iter().for_each(|command| writeln!(played, "{command}").unwrap());
                    let lines = player.run(&block);
                    writeln!(played, "---").unwrap();
                    lines.iter().for_each(|line| writeln!(played, "{line}").unwrap());
                    writeln!(played).unwrap();
                }
                block.clear();
                is_output = false;
            } else if !is_output {
                block.push(line);
            }
        }
        format!("{}\n", played.trim_end())
    }

    fn run(&mut self, block: &[&str]) -> Vec<String> {
        for line in block {
            for command in line.split(';') {
                let words: Vec<&str> = command.split_whitespace().collect();
                self.command(&words).unwrap_or_else(|| panic!("{}: cannot play {command:?}", self.name));
            }
        }
        let world = self.world.as_mut().expect("nodes come first");
        if world.trace.is_empty() { vec!["nothing".to_owned()] } else { std::mem::take(&mut world.trace) }
    }

    /// `None` when the command is not understood.
    fn command(&mut self, words: &[&str]) -> Option<()> {
        let (&verb, rest) = words.split_first()?;
        if verb == "nodes" {
            self.world = Some(found(rest)?);
            return Some(());
        }
        let world = self.world.as_mut()?;
        match verb {
            "tick" => nodes(rest)?.into_iter().for_each(|at| world.tick(at, GROUP)),
            "advance" => world.now = world.now.plus_ms(rest.first()?.parse().ok()?),
            "propose" => {
                let commands = rest[1..].iter().map(|text| Bytes::copy_from_slice(text.as_bytes())).collect();
                world.propose(node(rest.first()?)?, GROUP, commands);
            }
            "big" => world.propose(node(rest.first()?)?, GROUP, vec![Bytes::from(vec![b'x'; rest.get(1)?.parse().ok()?])]),
            "deliver" => taken(world, rest)?.into_iter().for_each(|packet| world.deliver(packet)),
            "drop" => drop(taken(world, rest)?),
            "copy" => {
                let chosen = taken(world, rest)?;
                self.aside = chosen.clone();
                world.packets.splice(0..0, chosen);
            }
            "replay" => self.aside.clone().into_iter().for_each(|packet| world.deliver(packet)),
            "elect" => elect(world, node(rest.first()?)?),
            "flush_one" => world.flush_one(node(rest.first()?)?),
            "flush" => nodes(rest)?.into_iter().for_each(|at| world.flush(at)),
            "change" => {
                let list = |text: Option<&&str>| text.map_or(Some(Vec::new()), |text| ids(text));
                let wanted = Membership::new(list(rest.get(1))?, list(rest.get(2))?).ok()?;
                world.step(node(rest.first()?)?, GROUP, Input::ChangeMembership { wanted });
            }
            "transfer" => {
                let target = world::node_id(node(rest.get(1)?)?);
                world.step(node(rest.first()?)?, GROUP, Input::Transfer { target });
            }
            "read" => world.step(node(rest.first()?)?, GROUP, Input::Read { id: ReadId(rest.get(1)?.parse().ok()?) }),
            "compact" => {
                let behind = rest.get(1).map_or(Some(0), |behind| behind.parse().ok())?;
                world.compact(node(rest.first()?)?, GROUP, behind);
            }
            "snapshot" => world.answer_snapshot(node(rest.first()?)?),
            "snapshot_fail" => {
                let at = node(rest.first()?)?;
                let (group, peer) = world.nodes[at].asks.pop_front()?;
                world.step(at, group, Input::SnapshotFailed { peer });
            }
            "install" | "install_fail" => {
                let at = node(rest.first()?)?;
                let (group, input) = world.fetch_snapshot(at, verb == "install")?;
                world.step(at, group, input);
            }
            "install_crash" => {
                let at = node(rest.first()?)?;
                world.fetch_snapshot(at, true)?;
                world.crash(at, 0);
            }
            "members" => members(world),
            "load" => world.load(node(rest.first()?)?),
            "settle" => world.settle(&nodes(rest)?),
            "crash" => {
                let kept = rest.get(1).map_or(Some(0), |kept| kept.strip_prefix("kept=")?.parse().ok())?;
                world.crash(node(rest.first()?)?, kept);
            }
            "restart" => world.start(node(rest.first()?)?),
            "forge" => {
                let (from, to) = link(rest.first()?)?;
                let message = forged(&rest[1..])?;
                world.deliver(Packet { from: from?, to: to?, group: GROUP, message });
            }
            "status" => status(world),
            _ => return None,
        }
        Some(())
    }
}

fn found(words: &[&str]) -> Option<World> {
    let count = words.first()?.parse().ok()?;
    // The tuning is a plain function, so each setting that scripts need has its own.
    let spare_count = words.get(1).and_then(|word| word.strip_prefix("spare=")?.parse().ok());
    let tune: fn(&mut Config) = match words.get(if spare_count.is_some() { 2 } else { 1 }).copied() {
        None => |_| {},
        Some("priorities") => |config| {
            config.election_offset_ms = (0..9).position(|at| world::node_id(at) == config.id).unwrap_or(9) as u64 * 1_000;
        },
        Some("kept=1") => |config| config.snapshot_kept_entries_max = 1,
        Some("lease=200") => |config| config.lease_ms = 200,
        Some("reads=1") => |config| config.reads_max = 1,
        Some("uncommitted=300") => |config| config.uncommitted_bytes_max = 300,
        Some("append=100") => |config| {
            config.append_bytes_max = 100;
            config.in_flight_messages_max = 2;
        },
        Some("eager") => |config| {
            config.eager_commit = true;
            config.aligned_heartbeats = true;
        },
        Some("append=1") => |config| config.append_bytes_max = 1,
        Some("cache=0") => |config| {
            config.cache_bytes_max = 0;
            config.load_bytes_max = 200;
        },
        Some(_) => return None,
    };
    Some(World::with_spares(count, spare_count.unwrap_or(0), 1, tune))
}

/// Two ticks: one for the votes, one for a heartbeat that tells all what is committed.
fn elect(world: &mut World, at: NodeAt) {
    let before = world.trace.len();
    for _ in 0..2 {
        world.tick(at, GROUP);
        world.settle(&[]);
    }
    world.trace.truncate(before);
    let raft = world.raft(at, GROUP).expect("a node that is up is elected");
    assert!(raft.is_leader(), "n{} did not win", at + 1);
    world.trace.push(format!("n{} leads in term {}", at + 1, raft.term()));
}

fn status(world: &mut World) {
    for at in 0..world.nodes.len() {
        let line = match world.raft(at, GROUP) {
            None => format!("n{} is down", at + 1),
            Some(raft) => {
                let status = raft.status();
                let (role, last, durable) = (status.role.name(), status.last, status.durable);
                let peers: Vec<String> =
                    status.peers.iter().map(|peer| format!("{}{}", peer.matched, if peer.streaming { "" } else { "?" })).collect();
                let peers = if peers.is_empty() { String::new() } else { format!(" matched=[{}]", peers.join(" ")) };
                let base = if status.base == Position::ZERO { String::new() } else { format!(" base={}", status.base) };
                format!("n{} {role} term={}{base} last={last} durable={durable} commit={}{peers}", at + 1, status.term, status.commit)
            }
        };
        world.trace.push(line);
    }
}

fn members(world: &mut World) {
    for at in 0..world.nodes.len() {
        let members = world.raft(at, GROUP).map_or("-".to_owned(), |raft| world.members_text(raft.membership()));
        world.trace.push(format!("n{}: {members}", at + 1));
    }
}

/// `n1,n2` as ids.
fn ids(text: &str) -> Option<Vec<distric_model::NodeId>> {
    text.split(',').map(|name| node(name).map(world::node_id)).collect()
}

/// Takes the packets that lie about now and match `A>B`, `A>` or nothing at all.
fn taken(world: &mut World, words: &[&str]) -> Option<Vec<Packet>> {
    let (from, to) = words.first().map_or(Some((None, None)), |word| link(word))?;
    let matches = |packet: &Packet| from.is_none_or(|from| packet.from == from) && to.is_none_or(|to| packet.to == to);
    let (taken, left) = std::mem::take(&mut world.packets).into_iter().partition(matches);
    world.packets = left;
    Some(taken)
}

fn link(word: &str) -> Option<(Option<NodeAt>, Option<NodeAt>)> {
    let (from, to) = word.split_once('>')?;
    let end = |name: &str| if name.is_empty() { Some(None) } else { node(name).map(Some) };
    Some((end(from)?, end(to)?))
}

fn nodes(names: &[&str]) -> Option<Vec<NodeAt>> {
    names.iter().map(|name| node(name)).collect()
}

fn node(name: &str) -> Option<NodeAt> {
    name.strip_prefix('n')?.parse::<usize>().ok()?.checked_sub(1)
}

/// Messages that no correct replica would send.
fn forged(words: &[&str]) -> Option<Message> {
    let number = |key: &str| words.iter().find_map(|word| word.strip_prefix(key)?.parse().ok());
    let term = Term(number("term=")?);
    let prev = Position::new(Term(number("prev_term=").unwrap_or(0)), LogIndex(number("prev=").unwrap_or(0)));
    let body = match *words.first()? {
        "heartbeat" => Body::Heartbeat(Heartbeat { commit: LogIndex(number("commit=")?), round: 1 }),
        "vote" => Body::Vote { last: prev },
        "timeout_now" => Body::TimeoutNow,
        "heartbeat_reply" => {
            let matched = LogIndex(number("index=")?);
            Body::HeartbeatReply(HeartbeatReply { round: number("round=")?, matched, received: matched })
        }
        "snapshot" => {
            let membership = Membership::new(vec![world::node_id(0)], vec![]).ok()?;
            Body::Snapshot(Snapshot { position: prev, membership })
        }
        "matched" => Body::AppendReply(AppendOutcome::Matched { matched: LogIndex(number("index=")?) }),
        "refused" => {
            Body::AppendReply(AppendOutcome::Refused { prev: prev.index, hint: Position::new(Term(0), LogIndex(number("hint=")?)) })
        }
        "append" => {
            let entry = |index: u64| Entry {
                index: LogIndex(index),
                term: Term(number("entry_term=").unwrap_or(term.0)),
                kind: EntryKind::Command,
                data: Bytes::from_static(b"forged"),
            };
            let entries = number("entry=").map(entry).into_iter().collect();
            Body::Append { prev, entries, commit: LogIndex(number("commit=").unwrap_or(0)) }
        }
        _ => return None,
    };
    Some(Message { term, body })
}

const GROUP: GroupId = GroupId(0);
