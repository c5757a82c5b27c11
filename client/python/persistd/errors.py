"""What a failed call raises.

Every exception is a PersistdError. `reason` is for programs and stable; the text is for people. The meaning of each
reason, and what to do about it, stands in proto/cim/persistence/v1/errors.proto.
"""

from typing import Optional

import grpc
from google.protobuf.message import DecodeError

from persistd._stubs import errors_pb2

_PREFIX = "ERROR_REASON_"


class PersistdError(Exception):
    """A call failed.

    Attributes:
      code: the gRPC status code.
      message: the server's message.
      detail: the ErrorDetail, empty when the failure did not come from persistd itself (a broken connection, say).
      outcome_unknown: True when a save may have been stored, or may still be: repeat it with the same request id.
    """

    def __init__(
        self,
        message: str,
        *,
        code: grpc.StatusCode,
        detail: Optional[errors_pb2.ErrorDetail] = None,
        outcome_unknown: bool = False,
    ):
        super().__init__(message)
        self.message = message
        self.code = code
        self.detail = detail if detail is not None else errors_pb2.ErrorDetail()
        self.outcome_unknown = outcome_unknown

    @property
    def reason(self) -> int:
        """The ErrorReason; 0 when the failure did not come from persistd itself."""
        return self.detail.reason

    @property
    def reason_name(self) -> str:
        """The reason's name, for example `VERSION_CONFLICT`; without a reason the name of the gRPC code."""
        if not self.reason:
            return self.code.name
        known = errors_pb2.ErrorReason.DESCRIPTOR.values_by_number.get(self.reason)
        return known.name[len(_PREFIX) :] if known else f"REASON_{self.reason}"

    @property
    def retry_delay(self) -> float:
        """How many seconds the server asks to wait before a retry; 0 when it says nothing."""
        return self.detail.retry_delay.ToTimedelta().total_seconds()

    @property
    def transient(self) -> bool:
        """True when the client may repeat the same call by itself."""
        return self.code == grpc.StatusCode.UNAVAILABLE or self.reason == errors_pb2.ERROR_REASON_OVERLOADED

    def __str__(self) -> str:
        unknown = " (outcome unknown: repeat with the same request id)" if self.outcome_unknown else ""
        return f"{self.reason_name}: {self.message}{unknown}"


class InvalidArgument(PersistdError):
    """A field of the request is wrong: see `field`."""

    @property
    def field(self) -> str:
        """The path of the field, for example `events[2].type`."""
        return self.detail.field_violation.field


class RequestIdReused(InvalidArgument):
    """The request id belongs to an earlier save with other content."""


class NotFound(PersistdError):
    """The aggregate does not exist, or is deleted."""

    @property
    def deleted(self) -> bool:
        """True when it existed and was deleted."""
        return self.detail.deleted


class VersionNotFound(NotFound):
    """The aggregate exists, but not at the version or time that was asked for."""

    @property
    def actual(self) -> int:
        """The version that it has."""
        return self.detail.version_conflict.actual_version


class VersionConflict(PersistdError):
    """Somebody else saved the aggregate first: load it, decide again, save with the new version."""

    @property
    def expected(self) -> Optional[int]:
        """The version that the save expected; None with `must_exist`."""
        conflict = self.detail.version_conflict
        return conflict.expected_version if conflict.HasField("expected_version") else None

    @property
    def actual(self) -> int:
        """The version that the aggregate has."""
        return self.detail.version_conflict.actual_version


class ResourceExhausted(PersistdError):
    """Something is larger than a limit: see `detail.limit`."""


class TooLarge(ResourceExhausted):
    """The request, or a part of it, is larger than the server's limit."""


class StorageFull(ResourceExhausted):
    """The store is full; an operator must make room."""


class Overloaded(ResourceExhausted):
    """The daemon had more calls than it takes, until the client's deadline."""


class FailedPrecondition(PersistdError):
    """The store does not allow this now; the message says what to change."""


class Unavailable(PersistdError):
    """The daemon, or NATS behind it, could not be reached before the deadline; see `outcome_unknown`."""


class DeadlineExceeded(Unavailable):
    """The call was still running at its deadline; see `outcome_unknown`."""


class DataLoss(PersistdError):
    """Stored bytes are missing or wrong: see `detail.data_loss`."""


_BY_REASON = {
    errors_pb2.ERROR_REASON_REQUEST_ID_REUSED: RequestIdReused,
    errors_pb2.ERROR_REASON_VERSION_NOT_FOUND: VersionNotFound,
    errors_pb2.ERROR_REASON_VERSION_CONFLICT: VersionConflict,
    errors_pb2.ERROR_REASON_TOO_LARGE: TooLarge,
    errors_pb2.ERROR_REASON_STORAGE_FULL: StorageFull,
    errors_pb2.ERROR_REASON_OVERLOADED: Overloaded,
}

_BY_CODE = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgument,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ResourceExhausted,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPrecondition,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.DATA_LOSS: DataLoss,
}

# These ended on the way, so nobody answered whether the save was stored.
_UNANSWERED = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.INTERNAL,
)


def _detail_of(rpc_error: grpc.Call) -> Optional[errors_pb2.ErrorDetail]:
    for key, value in rpc_error.trailing_metadata() or ():
        if key != "grpc-status-details-bin":
            continue
        try:
            return _unpack(errors_pb2.Status.FromString(value))
        except DecodeError:  # A proxy's trailer, not ours. The code and the message still stand.
            return None
    return None


def _unpack(status: errors_pb2.Status) -> Optional[errors_pb2.ErrorDetail]:
    for packed in status.details:
        detail = errors_pb2.ErrorDetail()
        if packed.Unpack(detail):
            return detail
    return None


def from_rpc_error(rpc_error: grpc.RpcError, *, is_save: bool = False) -> PersistdError:
    """Returns the exception for what gRPC raised.

    A save that ended without an answer of persistd has an unknown outcome; a read has none to be unknown.
    """
    return _make(rpc_error.code(), rpc_error.details(), _detail_of(rpc_error), is_save)


def from_status(status: errors_pb2.Status, *, is_save: bool = False) -> PersistdError:
    """Returns the exception for an error inside an answer of a stream."""
    code = next((code for code in grpc.StatusCode if code.value[0] == status.code), grpc.StatusCode.UNKNOWN)
    return _make(code, status.message, _unpack(status), is_save)


def _make(
    code: grpc.StatusCode, message: Optional[str], detail: Optional[errors_pb2.ErrorDetail], is_save: bool
) -> PersistdError:
    if detail is not None and detail.reason:
        unknown = detail.reason == errors_pb2.ERROR_REASON_OUTCOME_UNKNOWN
        unknown |= is_save and detail.reason == errors_pb2.ERROR_REASON_INTERNAL
    else:
        unknown = is_save and code in _UNANSWERED
    kind = _BY_REASON.get(detail.reason if detail else 0) or _BY_CODE.get(code, PersistdError)
    return kind(message or code.name, code=code, detail=detail, outcome_unknown=unknown)
