//! The keeper of the gates: lets instances in, in order, as far as the rule of the key allows.

use std::sync::Arc;

use distric_model::{InstanceId, Timestamp};

use super::gates::{Asker, Gate, Stand};
use super::{Ask, BATCH_BYTES_MAX, GATES_MAX, GateKey, STARTS_PER_KEY_MAX, Told, Word};
use crate::definition::{GateRule, WhenFull};
use crate::machine::effects::OutBody;
use crate::machine::timers::Timer;
use crate::machine::turn::Turn;
use crate::machine::{Errand, Machine};
use crate::octets::Octets;

impl Machine {
    /// An instance, here or in another group, asks at a gate whose home is here.
    pub(in crate::machine) fn ask_here(&mut self, turn: &mut Turn<'_>, ask: Ask) {
        let Some(gate) = self.gate_of(turn, &ask) else {
            let reason = format!("{GATES_MAX} keys are in use");
            return self.tell(turn, told(&ask, Word::Fail { code: "too_many_keys".into(), reason: reason.into() }));
        };
        if let Some(number) = self.gates.find(ask.instance, gate) {
            if self.gates.asker(number).is_some_and(|known| known.round >= ask.round) {
                return;
            }
            self.dismiss(number);
        }
        self.arrive(turn, gate, ask);
        self.advance(turn, gate);
    }

    /// The gate of a key, opened when there is none, under the rule that was told last.
    fn gate_of(&mut self, turn: &mut Turn<'_>, ask: &Ask) -> Option<u64> {
        if let Some(number) = self.gates.number_of(&ask.gate) {
            if self.gates.gate(number).is_some_and(|gate| gate.rule != ask.rule)
                && let Some(gate) = self.gates.gate_mut(number)
            {
                gate.rule = ask.rule;
            }
            return Some(number);
        }
        if self.gates.counts().0 >= GATES_MAX {
            return None;
        }
        let gate =
            Gate { key: ask.gate.clone(), rule: ask.rule, rate_at: Timestamp::default(), first_at: turn.now, timer: None, input_bytes: 0 };
        let number = turn.mint(1);
        self.state_bytes += gate.bytes();
        self.gates.open(number, gate);
        Some(number)
    }

    /// One more is at a gate: it waits there, unless the rule turns it or another away.
    fn arrive(&mut self, turn: &mut Turn<'_>, gate: u64, ask: Ask) {
        let Some(Gate { rule, input_bytes, .. }) = self.gates.gate(gate).cloned() else { return };
        let key = ask.gate.key.clone();
        match rule {
            GateRule::Order | GateRule::Concurrency { when_full: WhenFull::Queue, .. } | GateRule::Batch { .. } => {}
            GateRule::Concurrency { limit, when_full: WhenFull::DropNewest } => {
                if self.gates.inside_count(gate) + self.gates.count(gate, Stand::Waiting) >= limit as usize {
                    let reason = format!("{limit} with the key `{key}` run already");
                    return self.tell(turn, told(&ask, Word::Skip { code: "key_full".into(), reason: reason.into() }));
                }
            }
            GateRule::Concurrency { limit, when_full: WhenFull::CancelOldest } => self.make_room(turn, gate, limit),
            GateRule::Rate { limit, per_ms, burst, when_full } => {
                let is_due = self.rate_due(gate, limit, per_ms, burst).is_some_and(|due| due <= turn.now);
                if when_full != WhenFull::Queue && !(is_due && self.gates.count(gate, Stand::Waiting) == 0) {
                    let reason = format!("{limit} with the key `{key}` began within {per_ms} ms");
                    return self.tell(turn, told(&ask, Word::Skip { code: "rate_limited".into(), reason: reason.into() }));
                }
            }
            GateRule::Debounce { .. } => {
                let word = Word::Skip { code: "debounced".into(), reason: format!("{} came after it", ask.instance).into() };
                match self.gates.first(gate, Stand::Waiting) {
                    Some(earlier) => self.send_away(turn, earlier, word),
                    None => {
                        if let Some(gate) = self.gates.gate_mut(gate) {
                            gate.first_at = turn.now;
                        }
                    }
                }
            }
        }
        if self.gates.count(gate, Stand::Waiting) >= STARTS_PER_KEY_MAX {
            let reason = format!("{STARTS_PER_KEY_MAX} starts wait for the key `{key}`");
            return self.tell(turn, told(&ask, Word::Fail { code: "key_queue_full".into(), reason: reason.into() }));
        }
        if matches!(rule, GateRule::Batch { .. }) && input_bytes + ask.input.len() as u64 > BATCH_BYTES_MAX as u64 {
            self.begin_batch(turn, gate);
        }
        let asker = Asker {
            gate,
            instance: ask.instance,
            place: ask.place,
            round: ask.round,
            stand: Stand::Waiting,
            input: ask.input,
            rides_on: None,
        };
        let number = turn.mint(1);
        self.state_bytes += asker.bytes();
        self.gates.add(number, asker);
        self.count_input(number, true);
        self.set_hold(turn, gate, rule);
    }

