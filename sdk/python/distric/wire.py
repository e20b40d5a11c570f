"""Frames and TLV payloads: bytes to dictionaries and back, after docs/protocol.md.

A message is a name such as "Submit" and a dictionary of its fields by name. u64 and i64 are int, bytes are bytes,
uuids are uuid.UUID, arrays are lists, maps are dictionaries. Fields that are absent are absent in the dictionary.
"""

import struct
import time
import uuid
import zlib

from . import lz4
from .errors import BadFrame, BadMessage, TooLarge, UnsupportedVersion

MAGIC = 0x44495354
VERSION = 1
HEADER = struct.Struct(">IHHHIQQI")
FLAG_COMPRESSED = 0x0001
FLAG_ENCRYPTED = 0x0002
FLAG_URGENT = 0x0004
FRAME_BYTES_MAX = 1 << 20
HEADERS_MAX = 64
BATCH_MESSAGES_MAX = 1024
ARRAY_ITEMS_MAX = 65535
NESTING_MAX = 32

_FIELD = struct.Struct(">BHI")
_FIXED = {
    "u8": (0x01, struct.Struct(">B")),
    "u16": (0x02, struct.Struct(">H")),
    "u32": (0x03, struct.Struct(">I")),
    "u64": (0x04, struct.Struct(">Q")),
    "i64": (0x05, struct.Struct(">q")),
    "f64": (0x06, struct.Struct(">d")),
}
_BOOL, _UUID, _STR, _BYTES, _ARRAY, _MAP = 0x07, 0x08, 0x10, 0x11, 0x20, 0x21
_KNOWN_TYPES = {0x01, 0x02, 0x03, 0x04, 0x05, 0x06, _BOOL, _UUID, _STR, _BYTES, _ARRAY, _MAP}


def _table(text):
    """Reads "1 namespace str, 8 payload bytes!" into {tag: (name, type, required)}."""
    table = {}
    for part in text.split(","):
        tag, name, kind = part.split()
        table[int(tag)] = (name, kind.rstrip("!"), kind.endswith("!"))
    return table


