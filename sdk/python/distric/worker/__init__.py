"""A worker: runs the tasks that coordinators assign to it. Written from the chapter "Workers" of docs/protocol.md, standard library only.

`desk` is the pure machine that knows what is in hand and what was promised to whom; `ledger` is its credits; `roster` knows which coordinators
there are; a `session` is one connection; `task` calls a handler; this module is the loop that brings them together.
"""

import collections
import heapq
import logging
import os
import selectors
import signal
import socket
import threading
import time
import uuid

from .. import wire
from . import task
from .desk import FAILED, Desk, key_of
from .roster import Roster
from .session import Session
from .task import TaskContext, TaskFailure

__all__ = ["TaskContext", "TaskFailure", "Worker"]

#: Most slots and prefetch together that one worker offers.
WORKER_CREDITS_MAX = 16384
#: How often coordinators hear from this worker, seconds.
HEARTBEAT_S = 1.0
#: Longest sleep of the loop, seconds: how late a keepalive or a reconnect may be.
TURN_S_MAX = 0.25
#: How long a worker that has finished waits for its last results to be confirmed, seconds.
CONFIRM_WAIT_S = 2.0
#: Deadlines kept before those of finished tasks are thrown away; twice what can run at once.
DEADLINES_MAX = 2 * WORKER_CREDITS_MAX

_log = logging.getLogger("distric.worker")


def _uuid7():
    """A UUIDv7 of now (RFC 9562, section 5.7)."""
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10), "big")
    return uuid.UUID(int=value & ~(0xF000 << 64) & ~(0xC000 << 48) | 0x7000 << 64 | 0x8000 << 48)