    /// The oldest make room for one that comes: those who are inside are told to end, those who wait are turned away.
    fn make_room(&mut self, turn: &mut Turn<'_>, gate: u64, limit: u32) {
        let word = |code: &str| (Arc::from(code), Arc::from("a newer one with its key takes its place"));
        while self.gates.count(gate, Stand::Inside) + self.gates.count(gate, Stand::Waiting) >= limit as usize {
            turn.transitions += 1;
            if let Some(oldest) = self.gates.first(gate, Stand::Inside) {
                let (code, reason) = word("replaced");
                if let Some(told) = self.told_of(oldest, Word::End { code, reason }) {
                    self.tell(turn, told);
                }
                self.gates.set_stand(oldest, Stand::Ending);
            } else if let Some(oldest) = self.gates.first(gate, Stand::Waiting) {
                let (code, reason) = word("replaced");
                self.send_away(turn, oldest, Word::Skip { code, reason });
            } else {
                return;
            }
        }
    }

    /// Sets when those who wait for time are looked at again.
    fn set_hold(&mut self, turn: &Turn<'_>, gate: u64, rule: GateRule) {
        let Some(known) = self.gates.gate(gate) else { return };
        let due = match rule {
            GateRule::Debounce { wait_ms, max_wait_ms } => turn.now.plus_ms(wait_ms).min(known.first_at.plus_ms(max_wait_ms)),
            GateRule::Batch { max_wait_ms, .. } if known.timer.is_none() => turn.now.plus_ms(max_wait_ms),
            _ => return,
        };
        self.set_gate_timer(gate, due);
    }

    fn set_gate_timer(&mut self, gate: u64, due: Timestamp) {
        let Some(known) = self.gates.gate_mut(gate) else { return };
        self.timers.remove(known.timer.take());
        known.timer = Some(self.timers.set(due, Timer::Gate(gate)));
    }

    /// The time of a gate has come.
    pub(in crate::machine) fn gate_due(&mut self, turn: &mut Turn<'_>, gate: u64) {
        let Some(known) = self.gates.gate_mut(gate) else { return };
        known.timer = None;
        match known.rule {
            GateRule::Debounce { .. } => {
                if let Some(waiting) = self.gates.first(gate, Stand::Waiting) {
                    self.send_away(turn, waiting, Word::Enter);
                }
            }
            GateRule::Batch { .. } => self.begin_batch(turn, gate),
            _ => {}
        }
        self.advance(turn, gate);
    }