# The tables of docs/protocol.md; an exclamation mark means required. headers: map<str,str> is written "map".
MESSAGES = {
    name: (number, _table(text))
    for name, number, text in [
        ("Submit", 0x4001, "1 namespace str, 2 message_id uuid, 3 event_type str, 4 source str, 5 timestamp_us u64, 6 headers map, "
         "7 content_type str, 8 payload bytes!, 9 routing_key str, 10 idempotency_key str, 11 traceparent str, 12 resend bool, "
         "13 acked_below u64"),
        ("Response", 0x4002, "1 outcome u8!, 2 message_id uuid!, 3 catalog_version u64!, 4 rules array<str>!, 5 workflows array<str>!, "
         "6 instances array<uuid>!"),
        ("Query", 0x4003, "1 kind u16!, 2 namespace str, 3 id uuid, 4 name str, 5 status str, 6 limit u32, 7 cursor str, 8 group u32, "
         "9 version u64, 10 filter bytes"),
        ("Hello", 0x4004, "1 version_min u16!, 2 version_max u16!, 3 client_name str!, 4 client_version str!, 5 api_key str, 6 features u64"),
        ("Welcome", 0x4005, "1 version u16!, 2 node_id uuid!, 3 cluster_id uuid!, 4 role str!, 5 shard_index u16!, 6 shard_count u16!, "
         "7 partition_map_version u64!, 8 frame_bytes_max u32!, 9 frames_in_flight_max u32!, 10 bytes_in_flight_max u64!, "
         "11 server_time_us u64!, 12 features u64!, 13 server_version str!"),
        ("SubmitBatch", 0x4006, "1 messages array<bytes>!"),
        ("BatchResponse", 0x4007, "1 items array<bytes>!"),
        ("Ping", 0x4008, "1 token u64!"),
        ("Pong", 0x4009, "1 token u64!"),
        ("GoAway", 0x400A, "1 reason str!, 2 grace_ms u64!"),
        ("Rejection", 0x400B, "1 code u16!, 2 name str!, 3 reason str!, 4 limit_name str, 5 limit_value u64, 6 retry_after_ms u64, "
         "7 leader_address str, 8 field str, 9 line u32, 10 column u32"),
        ("Subscribe", 0x400C, "1 kind u16!, 2 namespace str, 3 id uuid!"),
        ("Event", 0x400D, "1 index u64!, 2 kind str!, 3 at_us u64!, 4 body bytes!, 5 last bool"),
        ("Command", 0x400E, "1 kind u16!, 2 namespace str, 3 name str, 4 id uuid, 5 body bytes, 6 content_type str, 7 idempotency_key str, "
         "8 if_match u64, 9 dry_run bool, 10 author str, 11 reason str, 12 traceparent str, 13 version u64, "
         "14 delay_ms u64, 15 start_at_us u64"),
        ("QueryReply", 0x400F, "1 content_type str!, 2 body bytes!, 3 next_cursor str, 4 version u64"),
        ("Assignment", 0x3001, "1 group u32!, 2 task_id uuid!, 3 instance_id uuid!, 4 namespace str!, 5 workflow str!, 6 workflow_version u64!, "
         "7 task str!, 8 task_type str!, 9 attempt u32!, 10 fencing_token u64!, 11 input bytes!, 12 config bytes!, 13 timeout_ms u64!, "
         "14 idempotency_key str!, 15 traceparent str, 16 cpu_millis u64, 17 memory_mib u64"),
        ("TaskResult", 0x3002, "1 group u32!, 2 task_id uuid!, 3 attempt u32!, 4 fencing_token u64!, 5 outcome u8!, 6 output bytes, "
         "7 error_code str, 8 error str, 9 retryable bool, 10 retry_after_ms u64, 11 renew_credit bool, 12 elsewhere u64, 13 cpu_millis_elsewhere u64, 14 memory_mib_elsewhere u64"),
        ("Status", 0x3003, "1 running u32!, 2 queued u32!, 3 draining bool!"),
        ("WorkerHello", 0x3004, "1 worker_id uuid!, 2 generation u64!, 3 name str!, 4 slots u32!, 5 prefetch u32!, 6 task_types array<str>!, "
         "7 labels map, 8 cpu_millis u64, 9 memory_mib u64"),
        ("WorkerWelcome", 0x3005, "1 groups array<u32>!, 2 coordinators map, 3 terms array<u64>"),
        ("Credit", 0x3006, "1 group u32!, 2 amount i64!, 3 elsewhere u64, 4 cpu_millis_elsewhere u64, 5 memory_mib_elsewhere u64"),
        ("ResultAck", 0x3007, "1 task_id uuid!, 2 fencing_token u64!, 3 verdict u8!"),
        ("Reconcile", 0x3008, "1 group u32!, 2 tasks array<bytes>!"),
        ("Backlog", 0x3009, "1 group u32!, 2 ready u32!"),
        ("ReconcileReply", 0x300A, "1 group u32!, 2 unknown array<bytes>!"),
        ("Drain", 0x300B, "1 drain bool!"),
        ("CancelTask", 0x300C, "1 task_id uuid!, 2 fencing_token u64!"),
        ("CreditReturned", 0x300D, "1 group u32!, 2 amount u32!"),
    ]
}
BATCH_ITEM = _table("1 response bytes, 2 rejection bytes")
TASK_REF = _table("1 task_id uuid!, 2 fencing_token u64!")
NAMES = {number: name for name, (number, _) in MESSAGES.items()}
_COUNT_MAX = {"messages": ("batch_messages_max", BATCH_MESSAGES_MAX), "items": ("batch_messages_max", BATCH_MESSAGES_MAX)}


# ---- values -------------------------------------------------------------------------------------------------------


def _field(code, tag, value):
    return _FIELD.pack(code, tag, len(value)) + value


def _value_bytes(kind, value):
    """(type byte, value's bytes)"""
    if kind in _FIXED:
        code, form = _FIXED[kind]
        return code, form.pack(value)
    if kind == "bool":
        return _BOOL, b"\x01" if value else b"\x00"
    if kind == "uuid":
        return _UUID, value.bytes
    if kind == "str":
        return _STR, value.encode("utf-8")
    if kind == "bytes":
        return _BYTES, bytes(value)
    if kind == "map":
        texts = [text for pair in value.items() for text in pair]
        return _MAP, b"".join(_field(_STR, tag, text.encode("utf-8")) for tag, text in enumerate(texts))
    item = kind[len("array<"):-1]
    return _ARRAY, b"".join(_field(*_with_tag(tag, _value_bytes(item, one))) for tag, one in enumerate(value))


def _with_tag(tag, code_and_value):
    code, value = code_and_value
    return code, tag, value


def _fields(data, where):
    """Yields (type byte, tag, value) of every field in `data`."""
    at = 0
    while at < len(data):
        if len(data) - at < _FIELD.size:
            raise BadMessage(f"{where}: ends inside the head of a field")
        code, tag, length = _FIELD.unpack_from(data, at)
        at += _FIELD.size
        if length > len(data) - at:
            raise BadMessage(f"{where} field {tag}: ends early: {length} bytes announced, {len(data) - at} left")
        yield code, tag, data[at:at + length]
        at += length


