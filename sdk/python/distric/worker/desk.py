"""What a worker has in hand, what it has finished, and what it says to whom. Pure: no sockets, no clock, no threads.

At most `slots` tasks run at once. A result is kept until a leader says what became of it, or until its bound is reached.
The caller sets `now_s` (any monotonic clock) before each call, and takes `frames`, `starts` and `stops` after it.
"""

from collections import deque

from .ledger import Ledger

#: Most results kept for confirmation; beyond it the oldest is forgotten, and its task runs again.
RESULTS_KEPT_MAX = 4096
#: Most bytes of outputs kept for confirmation, as above; the newest is always kept.
RESULTS_KEPT_BYTES_MAX = 64 << 20
#: How long until an unconfirmed result is sent again on the same session, seconds.
RESULT_RESEND_S = 5.0
#: How long a new leader has to reconcile before unconfirmed results are sent unasked, seconds.
RECONCILE_WAIT_S = 1.0

COMPLETED, FAILED, RETURNED = 1, 2, 3


def key_of(fields):
    """What names a task in hand: its id and the token of the assignment, because two attempts at one task may overlap here."""
    return fields["task_id"], fields["fencing_token"]


class _InHand:
    __slots__ = ("group", "attempt", "current", "running")

    def __init__(self, group, attempt):
        self.group, self.attempt = group, attempt
        self.current = True  # the session on which it came still lives: its credit can go back with the result
        self.running = False


class _Kept:
    __slots__ = ("fields", "renewed", "due_s", "size")

    def __init__(self, fields, renewed):
        self.fields, self.renewed, self.due_s = fields, renewed, 0.0
        self.size = len(fields.get("output") or b"") + len(fields.get("error") or "")


