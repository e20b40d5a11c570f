"""What can go wrong: a class for every code of a Rejection, and what happens to connections."""


class DistricError(Exception):
    """Everything this library raises."""


class ConnectionLost(DistricError):
    """The connection broke, was closed or did not answer in time. What was unanswered has an unknown outcome."""


class Rejected(DistricError):
    """A refusal by the node (or of what came from it). `code` and `name` are stable, the text is for people."""

    code = 0
    name = "unknown"
    #: Whether the same request may be sent again, unchanged, after a while.
    transient = False

    def __init__(self, reason="", *, limit_name=None, limit_value=None, retry_after_ms=None, leader_address=None, field=None, line=None,
                 column=None, message_id=None):
        super().__init__(f"{self.name}: {reason}")
        self.reason = reason
        self.limit_name = limit_name
        self.limit_value = limit_value
        self.retry_after_ms = retry_after_ms
        self.leader_address = leader_address
        self.field = field
        self.line = line
        self.column = column
        self.message_id = message_id


#: code -> class
BY_CODE = {}


def _rejection(code, name, transient=False):
    title = "".join(part.capitalize() for part in name.split("_"))
    kind = type(title, (Rejected,), {"code": code, "name": name, "transient": transient, "__module__": __name__,
                                     "__doc__": f"Rejection {code}, {name}."})
    BY_CODE[code] = kind
    return kind


BadFrame = _rejection(1, "bad_frame")
BadMessage = _rejection(2, "bad_message")
UnsupportedVersion = _rejection(3, "unsupported_version")
NotHello = _rejection(4, "not_hello")
Unauthenticated = _rejection(5, "unauthenticated")
Forbidden = _rejection(6, "forbidden")
TooLarge = _rejection(7, "too_large")
TooManyInFlight = _rejection(8, "too_many_in_flight", transient=True)
RateLimited = _rejection(9, "rate_limited", transient=True)
Overloaded = _rejection(10, "overloaded", transient=True)
BadPayload = _rejection(11, "bad_payload")
SchemaViolation = _rejection(12, "schema_violation")
UnknownKind = _rejection(13, "unknown_kind")
NotFound = _rejection(14, "not_found")
Conflict = _rejection(15, "conflict")
IdempotencyConflict = _rejection(16, "idempotency_conflict")
PreconditionFailed = _rejection(17, "precondition_failed")
WrongLeader = _rejection(18, "wrong_leader", transient=True)
OutcomeUnknown = _rejection(19, "outcome_unknown", transient=True)
Unavailable = _rejection(20, "unavailable", transient=True)
Draining = _rejection(21, "draining", transient=True)
BadCatalog = _rejection(22, "bad_catalog")
UnknownWorkflow = _rejection(23, "unknown_workflow")
DedupeFull = _rejection(24, "dedupe_full", transient=True)
StorageFull = _rejection(25, "storage_full", transient=True)
Internal = _rejection(26, "internal")
BadArgument = _rejection(27, "bad_argument")


def from_fields(fields, message_id=None):
    """The exception for the fields of a Rejection message; of an unknown code a plain Rejected with that code and name."""
    fields = dict(fields)
    code, name, reason = fields.pop("code"), fields.pop("name"), fields.pop("reason")
    kind = BY_CODE.get(code, Rejected)
    error = kind(reason, message_id=message_id, **fields)
    if kind is Rejected:
        error.code, error.name = code, name
    return error
