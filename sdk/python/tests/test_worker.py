"""The worker: its ledger and desk under seeded random reports, and the whole of it against a scripted coordinator."""

import json
import pathlib
import random
import socket
import sys
import threading
import time
import unittest
import uuid

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[1]), str(pathlib.Path(__file__).resolve().parent)]

from distric import errors, wire  # noqa: E402
from distric.worker import TaskFailure, Worker  # noqa: E402
from distric.worker.desk import COMPLETED, FAILED, RETURNED, Desk, key_of  # noqa: E402
from distric.worker.ledger import Ledger  # noqa: E402
from distric.worker.roster import SESSIONS_MAX, Roster  # noqa: E402
from scripted import ID as NODE  # noqa: E402
from scripted import WELCOME, frames  # noqa: E402

PATIENCE_S = 20.0


def assignment(number, *, group=1, task_type="echo", attempt=1, token=None, task_input=None, timeout_ms=0):
    return {"group": group, "task_id": uuid.UUID(int=number), "instance_id": uuid.UUID(int=1), "namespace": "default", "workflow": "w",
            "workflow_version": 1, "task": "t", "task_type": task_type, "attempt": attempt, "fencing_token": token or number,
            "input": json.dumps(task_input).encode(), "config": b'{"factor":2}', "timeout_ms": timeout_ms, "idempotency_key": f"k-{number}"}


class LedgerTest(unittest.TestCase):
    def test_a_former_leader_takes_no_group_from_its_successor_and_strands_none(self):
        ledger = Ledger(4)
        ledger.attach(0, [1, 2], [5, 5])
        self.assertEqual(ledger.attach(1, [1, 2], [6, 6]), [1, 2])
        ledger.settle()
        # The first one wakes up and hears of its successors one after the other.
        self.assertEqual(ledger.attach(0, [2], [5]), [])
        self.assertEqual(ledger.attach(0, []), [])
        self.assertEqual((ledger.session_of(1), ledger.session_of(2), ledger.granted), (1, 1, 4))
        self.assertEqual(ledger.attach(1, [1, 2], [6, 8]), [2], "a later lead has no credit yet")
        ledger.detach(1)
        self.assertEqual(ledger.attach(0, [1], [5]), [])

    def test_the_budget_is_split_evenly_and_the_remainder_goes_by_turn(self):
        ledger = Ledger(8)
        ledger.attach(0, [1, 2, 3])
        self.assertEqual(ledger.settle(), {1: 3, 2: 3, 3: 2})
        self.assertEqual(ledger.settle(), {}, "nothing is granted twice")

    def test_a_starving_group_gets_what_idle_groups_give_back(self):
        ledger = Ledger(4)
        ledger.attach(0, [1])
        ledger.attach(1, [2])
        self.assertEqual(ledger.settle(), {1: 2, 2: 2})
        ledger.task_came(1)
        ledger.task_came(1)
        ledger.backlog(1, 5)
        self.assertEqual(ledger.settle(), {2: -2})
        self.assertEqual(ledger.settle(), {}, "one question at a time")
        ledger.returned(2, 2)
        self.assertEqual(ledger.settle(), {1: 2})

    def test_credit_lapses_with_its_session_and_tasks_in_hand_keep_theirs(self):
        ledger = Ledger(3)
        ledger.attach(0, [1])
        ledger.settle()
        ledger.task_came(1)
        self.assertEqual(ledger.detach(0), [1])
        self.assertEqual(ledger.settle(), {})
        ledger.attach(0, [1])
        self.assertEqual(ledger.settle(), {1: 2})

    def test_a_group_that_starves_on_less_ends_the_renewal_of_a_larger_one(self):
        ledger = Ledger(2)
        ledger.attach(0, [1])
        ledger.settle()
        ledger.task_came(1)
        ledger.task_came(1)
        ledger.attach(1, [2])
        self.assertTrue(ledger.renews(1))
        ledger.backlog(2, 1)
        self.assertEqual(ledger.settle(), {})
        self.assertFalse(ledger.renews(1))
        ledger.task_left(1)
        ledger.settled()
        self.assertEqual(ledger.settle(), {2: 1})


