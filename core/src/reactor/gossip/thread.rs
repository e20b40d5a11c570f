//! The thread of one or many agents, and how the rest of the process talks to it.

use std::collections::VecDeque;
use std::io;
use std::net::ToSocketAddrs;
use std::path::Path;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use distric_gossip::{Endpoint, KeyChoice, KeyRing, Load, Profile};
use distric_lane::{Bell, Sleeper, doorbell};
use monoio::blocking::DefaultThreadPool;
use monoio::io::AsyncReadRent;
use monoio::net::UnixStream;

use super::agent::{Agent, AgentStart};
use super::endpoint_of;
use super::keys::{self, KeyWatch};

/// Threads that connect for the agents of one thread.
const CONNECTING_THREADS: usize = 2;
/// How long agents with company go on answering after their good-bye, milliseconds: three hops and some lost packets.
const FAREWELL_MS: u64 = 300;

/// What an agent can be told.
#[derive(Clone, Debug)]
pub enum AgentCommand {
    /// Where others may be found.
    Seeds(Vec<Endpoint>),
    /// A sample of this node's load.
    Load(Load),
    /// What this node says about itself from now on.
    Profile(Box<Profile>),
    /// The keys that this node holds from now on.
    Keys(Box<KeyRing>),
    /// Which of them count, by the log.
    Choose(KeyChoice),
    /// Say good-bye.
    Leave,
}

enum Order {
    Command(usize, AgentCommand),
    /// Names to be resolved to seeds, away from the agents' thread.
    Names(usize, Vec<String>),
    /// Every agent says good-bye.
    Farewell,
    End,
}

/// Talks to the agents of one thread. What is said to an agent that is gone is lost.
pub struct AgentControl {
    orders: mpsc::Sender<Order>,
    bell: Bell,
}

impl AgentControl {
    /// Tells the agent of this number.
    pub fn tell(&self, agent: usize, command: AgentCommand) {
        self.order(Order::Command(agent, command));
    }

    /// Names `host:port` under which others may be found. They are resolved by the threads that connect; those that cannot be are left
    /// out.
    pub fn seeds(&self, agent: usize, names: Vec<String>) {
        self.order(Order::Names(agent, names));
    }

    fn order(&self, order: Order) {
        let _ = self.orders.send(order);
        self.bell.ring();
    }

    /// One more of it. Errors: out of descriptors.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { orders: self.orders.clone(), bell: self.bell.try_clone()? })
    }
}

/// A thread with its agents.
pub struct AgentThread {
    control: AgentControl,
    thread: JoinHandle<()>,
    keys: Option<KeyWatch>,
}

impl AgentThread {
    /// Starts the thread and its agents.  Errors: no descriptors, no thread, no runtime, or a setting that cannot work.
    pub fn start(name: &str, agents: Vec<AgentStart>, use_uring: bool) -> io::Result<Self> {
        let (bell, sleeper) = doorbell()?;
        let (orders, inbox) = mpsc::channel();
        let (ready, started) = mpsc::channel();
        let run = move || {
            let pool = Box::new(DefaultThreadPool::new(CONNECTING_THREADS));
            let ready_or = ready.clone();
            let task = run(agents, use_uring, sleeper, inbox, ready);
            let built = if use_uring {
                let runtime = monoio::RuntimeBuilder::<monoio::IoUringDriver>::new().enable_timer().attach_thread_pool(pool).build();
                runtime.map(|mut runtime| runtime.block_on(task))
            } else {
                let runtime = monoio::RuntimeBuilder::<monoio::LegacyDriver>::new().enable_timer().attach_thread_pool(pool).build();
                runtime.map(|mut runtime| runtime.block_on(task))
            };
            if let Err(error) = built {
                let _ = ready_or.send(Err(error));
            }
        };
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(run)?;
        let control = AgentControl { orders, bell };
        started.recv().unwrap_or_else(|_| Err(io::Error::other("the gossip thread ended at its start")))?;
        Ok(Self { control, thread, keys: None })
    }