def _text(value, where):
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadMessage(f"{where}: is not UTF-8") from error


def _read_value(kind, code, value, where, count_max):
    """The value of a field of the right type. Raises BadMessage or TooLarge."""
    if kind in _FIXED:
        expected, form = _FIXED[kind]
        if code != expected:
            raise BadMessage(f"{where}: is of type {code:#04x}, expected {kind}")
        if len(value) != form.size:
            raise BadMessage(f"{where}: is {len(value)} bytes long, expected {form.size}")
        return form.unpack(value)[0]
    expected = {"bool": _BOOL, "uuid": _UUID, "str": _STR, "bytes": _BYTES, "map": _MAP}.get(kind, _ARRAY)
    if code != expected:
        raise BadMessage(f"{where}: is of type {code:#04x}, expected {kind}")
    if kind == "bool":
        if value not in (b"\x00", b"\x01"):
            raise BadMessage(f"{where}: is neither false nor true")
        return value == b"\x01"
    if kind == "uuid":
        if len(value) != 16:
            raise BadMessage(f"{where}: is {len(value)} bytes long, expected 16")
        return uuid.UUID(bytes=value)
    if kind == "str":
        return _text(value, where)
    if kind == "bytes":
        return value
    if kind == "map":
        return _read_map(value, where)
    item = kind[len("array<"):-1]
    out = []
    for element_code, tag, element in _fields(value, where):
        if len(out) == count_max[1]:
            raise TooLarge(f"{where}: has too many elements", limit_name=count_max[0], limit_value=count_max[1])
        if tag != len(out):
            raise BadMessage(f"{where}: has an element with tag {tag} at position {len(out)}")
        out.append(_read_value(item, element_code, element, where, count_max))
    return out


def _read_map(value, where):
    out, key = {}, None
    for position, (code, tag, text) in enumerate(_fields(value, where)):
        if code != _STR or tag != position:
            raise BadMessage(f"{where}: position {position} is not a string under that tag")
        text = _text(text, where)
        if position % 2 == 0:
            if len(out) == HEADERS_MAX:
                raise TooLarge(f"{where}: has too many pairs", limit_name="headers_max", limit_value=HEADERS_MAX)
            if text in out:
                raise BadMessage(f"{where}: has a key twice")
            key = text
        else:
            out[key], key = text, None
    if key is not None:
        raise BadMessage(f"{where}: ends with a key without a value")
    return out


def _check_nesting(value, where):
    """Looks through an array or map that nobody here knows. A list of what is open, because the depth is the peer's."""
    open_fields = [_fields(value, where)]
    while open_fields:
        field = next(open_fields[-1], None)
        if field is None:
            open_fields.pop()
        elif field[0] in (_ARRAY, _MAP):
            if len(open_fields) == NESTING_MAX:
                raise BadMessage(f"{where}: nests deeper than {NESTING_MAX}")
            open_fields.append(_fields(field[2], where))


# ---- messages -----------------------------------------------------------------------------------------------------


def encode_fields(table, fields):
    """The payload bytes of a dictionary of fields, by ascending tag. Raises KeyError and ValueError for our own mistakes."""
    known = {name for name, _, _ in table.values()}
    if not set(fields) <= known:
        raise KeyError(f"no such field: {sorted(set(fields) - known)}")
    out = []
    for tag in sorted(table):
        name, kind, required = table[tag]
        if fields.get(name) is None:
            if required:
                raise ValueError(f"{name} is required")
            continue
        out.append(_field(*_with_tag(tag, _value_bytes(kind, fields[name]))))
    return b"".join(out)


def decode_fields(where, table, payload):
    """The dictionary of fields in payload bytes. Raises BadMessage and TooLarge."""
    fields = {}
    for code, tag, value in _fields(payload, where):
        if tag not in table:
            if code in (_ARRAY, _MAP):
                _check_nesting(value, f"{where} field {tag}")
            continue
        if code not in _KNOWN_TYPES:
            continue
        name, kind, _ = table[tag]
        site = f"{where} field {tag} ({name})"
        read = _read_value(kind, code, value, site, _COUNT_MAX.get(name, ("array_items_max", ARRAY_ITEMS_MAX)))
        if name in fields:
            raise BadMessage(f"{site}: is given more than once")
        fields[name] = read
    for tag, (name, _, required) in table.items():
        if required and name not in fields:
            raise BadMessage(f"{where} field {tag} ({name}): is required, but missing")
    return fields


