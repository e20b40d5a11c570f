//! Both loops against a scripted server.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use distric_loadgen::{MessageOptions, Options, Pace, Report, run};
use distric_wire::client::{Hello, Rejection, Response, Submit, Welcome};
use distric_wire::{Code, Flags, FrameLimits, Message, encode, parse};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

/// How the server behaves.
#[derive(Clone, Copy, Default)]
struct Script {
    frames_in_flight_max: u32,
    /// Answers nothing between these times after its first submit, milliseconds.
    stall_ms: Option<(u64, u64)>,
    /// Refuses every n-th message.
    refuse_every: Option<u64>,
    /// Never answers.
    is_mute: bool,
    /// Holds answers until so many messages wait.
    answer_when: usize,
}

#[derive(Default)]
struct Seen {
    in_flight_max: AtomicU64,
    submits: AtomicU64,
    has_bad_submit: AtomicBool,
}

/// Serves one connection.
async fn serve(mut stream: TcpStream, script: Script, seen: Arc<Seen>) {
    let mut bytes: Vec<u8> = Vec::new();
    let mut first_at = None;
    let mut waiting: Vec<u64> = Vec::new();
    loop {
        let mut out = Vec::new();
        while let Some((frame, consumed)) = parse(&bytes, FrameLimits::AUTHENTICATED).unwrap() {
            if frame.header.message_type == Hello::TYPE {
                let welcome = Welcome {
                    version: 1,
                    frame_bytes_max: 1 << 20,
                    frames_in_flight_max: script.frames_in_flight_max,
                    bytes_in_flight_max: 1 << 30,
                    ..Welcome::default()
                };
                encode(&welcome, frame.header.message_id, 0, Flags::NONE, &mut out);
            } else {
                let is_good = Submit::decode(frame.payload).is_ok_and(|submit| submit.payload.len() == 200);
                seen.has_bad_submit.fetch_or(!is_good, Ordering::Relaxed);
                seen.submits.fetch_add(1, Ordering::Relaxed);
                waiting.push(frame.header.message_id);
                first_at.get_or_insert_with(Instant::now);
            }
            bytes.drain(..consumed);
        }
        seen.in_flight_max.fetch_max(waiting.len() as u64, Ordering::Relaxed);
        if let (Some((from_ms, until_ms)), Some(first_at)) = (script.stall_ms, first_at) {
            let stall_from = first_at + Duration::from_millis(from_ms);
            let stall_until = first_at + Duration::from_millis(until_ms);
            if (stall_from..stall_until).contains(&Instant::now()) {
                sleep_until(stall_until).await;
            }
        }
        if !script.is_mute && waiting.len() >= script.answer_when.max(1) {
            for (n, id) in waiting.drain(..).enumerate() {
                if script.refuse_every.is_some_and(|every| n as u64 % every == every - 1) {
                    encode(&Rejection::new(Code::Overloaded, "full"), id, 0, Flags::NONE, &mut out);
                } else {
                    let response = Response { outcome: 3, message_id: Uuid::nil(), ..Response::default() };
                    encode(&response, id, 0, Flags::NONE, &mut out);
                }
            }
        }
        if stream.write_all(&out).await.is_err() || stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return;
        }
    }
}

async fn measure(script: Script, options: Options) -> (Report, Arc<Seen>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let seen = Arc::new(Seen::default());
    let server = tokio::spawn({
        let seen = seen.clone();
        async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, script, seen.clone()));
            }
        }
    });
    let message = MessageOptions { payload_bytes: 200, ..MessageOptions::default() };
    let report = run(&Options { address, message, ..options }).await.unwrap();
    server.abort();
    assert!(!seen.has_bad_submit.load(Ordering::Relaxed), "every frame was a submit of the size that was asked for");
    (report, seen)
}

fn closed(in_flight: u32) -> Pace {
    Pace::InFlight(NonZeroU32::new(in_flight).unwrap())
}

