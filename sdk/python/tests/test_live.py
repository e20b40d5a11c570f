"""Against a running node: DISTRIC_ADDR=host:port. Starts nothing itself; without the variable everything is skipped.

DISTRIC_EVENT_TYPE and DISTRIC_PAYLOAD (JSON) name a message that some rule of the node matches, so that a workflow starts;
without them a message of type "python.probe" is sent and the part about the workflow only runs if a rule matches it.
"""

import json
import os
import pathlib
import socket
import struct
import sys
import time
import unittest
import uuid

HERE = pathlib.Path(__file__).resolve()
sys.path.insert(0, str(HERE.parents[1]))

from distric import Client, Receipt, errors, wire  # noqa: E402

ADDRESS = os.environ.get("DISTRIC_ADDR")
EVENT_TYPE = os.environ.get("DISTRIC_EVENT_TYPE", "python.probe")
PAYLOAD = json.loads(os.environ.get("DISTRIC_PAYLOAD", '{"probe": true}'))
#: How long a workflow may take to show, seconds.
PATIENCE_S = 20.0

if not ADDRESS:
    print("SKIPPED: tests/test_live.py needs DISTRIC_ADDR=host:port of a running node", file=sys.stderr)


@unittest.skipUnless(ADDRESS, "needs DISTRIC_ADDR=host:port of a running node")
class Live(unittest.TestCase):
    def setUp(self):
        self.client = Client(ADDRESS, name="distric-python-tests")
        self.client.connect()
        self.addCleanup(self.client.close)

    def test_welcome_and_ping(self):
        self.assertEqual(self.client.welcome["version"], 1)
        self.assertGreaterEqual(self.client.welcome["frames_in_flight_max"], 1)
        self.assertLess(self.client.ping(), 5)

    def test_submit_is_idempotent_by_key(self):
        key = str(uuid.uuid4())
        first = self.client.submit(PAYLOAD, event_type=EVENT_TYPE, idempotency_key=key)
        again = self.client.submit(PAYLOAD, event_type=EVENT_TYPE, idempotency_key=key, resend=True)
        self.assertEqual(first.outcome, "accepted")
        self.assertEqual((again.outcome, again.message_id, again.instances), ("repeat", first.message_id, first.instances))
        with self.assertRaises(errors.IdempotencyConflict) as caught:
            self.client.submit({"another": "payload"}, event_type=EVENT_TYPE, idempotency_key=key)
        self.assertEqual(caught.exception.code, 16)

    def test_a_batch_has_an_outcome_for_each(self):
        good = self.client.submission(PAYLOAD, event_type=EVENT_TYPE)
        bad = self.client.submission(b"{not json", event_type=EVENT_TYPE)
        outcomes = self.client.submit_batch([good, bad, good])
        self.assertEqual(len(outcomes), 3)
        self.assertIsInstance(outcomes[0], Receipt)
        self.assertIsInstance(outcomes[1], errors.Rejected)
        self.assertEqual(outcomes[1].name, "bad_payload")
        self.assertIsInstance(outcomes[2], Receipt)
        self.assertEqual(outcomes[2].message_id, outcomes[0].message_id)

    def test_the_message_shows_its_workflow_and_the_workflow_ends(self):
        receipt = self.client.submit(PAYLOAD, event_type=EVENT_TYPE)
        shown = self.client.query("message", id=receipt.message_id).json()
        self.assertEqual(shown["message_id"], str(receipt.message_id))
        if not receipt.instances:
            self.skipTest(f"no rule of the node matches {EVENT_TYPE}; set DISTRIC_EVENT_TYPE and DISTRIC_PAYLOAD")
        self.assertEqual({one["workflow"] for one in shown["instances"]}, set(receipt.workflows))
        deadline = time.monotonic() + PATIENCE_S
        while True:
            instance = self.client.query("instance", id=receipt.instances[0]).json()
            self.assertEqual(instance["workflow"], receipt.workflows[0])
            if instance["status"] not in ("scheduled", "running") or time.monotonic() > deadline:
                break
            time.sleep(0.05)
        self.assertNotIn(instance["status"], ("scheduled", "running"))

    def test_refusals_are_typed(self):
        with self.assertRaises(errors.NotFound):
            self.client.query("message", id=uuid.UUID("018bcfe5-6800-7a5c-8000-000000000001"))
        with self.assertRaises(errors.UnknownKind):
            self.client.query(60000)
        with self.assertRaises(errors.BadPayload):
            self.client.submit(b"{not json", event_type=EVENT_TYPE)
        with self.assertRaises(errors.UnknownWorkflow):
            self.client.command("start_workflow", name="no_such_workflow_here", body=b"{}")
        self.client.ping()


