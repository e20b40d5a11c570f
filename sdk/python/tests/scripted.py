"""What the scripted nodes of the tests share: a welcome, and the reading of frames."""

import pathlib
import sys
import uuid

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from distric import wire  # noqa: E402

ID = uuid.UUID("018bcfe5-6800-7a5c-8000-000000000001")
WELCOME = {"version": 1, "node_id": ID, "cluster_id": ID, "role": "coordinator", "shard_index": 0, "shard_count": 1,
           "partition_map_version": 1, "frame_bytes_max": 1 << 20, "frames_in_flight_max": 8, "bytes_in_flight_max": 1 << 20,
           "server_time_us": 0, "features": 0, "server_version": "0"}


def frames(connection):
    """(message id, name, fields) of every frame until the other side closes. Raises OSError as the socket does."""
    data = b""
    while True:
        whole = wire.parse(data)
        if whole is None:
            more = connection.recv(1 << 16)
            if not more:
                return
            data += more
            continue
        header, payload, end = whole
        data = data[end:]
        yield (header.message_id, *wire.decode_payload(header.message_type, payload))