class RosterTest(unittest.TestCase):
    def test_two_addresses_of_one_node_are_one_session(self):
        roster = Roster(["localhost:1", "a:1"])
        self.assertEqual(len(roster.take_changes()), 2)
        self.assertTrue(roster.on_reached(0, "A"))
        self.assertFalse(roster.on_reached(1, "A"))
        roster.on_down(0)
        self.assertTrue(roster.on_reached(1, "A"))

    def test_one_that_moved_is_let_go_when_its_connection_ends(self):
        roster = Roster(["a:1"])
        roster.take_changes()
        roster.on_reached(0, "A")
        roster.on_coordinators({"A": "a:1", "B": "b:1"})
        self.assertEqual(roster.take_changes(), [("open", 1, "b:1")])
        roster.on_reached(1, "B")
        roster.on_coordinators({"A": "a:1", "B": "b:2"})
        self.assertEqual(roster.take_changes(), [], "it is still reached at its old address")
        roster.on_down(1)
        self.assertEqual(roster.take_changes(), [("end", 1), ("open", 2, "b:2")])
        roster.on_down(0)
        self.assertEqual(roster.take_changes(), [], "a given address is tried for ever")

    def test_sessions_are_bounded(self):
        roster = Roster(["a:1"])
        roster.on_coordinators({f"{n:04}": f"x:{n}" for n in range(1000)})
        self.assertEqual(len(roster.take_changes()), SESSIONS_MAX)


class World:
    """Leaders that obey the protocol, around one desk: they use only credit that they have, and forget it with a session."""

    def __init__(self, seed):
        self.draw = random.Random(seed)
        self.slots, self.prefetch = self.draw.randint(1, 4), self.draw.randint(0, 4)
        self.desk = Desk(self.slots, self.prefetch)
        self.groups = {group: None for group in range(1, 4)}  # group: session
        self.credit = {group: 0 for group in self.groups}
        self.owed = {}  # key: group, of assignments that have no acknowledged result
        self.results = {}
        self.running = set()
        self.next = 1

    def take(self):
        for one in self.desk.starts:
            assert key_of(one) not in self.running, "a task runs twice"
            self.running.add(key_of(one))
        self.desk.starts = []
        assert len(self.running) <= self.slots, "more tasks run than there are slots"
        for session, name, fields in self.desk.frames:
            group = fields.get("group")
            assert group is None or self.groups[group] == session, "a frame goes to who does not lead the group"
            if name == "Credit":
                if fields["amount"] > 0:
                    self.credit[group] += fields["amount"]
                else:
                    back = min(self.credit[group], -fields["amount"])
                    self.credit[group] -= back
                    if back:
                        self.pending_returns.append((group, session, back))
            elif name == "TaskResult":
                key = key_of(fields)
                first = key not in self.results
                self.results[key] = fields
                if fields["renew_credit"] and first:
                    self.credit[group] += 1
            elif name == "ReconcileReply":
                for one in fields["unknown"]:
                    assert key_of(one) not in self.running and key_of(one) not in self.results, "it denies what it has"
        self.desk.frames = []
        leased = sum(self.credit.values()) + sum(1 for key in self.owed if key not in self.results)
        assert leased <= self.slots + self.prefetch, "more is leased than there is"

    pending_returns = ()

    def step(self):
        self.pending_returns = []
        self.desk.now_s += self.draw.choice([0.0, 0.1, 2.0])
        what = self.draw.choice(["assign", "assign", "finish", "finish", "ack", "ack", "move", "tick", "backlog", "reconcile", "cancel"])
        group = self.draw.choice(list(self.groups))
        session = self.groups[group]
        if what == "assign" and self.credit[group] and session is not None:
            self.credit[group] -= 1
            one = assignment(self.next, group=group)
            self.next += 1
            self.owed[key_of(one)] = group
            self.desk.on_assignment(one, True)
        elif what == "finish" and self.running:
            key = self.draw.choice(sorted(self.running))
            self.running.discard(key)
            self.desk.on_finished(key, {"outcome": COMPLETED, "output": b"1"})
        elif what == "ack":
            for key in [key for key in self.results if self.owed.get(key) == group and self.groups[group] is not None][:1]:
                del self.owed[key], self.results[key]
                self.desk.on_result_ack(key)
        elif what == "move":
            self.groups[group] = self.draw.choice([None, 0, 1])
            self.credit[group] = 0
            for number in (0, 1):
                led = [one for one, leader in self.groups.items() if leader == number]
                self.desk.on_groups(number, led) if led else self.desk.on_down(number)
        elif what == "tick":
            self.desk.on_tick({one for one in self.groups.values() if one is not None})
        elif what == "backlog" and session is not None:
            self.desk.on_backlog(group, self.draw.randint(0, 5))
        elif what == "reconcile" and session is not None:
            mine = [{"task_id": key[0], "fencing_token": key[1]} for key, owner in self.owed.items() if owner == group]
            self.desk.on_reconcile(session, group, mine)
        elif what == "cancel" and self.owed:
            self.desk.on_cancel(self.draw.choice(sorted(self.owed)))
            self.desk.stops = []
        self.take()
        for back_group, back_session, amount in self.pending_returns:
            if self.groups[back_group] == back_session:
                self.desk.on_credit_returned(back_group, amount)
        self.pending_returns = []
        self.take()


