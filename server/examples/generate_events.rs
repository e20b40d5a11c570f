//! Writes `examples/payments/events.jsonl`, the stream that `distric demo` submits. A test holds the file equal to this.

use distric_server::demo::events;

fn main() -> std::io::Result<()> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/payments/events.jsonl");
    std::fs::write(path, events::to_jsonl(&events::stream()))
}
