"""Builds the messages that a save needs from plain Python values, and turns payloads back into them."""

import datetime
import json
from typing import Any, Mapping, Optional, Tuple, Union

from persistd._stubs import types_pb2

JSON = "application/json"

# What a payload can be made of: a ready message, bytes, or anything that JSON can express.
Value = Union[types_pb2.Payload, bytes, Mapping[str, Any], list, str, int, float, bool]
Ref = Union[types_pb2.AggregateRef, Tuple[str, str, str]]


def ref(context: str, aggregate: str, entity_id: str) -> types_pb2.AggregateRef:
    """Names one aggregate, for example `ref("sales", "order", "4711")`."""
    return types_pb2.AggregateRef(context=context, aggregate=aggregate, entity_id=entity_id)


def json_bytes(value: Any) -> bytes:
    """Returns `value` as compact JSON in UTF-8.

    Text with lone surrogates has no UTF-8 form; such a value is written in ASCII with escapes instead, which reads back
    unchanged. NaN and infinities are a ValueError, as JSON has none.
    """
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode()


def json_payload(value: Any) -> types_pb2.Payload:
    """Returns a JSON payload. It travels as bytes, so integers of any size stay exact."""
    return types_pb2.Payload(content_type=JSON, data=json_bytes(value))


def to_payload(value: Value) -> types_pb2.Payload:
    """Returns a payload unchanged, bytes as `application/octet-stream`, and everything else as JSON."""
    if isinstance(value, types_pb2.Payload):
        return value
    if isinstance(value, bytes):
        return types_pb2.Payload(content_type="application/octet-stream", data=value)
    return json_payload(value)


def from_payload(payload: types_pb2.Payload) -> Any:
    """Returns what a JSON payload says, and the bytes of any other payload.

    Raises ValueError when the content type promises JSON and the bytes hold something else.
    """
    media_type = payload.content_type.partition(";")[0].strip().lower()
    if media_type == JSON or media_type.endswith("+json"):
        return json.loads(payload.data)
    return payload.data


def event(
    type: str,  # pylint: disable=redefined-builtin
    value: Optional[Value] = None,
    *,
    schema_version: int = 0,
    event_id: str = "",
    time: Optional[datetime.datetime] = None,
    actor: str = "",
    correlation_id: str = "",
    causation_id: str = "",
    custom: Optional[Mapping[str, str]] = None,
) -> types_pb2.NewEvent:
    """Returns an event to be saved.

    Args:
      type: the event type, for example `placed`.
      value: the content; see `to_payload`. None for an event without content.
      schema_version: the schema version of the content; 0 means 1.
      event_id: the event's id; the daemon makes one by default.
      time: when it happened. A naive datetime is local time, as everywhere in Python. Default: when the daemon gets it.
      actor, correlation_id, causation_id, custom: why and by whom.
    """
    new = types_pb2.NewEvent(type=type, schema_version=schema_version, event_id=event_id)
    if value is not None:
        new.payload.CopyFrom(to_payload(value))
    if time is not None:
        new.time.FromDatetime(time.astimezone(datetime.timezone.utc))
    if actor or correlation_id or causation_id or custom:
        new.metadata.actor = actor
        new.metadata.correlation_id = correlation_id
        new.metadata.causation_id = causation_id
        new.metadata.custom.update(custom or {})
    return new


def to_ref(aggregate: Ref) -> types_pb2.AggregateRef:
    """Returns the message for a reference that may be written as a tuple (context, aggregate, entity id)."""
    return aggregate if isinstance(aggregate, types_pb2.AggregateRef) else ref(*aggregate)