class DeskTest(unittest.TestCase):
    def test_under_random_reports_nothing_is_overdrawn_and_no_result_is_lost(self):
        for seed in range(200):
            with self.subTest(seed=seed):
                world = World(seed)
                for _ in range(300):
                    world.step()
                # Calm: everything ends, every task that was assigned has a result that was sent.
                for group in world.groups:
                    world.groups[group] = 0
                    world.credit[group] = 0
                world.desk.on_down(1)
                world.desk.on_groups(0, sorted(world.groups))
                while world.running:
                    key = world.running.pop()
                    world.desk.on_finished(key, {"outcome": COMPLETED, "output": b"1"})
                    world.take()
                world.desk.now_s += 10
                world.desk.on_tick([0])
                world.take()
                self.assertEqual(set(world.owed), set(world.results))

    def test_a_draining_worker_returns_what_has_not_started_and_finishes_what_runs(self):
        desk = Desk(1, 1)
        desk.on_groups(0, [1])
        desk.on_assignment(assignment(1), True)
        desk.on_assignment(assignment(2), True)
        self.assertEqual(len(desk.starts), 1)
        desk.on_drain(True)
        desk.on_assignment(assignment(3), True)
        returned = {key_of(fields)[0].int: fields["error"] for _, name, fields in desk.frames if name == "TaskResult" and fields["outcome"] == RETURNED}
        self.assertEqual(returned, {2: "the worker is draining", 3: "the worker is draining"})
        desk.on_finished(key_of(assignment(1)), {"outcome": COMPLETED, "output": b"1"})
        self.assertEqual(desk.running, 0)
        self.assertFalse(desk.frames[-1][2].get("renew_credit"))

    def test_a_type_without_handler_and_an_older_attempt(self):
        desk = Desk(2, 0)
        desk.on_groups(0, [1])
        desk.on_assignment(assignment(1, task_type="none"), False)
        self.assertIn("no handler for 'none'", [fields for _, name, fields in desk.frames if name == "TaskResult"][0]["error"])
        desk.on_assignment(assignment(2, token=5), True)
        desk.on_assignment(assignment(2, token=6, attempt=2), True)
        self.assertEqual(desk.stops, [(uuid.UUID(int=2), 5)])


class Coordinator:
    """A scripted coordinator: keeps what it hears, says what a test puts into it."""

    def __init__(self, node=NODE, groups=(1,)):
        self.node, self.groups = node, list(groups)
        self.heard, self.connection, self.hellos = [], None, 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.coordinators = {}
        self.refusal = None
        self.changed = threading.Condition()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        try:
            for message_id, name, fields in frames(connection):
                if name == "Hello":
                    connection.sendall(wire.encode_frame("Welcome", {**WELCOME, "node_id": self.node}, message_id))
                    continue
                if name == "Ping":
                    connection.sendall(wire.encode_frame("Pong", fields, message_id))
                    continue
                with self.changed:
                    if name == "WorkerHello":
                        if self.refusal:
                            connection.sendall(wire.encode_frame("Rejection", self.refusal, message_id))
                            continue
                        self.hellos += 1
                        self.connection = connection
                        welcome = {"groups": self.groups, "coordinators": self.coordinators}
                        connection.sendall(wire.encode_frame("WorkerWelcome", welcome, message_id))
                    self.heard.append((name, fields))
                    self.changed.notify_all()
        except OSError:
            return
        finally:
            connection.close()

    def say(self, name, fields):
        self.connection.sendall(wire.encode_frame(name, fields, 0))

    def wait(self, what, name, fits=lambda fields: True, count=1):
        """The first `count` messages of this name that fit."""
        def found():
            return [fields for heard, fields in self.heard if heard == name and fits(fields)]
        with self.changed:
            if not self.changed.wait_for(lambda: len(found()) >= count, PATIENCE_S):
                raise AssertionError(f"{what}: not within {PATIENCE_S} s; heard {[heard for heard, _ in self.heard]}")
            return found()

    def break_connection(self):
        connection, self.connection = self.connection, None
        # The thread that reads from it closes it.
        try:
            connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the worker was faster

    def close(self):
        self.listener.close()
        if self.connection is not None:
            self.break_connection()


