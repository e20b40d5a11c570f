//! Loom models: every interleaving of a small run. Built only with `--cfg loom`.
#![cfg(loom)]

use distric_lane::{Flag, lane};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;

#[test]
fn a_lane_hands_over_each_value_once_in_order() {
    loom::model(|| {
        let (mut sender, mut receiver) = lane::<Box<u32>>(2);
        let pusher = thread::spawn(move || {
            for i in 0..3 {
                let mut value = Box::new(i);
                while let Err(back) = sender.push(value) {
                    value = back;
                    thread::yield_now();
                }
            }
        });
        for expected in 0..3 {
            let value = loop {
                match receiver.pop() {
                    Some(value) => break value,
                    None => thread::yield_now(),
                }
            };
            assert_eq!(*value, expected);
        }
        pusher.join().unwrap();
    });
}

#[test]
fn a_receiver_never_sleeps_through_a_push() {
    loom::model(|| {
        let (mut sender, mut receiver) = lane::<u32>(2);
        let flag = Flag::new();
        let theirs = flag.clone();
        let rung = Arc::new(AtomicBool::new(false));
        let their_rung = rung.clone();
        let pusher = thread::spawn(move || {
            sender.push(7).expect("the lane has room");
            if theirs.must_wake() {
                their_rung.store(true, Ordering::Release);
            }
        });
        let asleep = receiver.pop().is_none() && flag.prepare(|| receiver.is_empty());
        pusher.join().unwrap();
        if asleep {
            assert!(rung.load(Ordering::Acquire), "asleep with a value in the lane and no bell");
        }
    });
}