@unittest.skipUnless(ADDRESS, "needs DISTRIC_ADDR=host:port of a running node")
class BadFrames(unittest.TestCase):
    """Bytes that no client of ours would send, on raw sockets."""

    def open(self, hello=True):
        host, _, port = ADDRESS.rpartition(":")
        connection = socket.create_connection((host.strip("[]"), int(port)), timeout=5)
        self.addCleanup(connection.close)
        if hello:
            fields = {"version_min": 1, "version_max": 1, "client_name": "bad", "client_version": "0"}
            connection.sendall(wire.encode_frame("Hello", fields, 1))
            self.assertEqual(self.read(connection)[1], "Welcome")
        return connection

    def read(self, connection):
        """(message id, name, fields) of the next frame, or None when the node closed."""
        data = b""
        while True:
            whole = wire.parse(data)
            if whole is not None:
                header, payload, _ = whole
                return (header.message_id, *wire.decode_payload(header.message_type, payload))
            try:
                more = connection.recv(1 << 16)
            except ConnectionResetError:
                return None
            if not more:
                return None
            data += more

    def refused(self, connection, *names):
        """Expects a Rejection of one of these names, or a close. Returns the message id."""
        answer = self.read(connection)
        if answer is None:
            return None
        message_id, name, fields = answer
        self.assertEqual(name, "Rejection", fields)
        self.assertIn(fields["name"], names, fields["reason"])
        self.assertEqual(errors.BY_CODE[fields["code"]].name, fields["name"])
        return message_id

    def closed(self, connection):
        self.assertIsNone(self.read(connection), "the node goes on after a frame that breaks the stream")

    def ping(self):
        return wire.encode_frame("Ping", {"token": 7}, 9)

    def test_wrong_magic(self):
        connection = self.open()
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" + b" " * 34)
        self.refused(connection, "bad_frame")
        self.closed(connection)

    def test_wrong_crc(self):
        connection = self.open()
        frame = bytearray(self.ping())
        frame[33] ^= 1
        connection.sendall(frame)
        self.assertIn(self.refused(connection, "bad_frame"), (9, None))
        self.closed(connection)

    def test_unknown_version(self):
        connection = self.open()
        frame = bytearray(self.ping())
        frame[4:6] = b"\x00\x63"
        connection.sendall(frame)
        self.refused(connection, "unsupported_version")
        self.closed(connection)

    def test_oversized_length_is_refused_by_the_header_alone(self):
        connection = self.open()
        frame = bytearray(self.ping()[:wire.HEADER.size])
        frame[10:14] = struct.pack(">I", 0xFFFFFFFF)
        connection.sendall(frame)
        self.refused(connection, "too_large")
        self.closed(connection)

    def test_truncated_tlv_leaves_the_connection_usable(self):
        connection = self.open()
        payload = wire.encode_payload("Submit", {"payload": b"{}"})
        connection.sendall(wire.seal(0x4001, payload[:-1], 5))
        self.assertEqual(self.refused(connection, "bad_message"), 5)
        connection.sendall(self.ping())
        self.assertEqual(self.read(connection), (9, "Pong", {"token": 7}))

    def test_a_frame_in_single_bytes_and_two_frames_in_one_write(self):
        connection = self.open()
        for byte in self.ping():
            connection.sendall(bytes([byte]))
        self.assertEqual(self.read(connection)[1], "Pong")
        connection.sendall(self.ping() + wire.seal(0x4FFF, b"", 11))
        answers = b""
        while answers.count(b"DIST") < 2:
            answers += connection.recv(1 << 16)
        time.sleep(0.05)
        self.assertIsNotNone(wire.parse(answers))

    def test_the_first_frame_must_be_hello(self):
        connection = self.open(hello=False)
        connection.sendall(self.ping())
        self.assertIn(self.refused(connection, "not_hello"), (9, None))
        self.closed(connection)

    def test_malformed_vectors_never_hurt_the_node(self):
        vectors = json.loads((HERE.parents[3] / "wire" / "vectors" / "malformed.json").read_text())["cases"]
        for case in vectors:
            with self.subTest(case=case["name"]):
                connection = self.open()
                connection.sendall(bytes.fromhex(case["frame"]))
                self.refused(connection, case["code_name"])
        self.open()


if __name__ == "__main__":
    unittest.main()
