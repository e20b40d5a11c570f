"""One connection of a worker to one coordinator, opened again whenever it breaks. Never blocks but for the look-up of a name.

Stages: "waiting" until `wake_s`, then "connecting", "hello" (Hello is sent), "up" (WorkerHello is sent; frames go both ways).
What it hears goes to its `owner`: `on_reached(session, node) -> bool`, `on_up(session)`,
`on_down(session, error, was_up)`, `on_refused(error)`, `on_complaint(session, rejection)`, `on_frame(session, name, fields)`, and before a socket
is closed `on_closing(session)`.
"""

import errno
import random
import socket

from .. import wire
from ..errors import ConnectionLost, Rejected, from_fields

#: Waits between attempts to connect, seconds: the first, and the longest.
BACKOFF_S_MIN, BACKOFF_S_MAX = 0.05, 2.0
#: Longest wait for one connection and its welcome, seconds.
CONNECT_TIMEOUT_S = 5.0
#: Between two looks at an address whose node is reached by another session, seconds.
STAND_ASIDE_S = 5.0
#: After this long without a byte the coordinator is asked for a sign of life; after twice as long the connection is given up, seconds.
KEEPALIVE_S = 5.0
#: Most bytes that may wait for a slow coordinator before its connection is given up.
SEND_BYTES_MAX = 16 << 20
#: Message ids of the requests of a session.
HELLO_ID, WORKER_HELLO_ID, PING_ID = 1, 2, 3


