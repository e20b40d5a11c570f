//! The `distric-admin` binary: what an operator does with a running cluster.
//!
//! In: a command line, answers of coordinators.  Out: text or JSON on stdout, an exit code with the meanings of docs/cli.md.
//! May touch: `sdk`, and of `server` what its verbs share: exit codes, output, connecting, key files.  Never: data directories; it is a client like any
//! other.
//! Start reading at [`run`], then [`picture`], then the verb in question.

pub mod cluster;
pub mod gossip;
pub mod members;
pub mod moves;
pub mod picture;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};
use distric_server::cli::ClientArgs;
use distric_server::client::block_on;
use distric_server::exit::Exit;
use distric_server::output::Output;

/// Looks after clusters of coordinators.
#[derive(Debug, Parser)]
#[command(name = "distric-admin", version, about, propagate_version = true, max_term_width = 120, disable_help_subcommand = true)]
pub struct Cli {
    /// Print JSON for scripts instead of text for people.
    #[arg(long, global = true)]
    pub json: bool,
    /// What to look after.
    #[command(subcommand)]
    pub what: What,
}

/// What there is to look after.
#[derive(Debug, Subcommand)]
pub enum What {
    /// The coordinators of a cluster and their groups.
    #[command(subcommand)]
    Cluster(ClusterVerb),
    /// Who gossip holds alive: coordinators and workers with state, load, address and version.
    Members {
        /// Where to.
        #[command(flatten)]
        client: ClientArgs,
        /// Show them again whenever something has changed, until Ctrl-C.
        #[arg(long)]
        watch: bool,
    },
    /// How members find each other.
    #[command(subcommand)]
    Gossip(GossipVerb),
}

/// `distric-admin gossip …`.
#[derive(Debug, Subcommand)]
pub enum GossipVerb {
    /// The keys that gossip is sealed with.
    #[command(subcommand)]
    Keys(KeysVerb),
}

/// `distric-admin gossip keys …`.
#[derive(Debug, Subcommand)]
pub enum KeysVerb {
    /// Show which keys there are, who lacks them, and which one is in use.
    List {
        /// Where to.
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Make a new key in a key file of this machine; it is made when it does not exist. Nothing is sent anywhere.
    Add {
        /// The file, as gossip.keys_file names it.
        file: PathBuf,
    },
    /// Seal with this key from now on. Refused while a live member lacks it.
    Use {
        /// Where to.
        #[command(flatten)]
        client: ClientArgs,
        /// The key's id.
        #[arg(value_parser = clap::value_parser!(u16).range(1..))]
        id: u16,
        /// Also when some live members lack it: they will not be heard any more.
        #[arg(long)]
        force: bool,
    },
    /// Accept this key and all lesser ones no more. Refused while a live member seals with one of them.
    Retire {
        /// Where to.
        #[command(flatten)]
        client: ClientArgs,
        /// The key's id.
        #[arg(value_parser = clap::value_parser!(u16).range(1..))]
        id: u16,
        /// Also when some live members still seal with one of them: they will not be heard any more.
        #[arg(long)]
        force: bool,
    },
}

/// `distric-admin cluster …`.
#[derive(Debug, Subcommand)]
pub enum ClusterVerb {
    /// Show members, groups, terms, leaders and lag; exit 1 when a group has no leader.
    Status {
        /// Where to.
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Print how a new node becomes a member; with --wait, wait until so many vote everywhere.
    Join {
        /// Where to.
        #[command(flatten)]
        client: ClientArgs,
        /// Wait until so many coordinators vote in every group.
        #[arg(long, value_name = "N")]
        wait: Option<usize>,
        /// How the wait is bounded.
        #[command(flatten)]
        patience: Patience,
    },
    /// Remove a coordinator for good, alive or dead. Its id never comes back.
    Remove {
        /// Where to.
        #[command(flatten)]
        client: ClientArgs,
        /// Its name or id.
        node: String,
        /// Also when those who remain would not be enough to commit anything at present.
        #[arg(long)]
        force: bool,
        /// How the wait is bounded.
        #[command(flatten)]
        patience: Patience,
    },
    /// Move the lead of one group to a coordinator.
    TransferLeader {
        /// Where to.
        #[command(flatten)]
        client: ClientArgs,
        /// The group's number; 0 is the cluster's own group.
        group: u32,
        /// Name or id of the coordinator.
        node: String,
        /// How the wait is bounded.
        #[command(flatten)]
        patience: Patience,
    },
    /// Spread the leads evenly over the coordinators that are there.
    Rebalance {
        /// Where to.
        #[command(flatten)]
        client: ClientArgs,
        /// How the wait is bounded.
        #[command(flatten)]
        patience: Patience,
    },
}

/// How long to wait for a change to be complete.
#[derive(Args, Clone, Copy, Debug)]
pub struct Patience {
    /// Longest wait for the change to be complete, seconds.
    #[arg(long = "within", value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub within_s: u64,
}

/// The whole program: parses the command line, runs the verb, prints a failure, returns the exit code.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers, not mistakes. A terminal that cannot be written to leaves nobody to tell.
            let _ = error.print();
            let is_answer = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return if is_answer { Exit::Success.into() } else { Exit::Usage.into() };
        }
    };
    let output = Output::new(cli.json);
    let done = match cli.what {
        What::Cluster(verb) => block_on(cluster::run(verb, output)),
        What::Members { client, watch } => block_on(members::run(&client, watch, output)),
        What::Gossip(verb) => block_on(gossip::run(verb, output)),
    };
    match done {
        Ok(exit) => exit.into(),
        Err(failure) => {
            if output.json {
                eprintln!("{}", failure.to_json());
            } else {
                eprintln!("{failure}");
            }
            failure.exit.into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed_and_documented() {
        Cli::command().debug_assert();
        let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operations.md")).unwrap();
        let cluster = Cli::command().find_subcommand("cluster").cloned().expect("it is there");
        for verb in cluster.get_subcommands() {
            let named = format!("distric-admin cluster {}", verb.get_name());
            assert!(page.contains(&named), "docs/operations.md lacks {named}");
        }
        for named in ["members --watch", "gossip keys list", "gossip keys add", "gossip keys use", "gossip keys retire"] {
            assert!(page.contains(&format!("distric-admin {named}")), "docs/operations.md lacks {named}");
        }
    }
}
