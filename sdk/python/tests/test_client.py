"""The client against a scripted node on a socket pair of its own process: resends, pings, refusals, broken connections."""

import pathlib
import socket
import sys
import threading
import unittest

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[1]), str(pathlib.Path(__file__).resolve().parent)]

from distric import Client, ConnectionLost, errors, wire  # noqa: E402
from scripted import ID, WELCOME, frames  # noqa: E402

RESPONSE = {"outcome": 1, "message_id": ID, "catalog_version": 1, "rules": [], "workflows": [], "instances": []}


class Node:
    """Answers each request with the next step of its script: (name, fields), a list of those, or "close"."""

    def __init__(self, script):
        self.script, self.seen = list(script), []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                self._serve(connection)

    def _serve(self, connection):
        for message_id, name, fields in frames(connection):
            if name == "Hello":
                steps = [("Welcome", WELCOME)]
            elif name == "Pong":
                self.seen.append((name, fields))
                continue
            else:
                self.seen.append((name, fields))
                step = self.script.pop(0)
                if step == "close":
                    return
                steps = step if isinstance(step, list) else [step]
            answers = b"".join(wire.encode_frame(answer, values, message_id) for answer, values in steps)
            for at in range(0, len(answers), 11):
                connection.sendall(answers[at:at + 11])

    def close(self):
        self.listener.close()


def rejection(code, name, **more):
    return "Rejection", {"code": code, "name": name, "reason": "because", **more}


class Scripted(unittest.TestCase):
    def client(self, *script, **options):
        self.node = Node(script)
        self.addCleanup(self.node.close)
        client = Client(self.node.address, timeout_s=5, **options)
        self.addCleanup(client.close)
        return client

    def test_an_unknown_outcome_is_resent_with_the_same_key(self):
        client = self.client(rejection(19, "outcome_unknown", retry_after_ms=1), "close", ("Response", RESPONSE))
        self.assertEqual(client.submit({"a": 1}).message_id, ID)
        keys = {fields["idempotency_key"] for _, fields in self.node.seen}
        self.assertEqual(len(keys), 1)
        self.assertEqual([fields.get("resend", False) for _, fields in self.node.seen], [False, True, True])

    def test_a_refusal_that_cannot_pass_is_raised_at_once(self):
        client = self.client(rejection(22, "bad_catalog", field="rules[0]", line=3, column=5))
        with self.assertRaises(errors.BadCatalog) as caught:
            client.command("apply_catalog", body=b"")
        self.assertEqual((caught.exception.field, caught.exception.line, caught.exception.column), ("rules[0]", 3, 5))
        self.assertEqual(len(self.node.seen), 1)

    def test_a_change_without_a_key_is_not_sent_twice(self):
        client = self.client("close", ("QueryReply", {"content_type": "application/json", "body": b"{}"}))
        with self.assertRaises(ConnectionLost):
            client.command("delete_rule", name="r")
        self.assertEqual(len(self.node.seen), 1)

    def test_pings_and_farewells_in_between_are_no_answer(self):
        reply = ("QueryReply", {"content_type": "application/json", "body": b"[1]"})
        client = self.client([("Ping", {"token": 5}), ("GoAway", {"reason": "r", "grace_ms": 1}), reply], reply)
        self.assertEqual(client.query("rules").json(), [1])
        self.assertEqual(client.query("rules").json(), [1])
        self.assertIn(("Pong", {"token": 5}), self.node.seen)

    def test_attempts_are_bounded(self):
        refusal = rejection(10, "overloaded", retry_after_ms=1)
        client = self.client(refusal, refusal, refusal, attempts=2)
        with self.assertRaises(errors.Overloaded):
            client.submit({})
        self.assertEqual(len(self.node.seen), 2)

    def test_a_batch_is_resent_with_every_message_marked(self):
        item = wire.encode_fields(wire.BATCH_ITEM, {"response": wire.encode_payload("Response", RESPONSE)})
        refused = wire.encode_fields(wire.BATCH_ITEM, {"rejection": wire.encode_payload(*rejection(11, "bad_payload"))})
        client = self.client("close", ("BatchResponse", {"items": [item, refused]}))
        first, second = client.submit_batch([client.submission({}), client.submission({})])
        self.assertEqual(first.message_id, ID)
        self.assertIsInstance(second, errors.BadPayload)
        resent = [wire.decode_payload(0x4001, one)[1] for one in self.node.seen[1][1]["messages"]]
        self.assertTrue(all(one["resend"] for one in resent))


if __name__ == "__main__":
    unittest.main()