def encode_payload(name, fields):
    """The payload of a message."""
    return encode_fields(MESSAGES[name][1], fields)


def decode_payload(message_type, payload):
    """(name, fields) of a payload; (None, None) of a type that is not known here."""
    name = NAMES.get(message_type)
    if name is None:
        return None, None
    return name, decode_fields(name, MESSAGES[name][1], payload)


# ---- frames -------------------------------------------------------------------------------------------------------


def seal(message_type, payload, message_id, timestamp_us=None, flags=0):
    """A whole frame around a payload."""
    if timestamp_us is None:
        timestamp_us = time.time_ns() // 1000
    head = HEADER.pack(MAGIC, VERSION, message_type, flags, len(payload), message_id, timestamp_us, 0)
    crc = zlib.crc32(payload, zlib.crc32(head))
    return head[:-4] + struct.pack(">I", crc) + payload


def encode_frame(name, fields, message_id, timestamp_us=None, flags=0):
    """A whole frame of a message."""
    return seal(MESSAGES[name][0], encode_payload(name, fields), message_id, timestamp_us, flags)


class Header:
    """The fields of a frame's header."""

    __slots__ = ("version", "message_type", "flags", "payload_bytes", "message_id", "timestamp_us", "crc32")

    def __init__(self, version, message_type, flags, payload_bytes, message_id, timestamp_us, crc32):
        self.version = version
        self.message_type = message_type
        self.flags = flags
        self.payload_bytes = payload_bytes
        self.message_id = message_id
        self.timestamp_us = timestamp_us
        self.crc32 = crc32


def parse_header(data, frame_bytes_max=FRAME_BYTES_MAX):
    """Checks 34 bytes. Raises BadFrame, UnsupportedVersion, TooLarge, with the message id where it can be read."""
    magic, *rest = HEADER.unpack(data)
    header = Header(*rest)
    if magic != MAGIC:
        raise BadFrame(f"frame begins with {magic:#010x}, not with DIST")
    if header.version != VERSION:
        raise UnsupportedVersion(f"frame is of protocol version {header.version}", message_id=header.message_id)
    if header.payload_bytes > frame_bytes_max:
        raise TooLarge(f"frame of {header.payload_bytes} payload bytes", limit_name="frame_bytes_max", limit_value=frame_bytes_max,
                       message_id=header.message_id)
    if header.flags & FLAG_ENCRYPTED:
        raise BadFrame("frame has the reserved flag 0x0002", message_id=header.message_id)
    return header


def check_payload(header, payload, frame_bytes_max=FRAME_BYTES_MAX):
    """The payload to decode: its CRC checked, unpacked if it was compressed. Raises BadFrame, BadMessage, TooLarge."""
    head = HEADER.pack(MAGIC, header.version, header.message_type, header.flags, header.payload_bytes, header.message_id,
                       header.timestamp_us, 0)
    crc = zlib.crc32(payload, zlib.crc32(head))
    if crc != header.crc32:
        raise BadFrame(f"frame carries CRC-32 {header.crc32:#010x}, its bytes give {crc:#010x}", message_id=header.message_id)
    if header.flags & FLAG_COMPRESSED:
        try:
            return lz4.unpack(payload, frame_bytes_max)
        except lz4.TooLarge as error:
            raise TooLarge(str(error), limit_name="frame_bytes_max", limit_value=frame_bytes_max, message_id=header.message_id) from error
        except lz4.Broken as error:
            raise BadMessage(str(error), message_id=header.message_id) from error
    return payload


def parse(data, frame_bytes_max=FRAME_BYTES_MAX):
    """The frame at the start of `data`: (header, payload, bytes it takes), or None when more bytes are needed."""
    prefix = data[:4]
    if prefix != b"DIST"[:len(prefix)]:
        raise BadFrame("frame does not begin with DIST")
    if len(data) < HEADER.size:
        return None
    header = parse_header(data[:HEADER.size], frame_bytes_max)
    end = HEADER.size + header.payload_bytes
    if len(data) < end:
        return None
    return header, check_payload(header, data[HEADER.size:end], frame_bytes_max), end


def slot_of(namespace, key):
    """The slot of a key, 0 to 4095."""
    mask = (1 << 64) - 1
    value = 0xCBF29CE484222325
    for byte in namespace.encode("utf-8") + b"\x00" + key.encode("utf-8"):
        value = ((value ^ byte) * 0x100000001B3) & mask
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        value = ((value ^ (value >> 33)) * factor) & mask
    return (value ^ (value >> 33)) & 4095