class Worker:
    """A worker for the cluster of the coordinators at `addresses` ("host:port"); it learns of the others from them.

    `slots` tasks run at once, each in a thread of its own; `prefetch` more wait here, so that a slot is never idle for a round trip. `labels` is what
    placement may ask for. `worker_id` (uuid.UUID) is made once when not given. After `stop`, running tasks have `drain_deadline_s`.
    """

    def __init__(self, addresses, *, name="python-worker", slots=4, prefetch=4, labels=None, api_key=None, worker_id=None, drain_deadline_s=30.0):
        self._addresses = [addresses] if isinstance(addresses, str) else list(addresses)
        if not self._addresses:
            raise ValueError("a worker needs the address of a coordinator, as host:port")
        if slots < 1 or prefetch < 0 or slots + prefetch > WORKER_CREDITS_MAX:
            raise ValueError(f"slots must be at least 1, and slots and prefetch together at most {WORKER_CREDITS_MAX}")
        self.name, self.slots, self.prefetch, self.labels = name, slots, prefetch, dict(labels or {})
        self.worker_id = worker_id or _uuid7()
        self._api_key = api_key
        self._drain_deadline_s = drain_deadline_s
        self._handlers = {}
        self._stopping = False
        self._finished = collections.deque()  # (key, outcome) from the threads of tasks; at most one for each slot
        self._waker, self._wakened = socket.socketpair()
        self._waker.setblocking(False)
        self._wakened.setblocking(False)

    def task(self, task_type):
        """Offers a type of task: `@worker.task("resize")` above a function of (context, input) that returns what json takes, plain or `async`.

        An exception fails the attempt: `TaskFailure` as it says, any other with the code `exception`, to be tried again. The worker lives on.
        """

        def register(handler):
            self._handlers[task_type] = handler
            return handler

        return register

    def stop(self):
        """Ends `run` soon: takes nothing more, returns what has not started, lets running tasks finish. From any thread, or a signal handler."""
        self._stopping = True
        self._wake()

    def _wake(self):
        try:
            self._waker.send(b"\0")
        except OSError:
            pass  # it is being woken already, or has ended

    def run(self, *, signals=True):
        """Runs until `stop`, or until SIGTERM or SIGINT where this is the main thread and `signals` is true. Once for each worker.

        Raises Rejected when a coordinator refuses this worker for good.
        """
        previous = {}
        if signals and threading.current_thread() is threading.main_thread():
            previous = {number: signal.signal(number, lambda *_: self.stop()) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            with selectors.DefaultSelector() as selector:
                _Shift(self, selector).run()
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
            self._waker.close()
            self._wakened.close()


class _Shift:
    """One run of a worker: everything here happens in the thread that called `run`, except `_work`."""

    def __init__(self, worker, selector):
        self._worker, self._selector = worker, selector
        self._desk = Desk(worker.slots, worker.prefetch)
        self._roster = Roster(worker._addresses)
        self._sessions = {}
        self._contexts = {}
        self._deadlines = []  # heap of (when, key)
        self._refusal = None
        self._failures = {}  # session: why it is down, as it was said
        self._hello = {"version_min": wire.VERSION, "version_max": wire.VERSION, "client_name": worker.name, "client_version": "0.1.0",
                       "api_key": worker._api_key}
        self._worker_hello = {"worker_id": worker.worker_id, "generation": time.time_ns() // 1000, "name": worker.name, "slots": worker.slots,
                              "prefetch": worker.prefetch, "task_types": sorted(worker._handlers), "labels": worker.labels}
        selector.register(worker._wakened, selectors.EVENT_READ, None)

    def run(self):
        heartbeat_s = drain_until_s = confirm_until_s = None
        try:
            while True:
                now_s = self._turn()
                if self._worker._stopping and drain_until_s is None:
                    self._desk.stop()
                    drain_until_s = now_s + self._worker._drain_deadline_s
                if heartbeat_s is None or now_s >= heartbeat_s:
                    heartbeat_s = now_s + HEARTBEAT_S
                    self._desk.on_tick([number for number, session in self._sessions.items() if session.stage == "up"])
                if drain_until_s is not None and confirm_until_s is None:
                    if now_s >= drain_until_s:
                        self._desk.stop_running()
                        stopped = {"outcome": FAILED, "error_code": "worker_stopped", "error": "the worker ended before the task did", "retryable": True}
                        self._desk.abandon(stopped)
                    if self._desk.running == 0:
                        confirm_until_s = now_s + CONFIRM_WAIT_S
                self._flush(now_s)
                if confirm_until_s is not None and (self._desk.unconfirmed == 0 or now_s >= confirm_until_s):
                    return
                self._wait()
        finally:
            for session in self._sessions.values():
                session.end()

    def _turn(self):
        """What time brings: deadlines, reconnects, handlers that ended. Raises the refusal, if there was one."""
        now_s = self._desk.now_s = time.monotonic()
        if self._refusal is not None:
            raise self._refusal
        while self._worker._finished:
            key, outcome = self._worker._finished.popleft()
            context = self._contexts.pop(key, None)
            if context is not None and context.overdue and outcome["outcome"] == FAILED:
                outcome = {"outcome": FAILED, "error_code": "timeout", "error": f"not done within {context.timeout_s} s", "retryable": True}
            self._desk.on_finished(key, outcome)
        while self._deadlines and self._deadlines[0][0] <= now_s:
            context = self._contexts.get(heapq.heappop(self._deadlines)[1])
            if context is not None:
                context.overdue = True
                context._stopped.set()
        for change in self._roster.take_changes():
            if change[0] == "open":
                self._sessions[change[1]] = Session(change[1], change[2], self, self._hello, self._worker_hello)
            else:
                self._sessions.pop(change[1]).end()
                self._failures.pop(change[1], None)
        for session in list(self._sessions.values()):
            session.on_time(now_s)
        return now_s

    def _flush(self, now_s):
        """Carries out what the desk wants done."""
        starts, self._desk.starts = self._desk.starts, []
        for assignment in starts:
            self._start(now_s, assignment)
        stops, self._desk.stops = self._desk.stops, []
        for key in stops:
            if key in self._contexts:
                self._contexts[key]._stopped.set()
        frames, self._desk.frames = self._desk.frames, []
        for number, name, fields in frames:
            if name == "ReconcileReply":
                fields = {**fields, "unknown": [wire.encode_fields(wire.TASK_REF, one) for one in fields["unknown"]]}
            session = self._sessions.get(number)
            if session is not None and session.stage == "up":
                session.send(name, fields)
        for session in self._sessions.values():
            # Most sockets take all of it at once, which saves a turn.
            if session.wants_write and session.stage in ("hello", "up") and not session.overflows(now_s):
                session.on_writable(now_s)

    def _wait(self):
        """Sleeps until something happens, TURN_S_MAX at most."""
        for session in self._sessions.values():
            if session.socket is None:
                continue
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if session.wants_write else 0)
            try:
                registered = self._selector.get_key(session.socket)
            except KeyError:
                self._selector.register(session.socket, events, session)
            else:
                if registered.events != events:
                    self._selector.modify(session.socket, events, session)
        pending = bool(self._worker._finished or self._desk.frames or self._desk.starts)
        ready = self._selector.select(0 if pending else TURN_S_MAX)
        now_s = self._desk.now_s = time.monotonic()
        for registered, events in ready:
            session = registered.data
            if session is None:
                self._drain_wakener()
                continue
            if events & selectors.EVENT_WRITE and session.socket is registered.fileobj:
                session.on_writable(now_s)
            if events & selectors.EVENT_READ and session.socket is registered.fileobj:
                session.on_readable(now_s)

    def _drain_wakener(self):
        try:
            while self._worker._wakened.recv(4096):
                pass
        except (BlockingIOError, InterruptedError):
            pass

    def _start(self, now_s, assignment):
        key = key_of(assignment)
        context = self._contexts[key] = TaskContext(assignment)
        if context.timeout_s is not None:
            heapq.heappush(self._deadlines, (now_s + context.timeout_s, key))
            if len(self._deadlines) > DEADLINES_MAX:
                # Those of tasks that are done: they would stay until they are due.
                self._deadlines = [one for one in self._deadlines if one[1] in self._contexts]
                heapq.heapify(self._deadlines)
        # A thread for each task: one that hangs holds its slot, and never the end of the process.
        threading.Thread(target=self._work, args=(key, context, assignment), name=f"task-{assignment['task']}", daemon=True).start()

    def _work(self, key, context, assignment):
        outcome = task.run(self._worker._handlers[assignment["task_type"]], context, assignment)
        self._worker._finished.append((key, outcome))
        self._worker._wake()

    # ---- what sessions tell

    def on_reached(self, session, node):
        return self._roster.on_reached(session.number, node)

    def on_up(self, session):
        self._failures.pop(session.number, None)
        _log.info("session with %s", session.address)

    def on_closing(self, session):
        try:
            self._selector.unregister(session.socket)
        except KeyError:
            pass  # it was not waited for yet

    def on_down(self, session, error, was_up):
        # An address that stays down for the same reason is spoken of once.
        if was_up or self._failures.get(session.number) != str(error):
            self._failures[session.number] = str(error)
            _log.warning("no session: %s", error)
        if was_up:
            self._desk.on_down(session.number)
        self._roster.on_down(session.number)

    def on_refused(self, rejection):
        self._refusal = rejection

    def on_complaint(self, session, rejection):
        _log.warning("%s refused a frame: %s", session.address, rejection)

    def on_frame(self, session, name, fields):
        desk = self._desk
        if name == "Assignment":
            desk.on_assignment(fields, fields["task_type"] in self._worker._handlers)
        elif name == "ResultAck":
            desk.on_result_ack(key_of(fields))
        elif name == "CreditReturned":
            desk.on_credit_returned(fields["group"], fields["amount"])
        elif name == "Backlog":
            desk.on_backlog(fields["group"], fields["ready"])
        elif name == "Reconcile":
            desk.on_reconcile(session.number, fields["group"], [wire.decode_fields("TaskRef", wire.TASK_REF, one) for one in fields["tasks"]])
        elif name == "CancelTask":
            desk.on_cancel(key_of(fields))
        elif name == "Drain":
            desk.on_drain(fields["drain"])
        elif name == "WorkerWelcome":
            desk.on_groups(session.number, fields["groups"], fields.get("terms") or ())
            coordinators = {}
            for node, address in fields.get("coordinators", {}).items():
                try:
                    coordinators[uuid.UUID(node)] = address
                except ValueError:
                    continue  # no node's id: of a later version, and left to it
            self._roster.on_coordinators(coordinators)