    /// Lets in as many as the rule allows now; closes a gate where nobody is.
    pub(in crate::machine) fn advance(&mut self, turn: &mut Turn<'_>, gate: u64) {
        loop {
            if turn.is_spent() {
                return self.errands.push_back(Errand::Advance(gate));
            }
            let Some(known) = self.gates.gate(gate) else { return };
            let rule = known.rule;
            let Some(next) = self.gates.first(gate, Stand::Waiting) else { break };
            match rule {
                GateRule::Order | GateRule::Concurrency { .. } => {
                    if self.gates.inside_count(gate) >= rule.limit() as usize {
                        return;
                    }
                    self.gates.set_stand(next, Stand::Inside);
                    if let Some(told) = self.told_of(next, Word::Enter) {
                        self.tell(turn, told);
                    }
                }
                GateRule::Rate { limit, per_ms, burst, .. } => {
                    match self.rate_due(gate, limit, per_ms, burst) {
                        Some(due) if due > turn.now => return self.set_gate_timer(gate, due),
                        _ => {}
                    }
                    let interval_us = (per_ms * 1_000).div_ceil(u64::from(limit));
                    if let Some(gate) = self.gates.gate_mut(gate) {
                        gate.rate_at = gate.rate_at.max(turn.now).plus_us(interval_us);
                    }
                    self.send_away(turn, next, Word::Enter);
                }
                GateRule::Batch { max_items, .. } => {
                    if self.gates.count(gate, Stand::Waiting) < max_items as usize {
                        return;
                    }
                    self.begin_batch(turn, gate);
                }
                GateRule::Debounce { .. } => return,
            }
            turn.transitions += 1;
        }
        self.close_if_idle(turn, gate);
    }

    /// When a rate lets the next one in.
    fn rate_due(&self, gate: u64, limit: u32, per_ms: u64, burst: u32) -> Option<Timestamp> {
        let interval_us = (per_ms * 1_000).div_ceil(u64::from(limit));
        let at = self.gates.gate(gate)?.rate_at.as_us();
        Some(Timestamp::from_us(at.saturating_sub(interval_us.saturating_mul(u64::from(burst.max(1) - 1)))))
    }

    /// A gate without anybody goes. That of a rate remembers until its bucket is full again.
    fn close_if_idle(&mut self, turn: &Turn<'_>, gate: u64) {
        if !self.gates.is_empty(gate) {
            return;
        }
        let Some(known) = self.gates.gate(gate) else { return };
        if known.rate_at > turn.now {
            let due = known.rate_at;
            return self.set_gate_timer(gate, due);
        }
        if let Some(known) = self.gates.close(gate) {
            self.timers.remove(known.timer);
            self.state_bytes -= known.bytes();
        }
    }

    /// The first of those that wait begins with the inputs of all, as far as a batch goes; the others ride on it.
    fn begin_batch(&mut self, turn: &mut Turn<'_>, gate: u64) {
        let Some(known) = self.gates.gate_mut(gate) else { return };
        let max_items = if let GateRule::Batch { max_items, .. } = known.rule { max_items as usize } else { usize::MAX };
        let timer = known.timer.take();
        self.timers.remove(timer);
        let Some(first) = self.gates.first(gate, Stand::Waiting) else { return };
        let taken: Vec<u64> = self.gates.standing(gate, Stand::Waiting).take(max_items).collect();
        let mut input = Vec::from(*b"[");
        for number in &taken {
            let Some(asker) = self.gates.asker(*number) else { continue };
            if input.len() > 1 {
                input.push(b',');
            }
            input.extend_from_slice(if asker.input.is_empty() { b"null" } else { &asker.input });
        }
        input.push(b']');
        for number in taken {
            turn.transitions += 1;
            let (stand, rides_on) = if number == first { (Stand::Inside, None) } else { (Stand::Riding, Some(first)) };
            self.count_input(number, false);
            self.gates.set_ride(number, stand, rides_on);
        }
        if let Some(told) = self.told_of(first, Word::EnterWith(Octets::from(input))) {
            self.tell(turn, told);
        }
        // What is left of those that waited has waited for a batch of its own since now.
        if let (Some(GateRule::Batch { max_wait_ms, .. }), true) =
            (self.gates.gate(gate).map(|gate| gate.rule), self.gates.count(gate, Stand::Waiting) > 0)
        {
            self.set_gate_timer(gate, turn.now.plus_ms(max_wait_ms));
        }
    }