class WorkerTest(unittest.TestCase):
    def setUp(self):
        self.coordinator = Coordinator()
        self.addCleanup(self.coordinator.close)
        self.release = threading.Event()
        self.error = None

    def start(self, *addresses, **options):
        worker = Worker(list(addresses) or [self.coordinator.address], slots=2, prefetch=1, **options)

        @worker.task("echo")
        def echo(context, value):
            return {"value": value, "factor": context.config["factor"], "attempt": context.attempt}

        @worker.task("async")
        async def coroutine(context, value):
            return [value]

        @worker.task("fail")
        def fail(context, value):
            raise TaskFailure("no_stock", "nothing left", retryable=False, retry_after_s=1.5)

        @worker.task("broken")
        def broken(context, value):
            return {1, 2}

        @worker.task("wait")
        def wait(context, value):
            self.release.wait(PATIENCE_S)
            return context.cancelled

        @worker.task("heed")
        def heed(context, value):
            if not context.wait_cancelled(PATIENCE_S):
                return "was not cancelled"
            raise TaskFailure("interrupted")

        def run():
            try:
                worker.run()
            except errors.Rejected as error:
                self.error = error

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        self.addCleanup(self.end, worker, thread)
        self.addCleanup(self.release.set)
        return worker, thread

    def end(self, worker, thread):
        worker.stop()
        thread.join(PATIENCE_S)
        self.assertFalse(thread.is_alive(), "the worker ends when it is told to")

    def result(self, number):
        return self.coordinator.wait(f"result of {number}", "TaskResult", lambda fields: fields["task_id"].int == number)[0]

    def give(self, one):
        self.coordinator.say("Assignment", one)

    def ack(self, one):
        self.coordinator.say("ResultAck", {"task_id": one["task_id"], "fencing_token": one["fencing_token"], "verdict": 1})

    def ready(self):
        self.coordinator.wait("credit", "Credit")

    def test_outcomes(self):
        self.start(labels={"zone": "eu"})
        self.ready()
        hello = self.coordinator.heard[0][1]
        self.assertEqual((hello["slots"], hello["prefetch"], hello["labels"]), (2, 1, {"zone": "eu"}))
        self.assertEqual(hello["task_types"], ["async", "broken", "echo", "fail", "heed", "wait"])
        self.assertEqual((hello["worker_id"].version, hello["worker_id"].variant), (7, uuid.RFC_4122))
        for number, kind in enumerate(["echo", "async", "fail", "broken", "unknown"], start=1):
            one = assignment(number, task_type=kind, task_input={"n": number})
            self.give(one)
            self.result(number)
            self.ack(one)
        self.assertEqual(json.loads(self.result(1)["output"]), {"value": {"n": 1}, "factor": 2, "attempt": 1})
        self.assertEqual(json.loads(self.result(2)["output"]), [{"n": 2}])
        failed = self.result(3)
        self.assertEqual((failed["outcome"], failed["error_code"], failed["error"], failed["retryable"], failed["retry_after_ms"]),
                         (FAILED, "no_stock", "nothing left", False, 1500))
        self.assertEqual((self.result(4)["outcome"], self.result(4)["error_code"], self.result(4)["retryable"]), (FAILED, "exception", True))
        self.assertEqual(self.result(5)["outcome"], RETURNED)
        self.give({**assignment(6), "input": b"{no json"})
        self.assertEqual(self.result(6)["error_code"], "bad_input")
        self.coordinator.wait("heartbeat", "Status", lambda fields: fields["running"] == 0)

    def test_a_result_is_sent_again_until_it_is_confirmed_and_running_tasks_outlive_their_connection(self):
        self.start()
        self.ready()
        self.give(assignment(1))
        self.give(assignment(2, task_type="wait"))
        self.result(1)
        self.coordinator.break_connection()
        self.coordinator.wait("a second session", "WorkerHello", count=2)
        refs = [{"task_id": uuid.UUID(int=number), "fencing_token": number} for number in (1, 2, 3)]
        self.coordinator.say("Reconcile", {"group": 1, "tasks": [wire.encode_fields(wire.TASK_REF, one) for one in refs]})
        reply = self.coordinator.wait("the reply", "ReconcileReply")[0]
        unknown = [wire.decode_fields("TaskRef", wire.TASK_REF, one) for one in reply["unknown"]]
        self.assertEqual([one["task_id"].int for one in unknown], [3], "the finished is sent again, of the running nothing is said")
        again = self.coordinator.wait("the result again", "TaskResult", lambda fields: fields["task_id"].int == 1, count=2)
        self.assertEqual(again[0]["output"], again[1]["output"])
        self.assertFalse(again[1]["renew_credit"], "its credit lapsed with the first session")
        self.release.set()
        self.assertEqual(self.result(2)["output"], b"false")

    def test_cancellation_and_the_end_of_the_time_are_told_to_the_handler(self):
        self.start()
        self.ready()
        self.give(assignment(1, task_type="heed"))
        self.coordinator.say("CancelTask", {"task_id": uuid.UUID(int=1), "fencing_token": 1})
        self.assertEqual(self.result(1)["error_code"], "interrupted")
        self.give(assignment(2, task_type="heed", timeout_ms=50))
        self.assertEqual((self.result(2)["error_code"], self.result(2)["retryable"]), ("timeout", True))

    def test_stop_returns_what_waits_and_lets_finish_what_runs(self):
        worker, thread = self.start()
        self.ready()
        for number in (1, 2, 3):
            self.give(assignment(number, task_type="wait"))
        self.coordinator.wait("all three", "Status", lambda fields: (fields["running"], fields["queued"]) == (2, 1))
        worker.stop()
        self.assertEqual(self.result(3)["outcome"], RETURNED)
        self.release.set()
        for number in (1, 2):
            self.assertEqual(self.result(number)["outcome"], COMPLETED)
        for number in (1, 2, 3):
            self.ack(assignment(number))
        thread.join(PATIENCE_S)
        self.assertFalse(thread.is_alive())

    def test_a_handler_that_does_not_end_costs_its_attempt_and_not_the_end(self):
        worker, thread = self.start(drain_deadline_s=0.1)
        self.ready()
        self.give(assignment(1, task_type="wait"))
        self.coordinator.wait("it runs", "Status", lambda fields: fields["running"] == 1)
        worker.stop()
        self.assertEqual(self.result(1)["error_code"], "worker_stopped")
        self.ack(assignment(1))
        thread.join(PATIENCE_S)
        self.assertFalse(thread.is_alive())

    def test_coordinators_are_learnt_from_one(self):
        other = Coordinator(node=uuid.UUID(int=NODE.int + 1), groups=[2])
        self.addCleanup(other.close)
        self.coordinator.coordinators = {str(NODE): self.coordinator.address, str(other.node): other.address}
        self.start()
        other.wait("the worker", "WorkerHello")
        # All room is with the first one: work that waits here makes the worker ask some of it back.
        self.ready()
        other.say("Backlog", {"group": 2, "ready": 1})
        self.coordinator.wait("the question", "Credit", lambda fields: fields["amount"] < 0)
        self.coordinator.say("CreditReturned", {"group": 1, "amount": 1})
        other.wait("credit for its group", "Credit", lambda fields: fields["group"] == 2)
        other.say("Assignment", assignment(9, group=2))
        self.assertEqual(other.wait("its result", "TaskResult")[0]["group"], 2)

    def test_two_addresses_of_one_node_are_one_session(self):
        self.start(self.coordinator.address, self.coordinator.address.replace("127.0.0.1", "localhost"))
        self.ready()
        time.sleep(0.3)
        self.assertEqual(self.coordinator.hellos, 1)

    def test_a_refusal_for_good_is_raised_and_one_that_passes_is_waited_out(self):
        transient = next(code for code, kind in errors.BY_CODE.items() if kind.transient)
        self.coordinator.refusal = {"code": transient, "name": errors.BY_CODE[transient].name, "reason": "later"}
        _, thread = self.start()
        time.sleep(0.3)
        self.assertTrue(thread.is_alive() and self.error is None)
        self.coordinator.refusal = {"code": errors.Unauthenticated.code, "name": "unauthenticated", "reason": "wrong key"}
        thread.join(PATIENCE_S)
        self.assertIsInstance(self.error, errors.Unauthenticated)

    def test_bad_options_are_refused_with_their_reason(self):
        for addresses, options, text in [([], {}, "address"), (["a:1"], {"slots": 0}, "slots"), (["a:1"], {"slots": 1 << 20}, "16384")]:
            with self.assertRaisesRegex(ValueError, text):
                Worker(addresses, **options)


if __name__ == "__main__":
    unittest.main()
