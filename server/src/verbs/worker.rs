//! `distric worker`: takes tasks from coordinators elsewhere.

use distric_core::reactor::gossip_core;
use distric_plugins_host::Isolation;
use distric_sdk::worker::WorkerGauge;
use serde_json::{Value, json};

use crate::cli::WorkerArgs;
use crate::client::block_on;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::workers::Guests;
use crate::{gossip, host, logging, settings, signals, workers};

/// Runs a worker until a signal ends it; reconnects for as long as it runs.
pub fn run(args: &WorkerArgs, output: Output) -> Result<Exit, Failure> {
    let config = settings::of_worker(args)?.config;
    let _log = logging::install(&config.log, &config.worker.name);
    let mut stopped = signals::listen().map_err(|error| Failure::new(Exit::Environment, format!("cannot listen to signals: {error}")))?;
    let keys = match config.gossip.enabled {
        true => gossip_core::keys(&config.gossip).map_err(|error| Failure::new(Exit::BadInput, format!("gossip.keys_file: {error}")))?,
        false => None,
    };
    block_on(async {
        let worker = &config.worker;
        let guests = Guests::start(worker).await?;
        let Guests { plugins, programs } = &guests;
        let offered: Vec<Value> = plugins
            .identities()
            .map(|plugin| json!({"name": plugin.name, "version": plugin.version, "isolation": plugin.isolation.name()}))
            .collect();
        let named: Vec<Value> = programs.names().map(|(name, isolation)| json!({"name": name, "isolation": isolation.name()})).collect();
        let shell = programs.shell().map(Isolation::name);
        output.json(&json!({"event": "started", "verb": "worker", "pid": std::process::id(), "name": worker.name, "coordinators": worker.coordinators, "plugins": offered, "programs": named, "shell": shell}));
        output.text(format!("worker {} for {}, {} slots", worker.name, worker.coordinators.join(", "), worker.slots));
        for plugin in plugins.identities() {
            output.text(format!("  plugin {} {}, isolation {}", plugin.name, plugin.version, plugin.isolation));
        }
        for (name, isolation) in programs.names() {
            output.text(format!("  program {name}, isolation {isolation}"));
        }
        if let Some(isolation) = programs.shell() {
            output.text(format!("  shell, isolation {isolation}"));
        }
        let (stop, stopping) = tokio::sync::watch::channel(false);
        let (id, generation) = workers::fresh_identity()?;
        let gauge = WorkerGauge::default();
        let builder = workers::builder(worker.coordinators.clone(), worker, Some(id), Some(generation), &guests, gauge.clone())?;
        let joining = {
            let config = config.clone();
            tokio::spawn(async move { gossip::join(&config, gossip::Part { worker: id, generation, keys, gauge }).await })
        };
        let mut running = std::pin::pin!(workers::run(builder, stopping));
        tokio::select! {
            result = &mut running => return result.map(|()| Exit::Success).map_err(Failure::from),
            () = signals::first(&mut stopped) => {}
            () = host::stdin_closes(args.until_stdin_closes) => {}
        }
        // The worker holds the receiver for as long as it runs.
        let _ = stop.send(true);
        let ended = running.await;
        guests.plugins.close().await;
        // The good-bye comes last: until then the worker may have results to report. Without it the others would wait for a suspicion.
        joining.abort();
        if let Ok(Some(agent)) = joining.await {
            agent.leave();
        }
        ended?;
        tracing::info!("stopped");
        Ok(Exit::Success)
    })
}