class Desk:
    """See the module."""

    def __init__(self, slots, prefetch):
        self.now_s = 0.0
        #: (session, message, fields) to send, in order.
        self.frames = []
        #: Assignments to start.
        self.starts = []
        #: Keys of tasks to stop; each is reported as finished nevertheless.
        self.stops = []
        self.running = 0
        self._slots = slots
        self._in_hand_max = 2 * (slots + prefetch)
        self._ledger = Ledger(slots + prefetch)
        self._in_hand = {}
        self._queued = deque()
        self._kept = {}  # in order of arrival
        self._kept_bytes = 0
        self._drained_by_leader = False
        self._stopping = False

    @property
    def unconfirmed(self):
        """Results that no leader has confirmed."""
        return len(self._kept)

    @property
    def draining(self):
        """Whether this worker takes no more."""
        return self._drained_by_leader or self._stopping

    # ---- what sessions report

    def on_groups(self, session, groups, terms=()):
        """The leaders of exactly these groups answer on this session now."""
        self._part_from(self._ledger.attach(session, groups, terms))
        self._settle()

    def on_down(self, session):
        """A session is gone."""
        self._part_from(self._ledger.detach(session))
        self.frames = [frame for frame in self.frames if frame[0] != session]
        self._settle()

    def _part_from(self, groups):
        for task in self._in_hand.values():
            if task.group in groups:
                task.current = False
        for kept in self._kept.values():
            if kept.fields["group"] in groups:
                kept.due_s = self.now_s + RECONCILE_WAIT_S
                if kept.renewed:
                    kept.renewed = False
                    self._ledger.unrenewed()

    def on_assignment(self, assignment, offered):
        """A leader assigned a task; `offered` says whether there is a handler for its type."""
        key = key_of(assignment)
        if key in self._in_hand:
            return  # dispatched again under the same token, which uses no further credit
        if key in self._kept:
            self._send_kept(key)
            return
        self._ledger.task_came(assignment["group"])
        # An older attempt at the same task that still runs here is of no use any more.
        self.stops += [other for other, task in self._in_hand.items() if other[0] == key[0] and other[1] < key[1] and task.running]
        self._in_hand[key] = _InHand(assignment["group"], assignment["attempt"])
        if self.draining:
            self._finish(key, {"outcome": RETURNED, "error": "the worker is draining"})
        elif not offered:
            self._finish(key, {"outcome": RETURNED, "error": f"the worker has no handler for {assignment['task_type']!r}"})
        elif len(self._in_hand) > self._in_hand_max:
            self._finish(key, {"outcome": RETURNED, "error": f"the worker has {self._in_hand_max} tasks in hand already"})
        else:
            self._queued.append(assignment)
        self._start_queued()
        self._settle()

    def on_cancel(self, key):
        """A leader wants an attempt stopped. It is reported on nevertheless: its credit is in use until then."""
        task = self._in_hand.get(key)
        if task is None:
            return
        if task.running:
            self.stops.append(key)
            return
        self._queued = deque(one for one in self._queued if key_of(one) != key)
        self._finish(key, {"outcome": RETURNED, "error": "cancelled before it started"})
        self._settle()

    def on_result_ack(self, key):
        """A leader says what became of a result; whatever the verdict, it will not look again."""
        self._forget(key)
        self._settle()

    def on_credit_returned(self, group, amount):
        """A leader gave credit back."""
        self._ledger.returned(group, amount)
        self._settle()

    def on_backlog(self, group, ready):
        """A leader reported work that waits."""
        self._ledger.backlog(group, ready)
        self._settle()

    def on_reconcile(self, session, group, tasks):
        """A leader says which tasks it believes to be here: finished ones are reported again, of running ones nothing is said, the others are unknown."""
        unknown = []
        for task in tasks:
            if key_of(task) in self._kept:
                self._send_kept(key_of(task))
            elif key_of(task) not in self._in_hand:
                unknown.append(task)
        self.frames.append((session, "ReconcileReply", {"group": group, "unknown": unknown}))

    def on_drain(self, drain):
        """A leader drains this worker, or ends that."""
        self._drained_by_leader = drain
        self._drain()

    # ---- what the worker itself reports

    def on_finished(self, key, outcome):
        """A handler ended; `outcome` has the fields of a TaskResult that say how."""
        task = self._in_hand.get(key)
        if task is not None and task.running:
            self.running -= 1
            self._finish(key, outcome)
            self._start_queued()
            self._settle()

    def stop(self):
        """The process is about to end: takes no more, returns what has not started."""
        self._stopping = True
        self._drain()

    def stop_running(self):
        """The drain's deadline has passed."""
        self.stops += [key for key, task in self._in_hand.items() if task.running]

    def abandon(self, outcome):
        """Reports what still runs as ended in this way, because the process does not wait for it any longer."""
        for key in [key for key, task in self._in_hand.items() if task.running]:
            self.on_finished(key, outcome)

    def on_tick(self, sessions):
        """The heartbeat: tells the sessions how things are, and sends again what was not confirmed in time."""
        self._ledger.forget_questions()
        status = {"running": self.running, "queued": len(self._queued), "draining": self.draining}
        self.frames += [(session, "Status", status) for session in sessions]
        for key in [key for key, kept in self._kept.items() if kept.due_s <= self.now_s]:
            self._send_kept(key)
        self._settle()

    # ---- inside

    def _drain(self):
        self._ledger.draining = self.draining
        if self.draining:
            queued, self._queued = self._queued, deque()
            for assignment in queued:
                self._finish(key_of(assignment), {"outcome": RETURNED, "error": "the worker is draining"})
        self._settle()

    def _start_queued(self):
        while self.running < self._slots and self._queued:
            assignment = self._queued.popleft()
            self._in_hand[key_of(assignment)].running = True
            self.running += 1
            self.starts.append(assignment)

    def _finish(self, key, outcome):
        task = self._in_hand.pop(key)
        # On a later session than the one it came on, the leader may have taken the lease away: credit left with such a result would be lost.
        renewed = task.current and len(self._kept) < RESULTS_KEPT_MAX // 2 and self._ledger.renews(task.group)
        self._ledger.task_left(task.group)
        if renewed:
            self._ledger.renewed(task.group)
        result = {"group": task.group, "task_id": key[0], "attempt": task.attempt, "fencing_token": key[1], **outcome}
        self._kept[key] = _Kept(result, renewed)
        self._kept_bytes += self._kept[key].size
        self._send_kept(key)
        while len(self._kept) > RESULTS_KEPT_MAX or (self._kept_bytes > RESULTS_KEPT_BYTES_MAX and len(self._kept) > 1):
            self._forget(next(iter(self._kept)))

    def _send_kept(self, key):
        kept = self._kept[key]
        session = self._ledger.session_of(kept.fields["group"])
        if session is not None:
            kept.due_s = self.now_s + RESULT_RESEND_S
            self.frames.append((session, "TaskResult", {**kept.fields, "renew_credit": kept.renewed}))

    def _forget(self, key):
        kept = self._kept.pop(key, None)
        if kept is not None:
            self._kept_bytes -= kept.size
            if not kept.renewed:
                self._ledger.settled()

    def _settle(self):
        for group, amount in self._ledger.settle().items():
            self.frames.append((self._ledger.session_of(group), "Credit", {"group": group, "amount": amount}))
