"""A small blocking client: one connection, pipelining inside a batch only, resends what may be resent."""

import json
import random
import socket
import time
import uuid

from . import wire
from .errors import BadMessage, ConnectionLost, OutcomeUnknown, Rejected, WrongLeader, from_fields

QUERY_KINDS = {name: number for number, name in enumerate(
    ["message", "instance", "task", "tasks", "instances", "rules", "rule", "workflow_definitions", "workflow_definition",
     "cluster_status", "nodes", "health", "catalog_history", "why_task", "workers", "why_instance", "incidents", "incident", "schedules"], start=1)}
COMMAND_KINDS = {name: number for number, name in enumerate(
    ["start_workflow", "start_task", "apply_catalog", "put_rule", "delete_rule", "put_workflow", "delete_workflow",
     "cancel_instance", "drain_worker", "undrain_worker", "signal", "pause_instance", "resume_instance",
     "retry_instance"], start=1)}
OUTCOMES = {1: "accepted", 2: "repeat", 3: "unmatched"}
#: Longest pause between two attempts, seconds.
PAUSE_S_MAX = 5.0


class Receipt:
    """What became of an accepted message."""

    def __init__(self, fields):
        self.outcome = OUTCOMES.get(fields["outcome"], str(fields["outcome"]))
        self.message_id = fields["message_id"]
        self.catalog_version = fields["catalog_version"]
        self.rules = fields["rules"]
        self.workflows = fields["workflows"]
        self.instances = fields["instances"]

    def __repr__(self):
        return f"Receipt({self.outcome}, {self.message_id}, workflows={self.workflows})"


class Reply:
    """The answer to a query or a command."""

    def __init__(self, fields):
        self.content_type = fields["content_type"]
        self.body = fields["body"]
        self.next_cursor = fields.get("next_cursor")
        self.version = fields.get("version")

    def json(self):
        """The document in the body."""
        return json.loads(self.body)


