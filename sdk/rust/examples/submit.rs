//! Submits one message and follows what it starts: `cargo run --example submit -- EVENT_TYPE JSON`.

use distric_sdk::{Client, ClientOptions, Submission};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let event_type = arguments.next().unwrap_or_else(|| "order.created".to_owned());
    let payload = arguments.next().unwrap_or_else(|| r#"{"order_id":"o-1","total":12.5}"#.to_owned());

    let client = Client::connect(ClientOptions::new(["127.0.0.1:7400"]).name("submit-example")).await?;
    let receipt = client.submit(Submission::new(payload).event_type(event_type)).await?;
    println!("{} {:?}: rules {:?}, workflows {:?}", receipt.message_id, receipt.outcome, receipt.rules, receipt.workflows);
    for instance in receipt.instances {
        let mut events = client.subscribe_instance(instance).await?;
        while let Some(event) = events.next().await {
            let event = event?;
            println!("{} {}", event.kind, String::from_utf8_lossy(&event.body));
        }
    }
    Ok(())
}
