"""A client for persistd, the daemon that persists event-sourced aggregates. See client/python/README.md."""

from persistd._stubs import admin_pb2, aggregates_pb2, chains_pb2, errors_pb2, types_pb2
from persistd.client import Client, Consistency
from persistd.errors import (
    DataLoss,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Overloaded,
    PersistdError,
    RequestIdReused,
    ResourceExhausted,
    StorageFull,
    TooLarge,
    Unavailable,
    VersionConflict,
    VersionNotFound,
)
from persistd.ids import uuid7
from persistd.payloads import event, from_payload, json_bytes, json_payload, ref, to_payload
from persistd.retry import RetryPolicy

__all__ = [
    "Client",
    "Consistency",
    "DataLoss",
    "DeadlineExceeded",
    "FailedPrecondition",
    "InvalidArgument",
    "NotFound",
    "Overloaded",
    "PersistdError",
    "RequestIdReused",
    "ResourceExhausted",
    "RetryPolicy",
    "StorageFull",
    "TooLarge",
    "Unavailable",
    "VersionConflict",
    "VersionNotFound",
    "admin_pb2",
    "aggregates_pb2",
    "chains_pb2",
    "errors_pb2",
    "event",
    "from_payload",
    "json_bytes",
    "json_payload",
    "ref",
    "to_payload",
    "types_pb2",
    "uuid7",
]