class Client:
    """A connection to one node, opened again when it breaks.

    `address` is "host:port". `timeout_s` is for each answer, `attempts` for each request that may be sent again.
    Not safe for use by several threads at once.
    """

    def __init__(self, address, *, name="distric-python", version="0.1.0", api_key=None, namespace=None, timeout_s=10.0, attempts=8):
        self.address = address
        self.name = name
        self.version = version
        self.api_key = api_key
        self.namespace = namespace
        self.timeout_s = timeout_s
        self.attempts = attempts
        self.welcome = None
        self._socket = None
        self._buffer = b""
        self._next_id = 1
        self._leaving = False

    def __enter__(self):
        self.connect()
        return self

    def __exit__(self, *_):
        self.close()

    # ---- connection

    def connect(self):
        """Opens the connection and says Hello. Raises Rejected and ConnectionLost."""
        self.close()
        host, _, port = self.address.rpartition(":")
        try:
            self._socket = socket.create_connection((host.strip("[]"), int(port)), timeout=self.timeout_s)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            raise ConnectionLost(f"{self.address}: {error}") from error
        hello = {"version_min": wire.VERSION, "version_max": wire.VERSION, "client_name": self.name, "client_version": self.version,
                 "api_key": self.api_key}
        name, fields = self._exchange("Hello", hello)
        if name != "Welcome":
            raise BadMessage(f"Hello was answered by {name}")
        self.welcome = fields
        return fields

    def close(self):
        """Closes the connection, if it is open."""
        if self._socket is not None:
            self._socket.close()
        self._socket, self._buffer, self._leaving, self.welcome = None, b"", False, None

    def _frame_bytes_max(self):
        return self.welcome["frame_bytes_max"] if self.welcome else wire.FRAME_BYTES_MAX

    def _send(self, frame):
        try:
            self._socket.sendall(frame)
        except OSError as error:
            self.close()
            raise ConnectionLost(f"{self.address}: {error}") from error

    def _receive(self, deadline):
        """The next frame: (message id, name, fields). Passes over types that are not known here."""
        while True:
            try:
                whole = wire.parse(self._buffer, self._frame_bytes_max())
            except Rejected as error:
                self.close()
                raise ConnectionLost(f"{self.address} sent what is no frame: {error}") from error
            if whole is not None:
                header, payload, end = whole
                self._buffer = self._buffer[end:]
                name, fields = wire.decode_payload(header.message_type, payload)
                if name is not None:
                    return header.message_id, name, fields
                continue
            left = deadline - time.monotonic()
            try:
                if left <= 0:
                    raise TimeoutError("no answer in time")
                self._socket.settimeout(left)
                data = self._socket.recv(1 << 16)
            except OSError as error:
                self.close()
                raise ConnectionLost(f"{self.address}: {error}") from error
            if not data:
                self.close()
                raise ConnectionLost(f"{self.address} closed the connection")
            self._buffer += data

    def _exchange(self, name, fields):
        """Sends a request and waits for its answer: (name, fields). Raises the Rejection that it may be."""
        message_id, self._next_id = self._next_id, self._next_id + 1
        payload = wire.encode_payload(name, fields)
        self._send(wire.seal(wire.MESSAGES[name][0], payload, message_id))
        deadline = time.monotonic() + self.timeout_s
        while True:
            answer_id, answer, answer_fields = self._receive(deadline)
            if answer == "Ping":
                self._send(wire.encode_frame("Pong", {"token": answer_fields["token"]}, answer_id))
            elif answer == "GoAway":
                self._leaving = True
            elif answer == "Rejection" and answer_id in (message_id, 0):
                raise from_fields(answer_fields, answer_id)
            elif answer_id == message_id:
                return answer, answer_fields

    def _request(self, name, fields, expected, *, resend_flag=False, repeatable=True):
        """As _exchange, over and over while that helps and is safe."""
        fields = dict(fields)
        for attempt in range(1, self.attempts + 1):
            try:
                if self._socket is None or self._leaving:
                    self.connect()
                answer, answer_fields = self._exchange(name, fields)
                if answer != expected:
                    raise BadMessage(f"{name} was answered by {answer}")
                return answer_fields
            except ConnectionLost:
                if attempt == self.attempts or not repeatable:
                    raise
                pause, unknown = None, True
            except Rejected as error:
                unknown = isinstance(error, OutcomeUnknown)
                if attempt == self.attempts or not error.transient or (unknown and not repeatable):
                    raise
                pause = error.retry_after_ms
                if isinstance(error, WrongLeader) and error.leader_address:
                    self.close()
                    self.address = error.leader_address
            if resend_flag and unknown:
                fields["resend"] = True
            backoff = min(PAUSE_S_MAX, 0.05 * 2 ** attempt) * random.uniform(0.5, 1.0)
            time.sleep(backoff if pause is None else max(pause / 1000, 0.01))
        raise AssertionError("the last attempt returns or raises")

    # ---- requests

    def ping(self):
        """Round-trip time in seconds."""
        if self._socket is None:
            self.connect()
        token = random.getrandbits(64)
        started = time.monotonic()
        name, fields = self._exchange("Ping", {"token": token})
        if name != "Pong" or fields["token"] != token:
            raise BadMessage(f"Ping was answered by {name} {fields}")
        return time.monotonic() - started

    def submission(self, payload, **fields):
        """The fields of a Submit. `payload` is bytes, or anything that json takes; a random key is made where none is given."""
        if not isinstance(payload, (bytes, bytearray)):
            payload = json.dumps(payload, separators=(",", ":")).encode("utf-8")
        fields.setdefault("idempotency_key", str(uuid.uuid4()))
        if self.namespace is not None:
            fields.setdefault("namespace", self.namespace)
        return {"payload": payload, **fields}

    def submit(self, payload, **fields):
        """Sends one message, such as submit({"total": 12}, event_type="order.created"). Returns a Receipt. Raises Rejected."""
        return Receipt(self._request("Submit", self.submission(payload, **fields), "Response", resend_flag=True))

    def submit_batch(self, submissions):
        """Sends many messages, each as made by `submission`, in one frame. Returns a list with a Receipt or a Rejected for each."""
        submissions = [dict(one) for one in submissions]
        for attempt in range(1, self.attempts + 1):
            messages = [wire.encode_payload("Submit", one) for one in submissions]
            try:
                answer = self._request("SubmitBatch", {"messages": messages}, "BatchResponse", repeatable=False)
            except (ConnectionLost, OutcomeUnknown):
                if attempt == self.attempts:
                    raise
                for one in submissions:
                    one["resend"] = True
                time.sleep(min(PAUSE_S_MAX, 0.05 * 2 ** attempt))
                continue
            return [self._batch_item(item) for item in answer["items"]]
        raise AssertionError("the last attempt returns or raises")

    @staticmethod
    def _batch_item(item):
        item = wire.decode_fields("BatchItem", wire.BATCH_ITEM, item)
        if "rejection" in item:
            return from_fields(wire.decode_fields("Rejection", wire.MESSAGES["Rejection"][1], item["rejection"]))
        if "response" in item:
            return Receipt(wire.decode_fields("Response", wire.MESSAGES["Response"][1], item["response"]))
        raise BadMessage("BatchItem: has neither response nor rejection")

    def query(self, kind, **fields):
        """Asks, such as query("instance", id=...). Returns a Reply. Raises Rejected."""
        if self.namespace is not None:
            fields.setdefault("namespace", self.namespace)
        return Reply(self._request("Query", {"kind": QUERY_KINDS.get(kind, kind), **fields}, "QueryReply"))

    def command(self, kind, **fields):
        """Changes something, such as command("start_workflow", name="w", body=b"{}"). Returns a Reply. Raises Rejected."""
        if self.namespace is not None:
            fields.setdefault("namespace", self.namespace)
        starts = kind in ("start_workflow", "start_task", "signal")
        if starts:
            fields.setdefault("idempotency_key", str(uuid.uuid4()))
        return Reply(self._request("Command", {"kind": COMMAND_KINDS.get(kind, kind), **fields}, "QueryReply", repeatable=starts))
