"""One task as its handler sees it: context in, output or failure out."""

import asyncio
import inspect
import json
import threading

from .desk import COMPLETED, FAILED

#: Largest output, bytes of JSON.
TASK_OUTPUT_BYTES_MAX = 1 << 20
#: Longest failure message that is sent, characters.
MESSAGE_CHARS_MAX = 1024


class TaskFailure(Exception):
    """Raised by a handler: why the attempt failed, and whether another one may help.

    `code` is a short stable name, `retry_after_s` the least wait before another attempt.
    """

    def __init__(self, code, message="", *, retryable=True, retry_after_s=None):
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.retryable, self.retry_after_s = code, message, retryable, retry_after_s


class TaskContext:
    """What a handler is told about its task, besides the input.

    `task_id`, `instance_id` (uuid.UUID), `namespace`, `workflow`, `workflow_version`, `task` (its id in the workflow), `task_type`,
    `attempt` (from 1), `fencing_token` (greater for every later assignment: lets a system outside turn away a late writer), `config` (templates
    filled in; {} where the task has none), `timeout_s` (None: no limit), `idempotency_key` (for effects outside: the same for all attempts), `traceparent` (or None).
    """

    def __init__(self, assignment):
        for name in ("task_id", "instance_id", "namespace", "workflow", "workflow_version", "task", "task_type", "attempt", "fencing_token",
                     "idempotency_key"):
            setattr(self, name, assignment[name])
        self.traceparent = assignment.get("traceparent")
        self.timeout_s = assignment["timeout_ms"] / 1000 or None
        self.config = None
        #: Whether its time is over.
        self.overdue = False
        self._stopped = threading.Event()

    @property
    def cancelled(self):
        """Whether the result will not count any more: the task is cancelled, its time is over, or the worker ends. A thread cannot be
        stopped from outside: a handler that takes long looks here, and returns or raises soon when it is true."""
        return self._stopped.is_set()

    def wait_cancelled(self, seconds):
        """Sleeps so long, less when the task is cancelled meanwhile. Returns `cancelled`."""
        return self._stopped.wait(seconds)


def _failed(code, message, retryable=True, retry_after_s=None):
    outcome = {"outcome": FAILED, "error_code": str(code)[:MESSAGE_CHARS_MAX], "error": str(message)[:MESSAGE_CHARS_MAX], "retryable": retryable}
    if retry_after_s is not None:
        outcome["retry_after_ms"] = max(0, int(retry_after_s * 1000))
    return outcome


def run(handler, context, assignment):
    """Calls a handler, plain or `async`. Returns the fields of a TaskResult that say how it ended; raises nothing."""
    try:
        document = json.loads(assignment["input"] or b"null")
        context.config = json.loads(assignment["config"] or b"null") or {}
    except ValueError as error:
        return _failed("bad_input", error, retryable=False)
    try:
        output = handler(context, document)
        if inspect.iscoroutine(output):
            output = asyncio.run(output)
        output = json.dumps(output, separators=(",", ":"), allow_nan=False).encode("utf-8")
    except TaskFailure as failure:
        return _failed(failure.code, failure.message, failure.retryable, failure.retry_after_s)
    except Exception as error:  # noqa: BLE001 - whatever a handler raises fails its attempt, never the worker
        return _failed("exception", f"{type(error).__name__}: {error}")
    if len(output) > TASK_OUTPUT_BYTES_MAX:
        return _failed("output_too_large", f"output of {len(output)} bytes exceeds task_output_bytes_max, {TASK_OUTPUT_BYTES_MAX}", retryable=False)
    return {"outcome": COMPLETED, "output": output}
