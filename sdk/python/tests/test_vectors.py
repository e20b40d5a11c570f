"""All golden vectors, offline: this library reads and writes the frames of wire/vectors/ as the JSON there says."""

import json
import pathlib
import sys
import unittest
import uuid

HERE = pathlib.Path(__file__).resolve()
sys.path.insert(0, str(HERE.parents[1]))

from distric import errors, wire  # noqa: E402

VECTORS = HERE.parents[3] / "wire" / "vectors"


def json_of(kind, value):
    """A value as the vectors write it."""
    if kind in ("u64", "i64"):
        return str(value)
    if kind == "uuid":
        return str(value)
    if kind == "bytes":
        return value.hex()
    if kind == "map":
        return [[key, text] for key, text in value.items()]
    if kind.startswith("array<"):
        return [json_of(kind[6:-1], one) for one in value]
    return value


def value_of(kind, value):
    """The other way."""
    if kind in ("u64", "i64"):
        return int(value)
    if kind == "uuid":
        return uuid.UUID(value)
    if kind == "bytes":
        return bytes.fromhex(value)
    if kind == "map":
        return dict(value)
    if kind.startswith("array<"):
        return [value_of(kind[6:-1], one) for one in value]
    return value


def cases():
    for path in sorted(VECTORS.glob("*.json")):
        if path.name != "malformed.json":
            document = json.loads(path.read_text())
            for case in document["cases"]:
                yield document["message"], case


class Vectors(unittest.TestCase):
    def test_every_message_has_vectors(self):
        self.assertEqual({message for message, _ in cases()}, set(wire.MESSAGES))

    def test_frames_are_read_as_their_json_says(self):
        for message, case in cases():
            with self.subTest(message=message, case=case["name"]):
                frame = bytes.fromhex(case["frame"])
                header, payload, end = wire.parse(frame)
                self.assertEqual(end, len(frame))
                for name in ("version", "message_type", "flags", "payload_bytes", "crc32"):
                    self.assertEqual(getattr(header, name), case["header"][name], name)
                for name in ("message_id", "timestamp_us"):
                    self.assertEqual(str(getattr(header, name)), case["header"][name], name)
                name, fields = wire.decode_payload(header.message_type, payload)
                self.assertEqual(name, message)
                kinds = {field: kind for field, kind, _ in wire.MESSAGES[name][1].values()}
                self.assertEqual({field: json_of(kinds[field], value) for field, value in fields.items()},
                                 {field["name"]: field["value"] for field in case["fields"]})

    def test_frames_are_written_as_the_vectors_have_them(self):
        for message, case in cases():
            if case["header"]["flags"] & wire.FLAG_COMPRESSED:
                continue
            with self.subTest(message=message, case=case["name"]):
                kinds = {field: kind for field, kind, _ in wire.MESSAGES[message][1].values()}
                fields = {field["name"]: value_of(kinds[field["name"]], field["value"]) for field in case["fields"]}
                frame = wire.encode_frame(message, fields, int(case["header"]["message_id"]), int(case["header"]["timestamp_us"]),
                                          case["header"]["flags"])
                self.assertEqual(frame.hex(), case["frame"])

    def test_a_cut_frame_asks_for_more(self):
        for _, case in cases():
            frame = bytes.fromhex(case["frame"])
            for end in range(0, len(frame), 7):
                self.assertIsNone(wire.parse(frame[:end]))

    def test_malformed_frames_are_refused_with_their_code(self):
        for case in json.loads((VECTORS / "malformed.json").read_text())["cases"]:
            with self.subTest(case=case["name"]), self.assertRaises(errors.Rejected) as caught:
                header, payload, _ = wire.parse(bytes.fromhex(case["frame"]))
                wire.decode_payload(header.message_type, payload)
            self.assertEqual((caught.exception.code, caught.exception.name), (case["code"], case["code_name"]), case["name"])

    def test_a_rejection_becomes_its_class(self):
        for document, case in cases():
            if document == "Rejection":
                _, payload, _ = wire.parse(bytes.fromhex(case["frame"]))
                _, fields = wire.decode_payload(0x400B, payload)
                error = errors.from_fields(fields)
                self.assertIs(type(error), errors.BY_CODE[fields["code"]])
                self.assertEqual((error.name, error.reason), (fields["name"], fields["reason"]))
        unknown = errors.from_fields({"code": 9999, "name": "of_tomorrow", "reason": "?"})
        self.assertEqual((type(unknown), unknown.code, unknown.name), (errors.Rejected, 9999, "of_tomorrow"))

    def test_slots_are_those_of_the_page(self):
        page = (HERE.parents[3] / "docs" / "protocol.md").read_text()
        rows = [row.strip("|").split("|") for row in page.split("| namespace | key | slot |", 1)[1].split("\n\n")[0].splitlines()[2:]]
        self.assertGreater(len(rows), 2)
        for namespace, key, slot in rows:
            self.assertEqual(wire.slot_of(namespace.strip(), key.strip()), int(slot))


if __name__ == "__main__":
    unittest.main()