    /// What a gate told an instance has arrived: `is_taken` unless the instance had ended, or had not waited any more.
    pub(in crate::machine) fn told_acknowledged(&mut self, turn: &mut Turn<'_>, told: &Told, is_taken: bool) {
        let Some(gate) = self.gates.number_of(&told.gate) else { return };
        let number = self.gates.find(told.instance, gate).filter(|number| {
            let asker = self.gates.asker(*number);
            asker.is_some_and(|asker| asker.round == told.round)
        });
        match (&told.word, number) {
            (Word::EnterWith(_), Some(first)) => {
                self.dismiss(first);
                let riders = self.gates.standing(gate, Stand::Riding);
                let is_with = |number: &u64| self.gates.asker(*number).is_some_and(|asker| asker.rides_on == Some(first));
                let riders: Vec<u64> = riders.filter(is_with).collect();
                for number in riders {
                    turn.transitions += 1;
                    if is_taken {
                        let reason = format!("its input is in the batch of {}", told.instance);
                        self.send_away(turn, number, Word::Skip { code: "batched".into(), reason: reason.into() });
                    } else {
                        self.gates.set_stand(number, Stand::Waiting);
                        self.count_input(number, true);
                    }
                }
                if !is_taken {
                    self.begin_batch(turn, gate);
                }
            }
            (Word::Enter, Some(number)) if !is_taken => self.dismiss(number),
            _ => {}
        }
        self.advance(turn, gate);
    }

    /// An instance does not wait, or is not inside, any more.
    pub(in crate::machine) fn leave_here(&mut self, turn: &mut Turn<'_>, key: &GateKey, instance: InstanceId, round: u32) {
        let Some(gate) = self.gates.number_of(key) else { return };
        let Some(number) = self.gates.find(instance, gate) else { return };
        let is_meant = self.gates.asker(number).is_some_and(|asker| asker.round <= round);
        // One whose batch is on its way stays until that has arrived, or has not.
        let is_bound = self.gates.asker(number).is_some_and(|asker| asker.stand == Stand::Riding || is_batch_leader(asker))
            && self.gates.gate(gate).is_some_and(|gate| matches!(gate.rule, GateRule::Batch { .. }));
        if is_meant && !is_bound {
            self.dismiss(number);
            self.advance(turn, gate);
        }
    }

    /// Tells an asker something that it need not come back for.
    fn send_away(&mut self, turn: &mut Turn<'_>, number: u64, word: Word) {
        let told = self.told_of(number, word);
        self.dismiss(number);
        if let Some(told) = told {
            self.tell(turn, told);
        }
    }

    fn dismiss(&mut self, number: u64) {
        if self.gates.asker(number).is_some_and(|asker| asker.stand == Stand::Waiting) {
            self.count_input(number, false);
        }
        if let Some(asker) = self.gates.remove(number) {
            self.state_bytes -= asker.bytes();
        }
    }

    /// Counts the input of one that waits for a batch, or not any more.
    fn count_input(&mut self, number: u64, waits: bool) {
        let Some(asker) = self.gates.asker(number) else { return };
        let (gate, bytes) = (asker.gate, asker.input.len() as u64);
        if bytes == 0 {
            return;
        }
        if let Some(gate) = self.gates.gate_mut(gate) {
            gate.input_bytes = if waits { gate.input_bytes + bytes } else { gate.input_bytes - bytes };
        }
    }

    fn told_of(&self, number: u64, word: Word) -> Option<Told> {
        let asker = self.gates.asker(number)?;
        let gate = self.gates.gate(asker.gate)?.key.clone();
        Some(Told { gate, instance: asker.instance, place: asker.place, round: asker.round, word })
    }

    fn tell(&mut self, turn: &mut Turn<'_>, told: Told) {
        self.stats.starts_turned_away_count += u64::from(matches!(told.word, Word::Skip { .. } | Word::Fail { .. } | Word::End { .. }));
        self.send_out(turn, told.instance.slot(), OutBody::Told(Box::new(told)), None);
    }
}

fn is_batch_leader(asker: &Asker) -> bool {
    asker.stand == Stand::Inside
}

fn told(ask: &Ask, word: Word) -> Told {
    Told { gate: ask.gate.clone(), instance: ask.instance, place: ask.place, round: ask.round, word }
}
