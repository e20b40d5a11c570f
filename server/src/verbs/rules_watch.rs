//! `distric rules watch DIR`: applies rule files whenever they change. A client like any other: what does not pass its check is told,
//! and the catalog stays as it was.

use std::path::{Path, PathBuf};
use std::time::Duration;

use distric_sdk::{Client, Command, CommandKind};
use rustix::fs::inotify;
use serde_json::json;
use tokio::sync::mpsc;

use crate::cli::ClientArgs;
use crate::client::{block_on, connect};
use crate::exit::{Exit, Failure};
use crate::live_catalog::json_of;
use crate::output::{Output, Paint};
use crate::rule_files::Sources;
use crate::signals;

/// After the first event of a change, so long is waited for the rest of it: editors and version control write many files at once.
const SETTLE: Duration = Duration::from_millis(100);

/// Watches until a signal ends it. Applies once at the start, so that files and catalog agree from then on.
pub fn run(path: &Path, args: &ClientArgs, author: Option<&str>, output: Output) -> Result<Exit, Failure> {
    let mut stopped = signals::listen().map_err(|error| Failure::new(Exit::Environment, format!("cannot listen to signals: {error}")))?;
    let mut changes = events_of(path)?;
    block_on(async {
        let client = connect(args).await?;
        output.text(format!("watching {}; Ctrl-C ends", path.display()));
        loop {
            apply(&client, path, author, output).await;
            tokio::select! {
                () = signals::first(&mut stopped) => return Ok(Exit::Success),
                event = changes.recv() => match event {
                    Some(Ok(())) => {}
                    Some(Err(error)) => return Err(Failure::io("watch", path, &error)),
                    None => return Err(Failure::new(Exit::Environment, format!("{} cannot be watched any more", path.display()))),
                },
            }
            tokio::time::sleep(SETTLE).await;
            while changes.try_recv().is_ok() {}
        }
    })
}

/// Applies what the files say now, and tells how it went. A failure does not end the watch: the next change may heal it.
pub async fn apply(client: &Client, path: &Path, author: Option<&str>, output: Output) {
    let applied = async {
        let sources = Sources::read(path)?;
        let mut command = Command::new(CommandKind::ApplyCatalog).body(sources.body()).reason(format!("{} changed", path.display()));
        command.author = author.map(str::to_owned);
        json_of(&client.command(command).await?)
    };
    match applied.await {
        Ok(applied) => {
            let changed: usize = ["rules_changed", "rules_removed", "workflows_changed", "workflows_removed"]
                .iter()
                .filter_map(|list| Some(applied[*list].as_array()?.len()))
                .sum();
            output.json(&json!({"event": "applied", "catalog_version": applied["catalog_version"], "changes": changed}));
            output.text(format!(
                "{} catalog version {}, {changed} changes",
                output.paint(Paint::Good, "applied"),
                applied["catalog_version"]
            ));
        }
        Err(failure) => {
            output.json(&json!({"event": "refused", "error": failure.to_json()["error"]}));
            output.text(format!("{} the catalog stays as it was\n{failure}", output.paint(Paint::Bad, "refused")));
        }
    }
}

/// A thread that waits for the kernel to tell of changes in the directory, or in the directory of the file.
fn events_of(path: &Path) -> Result<mpsc::Receiver<Result<(), std::io::Error>>, Failure> {
    let failed = |error: rustix::io::Errno| Failure::io("watch", path, &error.into());
    let dir: PathBuf = match (path.is_dir(), path.parent()) {
        (true, _) => path.to_owned(),
        (false, Some(parent)) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    let fd = inotify::init(inotify::CreateFlags::CLOEXEC).map_err(failed)?;
    // Editors replace files, so the directory is watched and not the file.
    let events = inotify::WatchFlags::CLOSE_WRITE
        | inotify::WatchFlags::MOVED_TO
        | inotify::WatchFlags::MOVED_FROM
        | inotify::WatchFlags::DELETE
        | inotify::WatchFlags::ONLYDIR;
    inotify::add_watch(&fd, &dir, events).map_err(failed)?;
    let (tell, told) = mpsc::channel(1);
    // A thread of its own: a blocking read cannot be cancelled, and must not keep the runtime from ending.
    std::thread::spawn(move || {
        let mut buffer = [std::mem::MaybeUninit::uninit(); 4_096];
        let mut reader = inotify::Reader::new(&fd, &mut buffer);
        loop {
            let event = reader.next().map(|_| ()).map_err(std::io::Error::from);
            let is_end = event.is_err();
            // A full channel already says that something changed.
            if let Err(mpsc::error::TrySendError::Closed(_)) = tell.try_send(event) {
                return;
            }
            if is_end {
                return;
            }
        }
    });
    Ok(told)
}
