//! A worker that offers `greet`: `cargo run --example worker`. It ends when its standard input does.

use distric_sdk::worker::{TaskFailure, WorkerBuilder, WorkerOptions};
use serde_json::json;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        let _ = stop.send(());
    });
    WorkerBuilder::new(["127.0.0.1:7400"], WorkerOptions { name: "greeter".to_owned(), ..WorkerOptions::default() })
        .task("greet", async |context, input| match input["name"].as_str() {
            Some(name) => Ok(json!({ "greeting": format!("hello, {name}"), "attempt": context.attempt })),
            None => Err(TaskFailure::permanent("no_name", "the input has no member `name`")),
        })
        .run(async {
            let _ = stopped.await;
        })
        .await?;
    Ok(())
}