class Session:
    """See the module. `hello` and `worker_hello` are the fields of those messages."""

    def __init__(self, number, address, owner, hello, worker_hello):
        self.number, self.address, self.stage, self.wake_s = number, address, "waiting", 0.0
        self.socket = None
        self._owner, self._hello, self._worker_hello = owner, hello, worker_hello
        self._attempt = 0
        self._frame_bytes_max = wire.FRAME_BYTES_MAX
        self._reset()

    def _reset(self):
        self._in, self._out = bytearray(), bytearray()
        self._heard_s = self._pinged_s = 0.0
        self._up_s, self._leave_s = 0.0, None
        self._frame_bytes_max = wire.FRAME_BYTES_MAX

    @property
    def wants_write(self):
        """Whether to call `on_writable` when the socket is."""
        return self.stage == "connecting" or bool(self._out)

    # ---- turns

    def on_time(self, now_s):
        """To be called often: opens the connection when it is due, and gives up one that is silent."""
        if self.stage == "waiting":
            if now_s >= self.wake_s:
                self._connect(now_s)
            return
        silence = now_s - self._heard_s
        if self.stage != "up":
            if silence > CONNECT_TIMEOUT_S:
                self._lost(now_s, "no welcome in time")
        elif silence > 2 * KEEPALIVE_S:
            self._lost(now_s, f"no sign of life for {silence:.0f} s")
        elif self._leave_s is not None and now_s >= self._leave_s:
            self._lost(now_s, "the coordinator is going away")
        elif silence > KEEPALIVE_S and now_s - self._pinged_s > KEEPALIVE_S:
            self._pinged_s = now_s
            self.send("Ping", {"token": 0}, PING_ID)

    def on_writable(self, now_s):
        """The socket takes bytes, or its connection has come about."""
        if self.stage == "connecting":
            error = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                self._lost(now_s, f"connect: {errno.errorcode.get(error, error)}")
                return
            self.stage = "hello"
            self.send("Hello", self._hello, HELLO_ID)
        try:
            while self._out:
                del self._out[:self.socket.send(self._out)]
        except (BlockingIOError, InterruptedError):
            pass
        except OSError as error:
            self._lost(now_s, f"write: {error}")

    def on_readable(self, now_s):
        """The socket has bytes."""
        try:
            data = self.socket.recv(1 << 18)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._lost(now_s, f"read: {error}")
            return
        if not data:
            self._lost(now_s, "the coordinator closed the connection")
            return
        self._heard_s = now_s
        self._in += data
        at = 0
        try:
            # Frames are cut out of the buffer first: the rest is moved once, not once for each.
            while self.socket is not None and (end := self._frame_end(at)) is not None:
                header, payload, _ = wire.parse(bytes(self._in[at:end]), self._frame_bytes_max)
                at = end
                name, fields = wire.decode_payload(header.message_type, payload)
                if name is not None:
                    self._on_message(now_s, name, fields, header.message_id)
        except Rejected as error:
            self._lost(now_s, f"sent what is no frame: {error}")
        del self._in[:at]

    def _frame_end(self, at):
        """Where the frame at `at` ends, or None while it is not whole. Raises BadFrame, UnsupportedVersion, TooLarge."""
        if len(self._in) - at < wire.HEADER.size:
            return None
        header = wire.parse_header(bytes(self._in[at:at + wire.HEADER.size]), self._frame_bytes_max)
        end = at + wire.HEADER.size + header.payload_bytes
        return end if end <= len(self._in) else None

    def _on_message(self, now_s, name, fields, message_id):
        if name == "Ping":
            self.send("Pong", {"token": fields["token"]}, message_id)
        elif name == "GoAway":
            self._leave_s = now_s + fields["grace_ms"] / 1000
        elif name == "Rejection":
            self._on_rejection(now_s, from_fields(fields, message_id))
        elif self.stage == "hello" and name == "Welcome":
            self._frame_bytes_max = fields["frame_bytes_max"]
            if not self._owner.on_reached(self, fields["node_id"]):
                self._close()
                self.stage, self.wake_s = "waiting", now_s + STAND_ASIDE_S
                return
            self.stage, self._up_s = "up", now_s
            self.send("WorkerHello", self._worker_hello, WORKER_HELLO_ID)
            self._owner.on_up(self)
        elif self.stage == "up":
            self._owner.on_frame(self, name, fields)

    def _on_rejection(self, now_s, rejection):
        if rejection.message_id not in (HELLO_ID, WORKER_HELLO_ID) and self.stage == "up":
            self._owner.on_complaint(self, rejection)
            return
        pause_s = (rejection.retry_after_ms or 0) / 1000
        self._lost(now_s, str(rejection), at_least_s=pause_s)
        if not rejection.transient:
            self._owner.on_refused(rejection)

    def send(self, name, fields, message_id=0):
        """Queues a frame."""
        if self.socket is not None:
            self._out += wire.encode_frame(name, fields, message_id)

    def overflows(self, now_s):
        """Gives the connection up when too much waits for it. Returns whether it did."""
        if len(self._out) > SEND_BYTES_MAX:
            self._lost(now_s, f"the coordinator does not take what is sent: more than {SEND_BYTES_MAX} bytes wait")
            return True
        return False

    # ---- connection

    def _connect(self, now_s):
        host, _, port = self.address.rpartition(":")
        self._heard_s = now_s
        try:
            choices = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
            family, kind, protocol, _, where = choices[self._attempt % len(choices)]
            self.socket = socket.socket(family, kind, protocol)
            self.socket.setblocking(False)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.stage = "connecting"
            code = self.socket.connect_ex(where)
            if code not in (0, errno.EINPROGRESS):
                raise OSError(code, errno.errorcode.get(code, str(code)))
        except (OSError, ValueError) as error:
            self._lost(now_s, f"connect: {error}")

    def _lost(self, now_s, why, at_least_s=0.0):
        was_up = self.stage == "up"
        if was_up and now_s - self._up_s > BACKOFF_S_MAX:
            self._attempt = 0
        self._close()
        bound = min(BACKOFF_S_MAX, BACKOFF_S_MIN * 2 ** min(self._attempt, 16))
        self._attempt += 1
        self.stage, self.wake_s = "waiting", now_s + max(bound * random.uniform(0.5, 1.0), at_least_s)
        self._owner.on_down(self, ConnectionLost(f"{self.address}: {why}"), was_up)

    def _close(self):
        if self.socket is not None:
            self._owner.on_closing(self)
            self.socket.close()
        self.socket = None
        self._reset()

    def end(self):
        """Closes the connection for good."""
        self._close()