    /// Keeps the keys of the first agent those of this file for as long as the thread runs.  `known`: what it said at the start.
    /// Errors: the system does not watch it.
    pub fn watch_keys(&mut self, path: &Path, known: KeyRing) -> io::Result<()> {
        self.keys = Some(keys::watch(path, known, 0, self.control.try_clone()?)?);
        Ok(())
    }

    /// To talk to the agents.
    pub fn control(&self) -> &AgentControl {
        &self.control
    }

    /// Says good-bye for all agents, and ends when the others have heard it.
    pub fn leave(self) {
        self.control.order(Order::Farewell);
        self.end();
    }

    /// Ends at once, without a word: as a crash would.
    pub fn kill(self) {
        self.end();
    }

    fn end(self) {
        let Self { control, thread, keys } = self;
        drop(keys);
        control.order(Order::End);
        while !thread.is_finished() {
            // A bell rung while its thread was awake is not heard; once more costs nothing.
            control.bell.ring();
            std::thread::sleep(Duration::from_millis(1));
        }
        let _ = thread.join();
    }
}

async fn run(
    starts: Vec<AgentStart>,
    use_uring: bool,
    sleeper: Sleeper,
    inbox: mpsc::Receiver<Order>,
    ready: mpsc::Sender<io::Result<()>>,
) {
    let mut agents = Vec::new();
    for start in starts {
        match Agent::start(start, use_uring) {
            Ok(agent) => agents.push(agent),
            Err(error) => {
                let _ = ready.send(Err(io::Error::other(error.to_string())));
                return;
            }
        }
    }
    let mut bell = match sleeper.try_clone_socket().and_then(UnixStream::from_std) {
        Ok(bell) => bell,
        Err(error) => {
            let _ = ready.send(Err(error));
            return;
        }
    };
    let _ = ready.send(Ok(()));
    let mut bytes: Vec<u8> = Vec::with_capacity(64);
    let mut has_left = false;
    let mut orders = VecDeque::new();
    loop {
        while let Some(order) = orders.pop_front().or_else(|| inbox.try_recv().ok()) {
            match order {
                Order::Farewell => {
                    has_left = agents.iter().any(|agent| agent.has_company());
                    agents.iter().for_each(|agent| agent.command(AgentCommand::Leave));
                }
                Order::Command(number, command) => {
                    if let Some(agent) = agents.get(number) {
                        agent.command(command);
                    }
                }
                Order::Names(number, names) => {
                    if let Some(agent) = agents.get(number).cloned() {
                        monoio::spawn(async move {
                            if let Ok(seeds) = monoio::spawn_blocking(move || resolve(&names)).await {
                                agent.command(AgentCommand::Seeds(seeds));
                            }
                        });
                    }
                }
                Order::End => {
                    if has_left {
                        monoio::time::sleep(Duration::from_millis(FAREWELL_MS)).await;
                    }
                    agents.iter().for_each(|agent| agent.end());
                    return;
                }
            }
        }
        // Whoever orders rings afterwards; what came before the bell was hung is found by this last look.
        if sleeper.prepare(|| inbox.try_recv().map(|order| orders.push_back(order)).is_err()) {
            bytes.clear();
            let (result, buffer) = bell.read(bytes).await;
            bytes = buffer;
            sleeper.woken();
            if result.is_err() {
                return;
            }
        }
    }
}

/// Blocks as long as the system's resolver does.
fn resolve(names: &[String]) -> Vec<Endpoint> {
    let mut seeds: Vec<Endpoint> = Vec::new();
    for name in names {
        match name.to_socket_addrs() {
            Ok(addresses) => seeds.extend(addresses.map(endpoint_of)),
            Err(error) => tracing::debug!(target: "distric_core::gossip", name, error = %error, "a seed's name has no address"),
        }
    }
    seeds.sort_unstable();
    seeds.dedup();
    seeds
}
