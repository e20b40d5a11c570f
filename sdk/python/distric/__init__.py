"""A small DistriC client, and in `distric.worker` a worker, on the standard library alone, written from docs/protocol.md."""

from .client import Client, Receipt, Reply
from .errors import ConnectionLost, DistricError, Rejected

__all__ = ["Client", "ConnectionLost", "DistricError", "Receipt", "Rejected", "Reply"]
__version__ = "0.1.0"