#[tokio::test]
async fn a_closed_loop_keeps_its_window_full_and_never_exceeds_it() {
    // The server answers only when the whole window waits: a generator that keeps fewer in flight would hang, one that keeps more is seen.
    let script = Script { frames_in_flight_max: 1_000, answer_when: 64, ..Script::default() };
    let options = Options {
        pace: closed(64),
        warm_up_ms: 50,
        duration_ms: 200,
        drain_ms: 50,
        server_pid: Some(std::process::id()),
        ..Options::default()
    };
    let (report, seen) = measure(script, options).await;
    assert_eq!(seen.in_flight_max.load(Ordering::Relaxed), 64);
    assert_eq!((report.mode, report.in_flight_max, report.connections_lost), ("closed", 64, 0));
    assert!(report.acked >= 128 && report.acked == report.unmatched, "{report}");
    assert_eq!(report.sent, report.acked + report.unanswered);
    assert!(report.messages_per_second > 0.0 && report.latency_us.count > 0);
    assert!(report.server_cpu_us_per_message.is_some() && report.client_cpu_us_per_message.is_some());
}

#[tokio::test]
async fn the_window_shrinks_to_the_credit_and_refusals_are_counted_by_name() {
    let script = Script { frames_in_flight_max: 10, refuse_every: Some(5), answer_when: 10, ..Script::default() };
    let options = Options { pace: closed(64), connections: 2, warm_up_ms: 0, duration_ms: 100, drain_ms: 50, ..Options::default() };
    let (report, seen) = measure(script, options).await;
    assert_eq!((seen.in_flight_max.load(Ordering::Relaxed), report.in_flight_max), (10, 20));
    assert_eq!(report.rejected.keys().collect::<Vec<_>>(), ["overloaded"]);
    assert_eq!(report.sent, report.acked + report.rejected["overloaded"] + report.unanswered);
}

#[tokio::test]
async fn an_open_loop_charges_a_stall_to_everybody_who_would_have_come() {
    // 400 ms of 800 without an answer, with room for 5 in flight: 195 of 400 messages cannot even be sent in time. Timed from the moment of sending,
    // 5 of 400 would be slow, and p99 would look well.
    let script = Script { frames_in_flight_max: 5, stall_ms: Some((200, 600)), ..Script::default() };
    let options = Options { pace: Pace::Rate(500.0), warm_up_ms: 0, duration_ms: 800, drain_ms: 5_000, ..Options::default() };
    let (report, seen) = measure(script, options).await;
    assert_eq!((report.mode, report.sent, report.acked, report.unanswered, report.unsent), ("open", 400, 400, 0, 0), "{report}");
    assert_eq!(seen.submits.load(Ordering::Relaxed), 400, "what was meant to be sent was sent");
    assert_eq!(report.latency_us.count, 400);
    assert!(report.latency_us.p90 > 250_000, "half of the messages fell into the stall: {report}");
    assert!(report.send_lag_us.p90 > 250_000, "most of them waited for room: {report}");
    assert!(report.latency_us.max >= 390_000, "{report}");
}

#[tokio::test]
async fn a_mute_server_gives_a_report_of_what_waited() {
    let script = Script { frames_in_flight_max: 5, is_mute: true, ..Script::default() };
    let options = Options { pace: Pace::Rate(1_000.0), warm_up_ms: 0, duration_ms: 100, drain_ms: 100, ..Options::default() };
    let (report, _) = measure(script, options).await;
    assert_eq!((report.sent, report.acked, report.unanswered, report.unsent), (5, 0, 5, 95), "{report}");
    assert!(report.latency_us.count == 100 && report.latency_us.p50 >= 100_000, "{report}");
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!((json["unsent"].as_u64(), json["latency_us"]["count"].as_u64()), (Some(95), Some(100)));
}

#[tokio::test]
async fn an_option_beyond_its_bounds_is_named() {
    for options in [Options { connections: 0, ..Options::default() }, Options { pace: Pace::Rate(f64::NAN), ..Options::default() }] {
        assert!(run(&options).await.unwrap_err().to_string().contains("must be"));
    }
}
