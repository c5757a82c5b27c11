"""An AggregateService in memory, with faults on demand, for the tests of the Python client.

It keeps the promises of aggregates.proto that the client leans on (versions, idempotency, state), and no others.
"""

import collections
import concurrent.futures
import threading
from typing import Callable, Deque, Dict, List, Optional, Tuple

import grpc

from persistd._stubs import (
    admin_pb2,
    admin_pb2_grpc,
    aggregates_pb2,
    aggregates_pb2_grpc,
    chains_pb2,
    chains_pb2_grpc,
    errors_pb2,
    types_pb2,
)


class Fault:
    """An error to answer with: before anything is done, or (`late`) after it is done, as if the answer were lost."""

    def __init__(
        self,
        code: grpc.StatusCode,
        reason: int = 0,
        *,
        late: bool = False,
        trailer: Optional[bytes] = None,
        **detail: object,
    ):
        self.code = code
        self.late = late
        self.trailer = trailer
        if trailer is None and reason:
            status = errors_pb2.Status(code=code.value[0], message="made by a test")
            status.details.add().Pack(errors_pb2.ErrorDetail(reason=reason, **detail))
            self.trailer = status.SerializeToString()

    def raise_in(self, context: grpc.ServicerContext) -> None:
        """Ends the call."""
        if self.trailer is not None:
            context.set_trailing_metadata((("grpc-status-details-bin", self.trailer),))
        context.abort(self.code, "made by a test")


class FakeServer(
    aggregates_pb2_grpc.AggregateServiceServicer,
    chains_pb2_grpc.ChainServiceServicer,
    admin_pb2_grpc.AdminServiceServicer,
):
    """Serves on a free port of the loopback until `stop`.

    Attributes:
      address: where it listens.
      requests: every request it got, by method, in order.
      faults: for the next calls, one each, in order; None answers normally.
      break_history_after: for the next histories: how many events to send before UNAVAILABLE.
      tamper: changes an event before GetHistory sends it.
      tamper_save, tamper_load: change an answer of Save or Load before it is sent.
    """

    def __init__(self) -> None:
        self.requests: Dict[str, List[object]] = collections.defaultdict(list)
        self.faults: Deque[Optional[Fault]] = collections.deque()
        self.break_history_after: Deque[int] = collections.deque()
        self.tamper: Callable[[types_pb2.RecordedEvent], None] = lambda event: None
        self.tamper_save: Callable[[aggregates_pb2.SaveResponse], None] = lambda response: None
        self.tamper_load: Callable[[aggregates_pb2.LoadResponse], None] = lambda response: None
        self.state_results: Deque[int] = collections.deque()
        self.max_event_bytes = 512 * 1024
        self._lock = threading.Lock()
        self._events: Dict[Tuple[str, str, str], List[types_pb2.RecordedEvent]] = collections.defaultdict(list)
        self._states: Dict[Tuple[str, str, str], aggregates_pb2.AggregateState] = {}
        self._server = grpc.server(concurrent.futures.ThreadPoolExecutor(max_workers=8))
        aggregates_pb2_grpc.add_AggregateServiceServicer_to_server(self, self._server)
        chains_pb2_grpc.add_ChainServiceServicer_to_server(self, self._server)
        admin_pb2_grpc.add_AdminServiceServicer_to_server(self, self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def stop(self) -> None:
        """Ends all calls and frees the port."""
        self._server.stop(grace=None).wait()

    def Save(self, request: aggregates_pb2.SaveRequest, context: grpc.ServicerContext) -> aggregates_pb2.SaveResponse:
        fault = self._begin("Save", request, context)
        key = _key(request.ref)
        with self._lock:
            stored = self._events[key]
            versions = [event.version for event in stored if event.commit_id == request.request_id]
            response = aggregates_pb2.SaveResponse(deduplicated=bool(versions), commit_id=request.request_id)
            expected = request.expected_version if request.HasField("expected_version") else None
            conflict = not versions and expected not in (None, len(stored))
            if not versions and not conflict:
                for event in request.events:
                    stored.append(_recorded(request, event, len(stored) + 1))
                versions = list(range(len(stored) - len(request.events) + 1, len(stored) + 1))
            actual = len(stored)
            if not conflict:
                response.state_result = self._store_state(key, request, versions[-1])
                response.metadata.CopyFrom(_metadata(stored[: versions[-1]], self._states.get(key)))
                for version in versions:
                    event = stored[version - 1]
                    response.events.add(version=version, event_id=event.event_id, position=event.position)
        if conflict:
            Fault(
                grpc.StatusCode.ABORTED,
                errors_pb2.ERROR_REASON_VERSION_CONFLICT,
                version_conflict={"expected_version": expected, "actual_version": actual},
            ).raise_in(context)
        if fault:
            fault.raise_in(context)
        self.tamper_save(response)
        return response

    def Load(self, request: aggregates_pb2.LoadRequest, context: grpc.ServicerContext) -> aggregates_pb2.LoadResponse:
        self._begin("Load", request, context)
        events = self._existing(request.ref, context)
        state = self._states.get(_key(request.ref))
        response = aggregates_pb2.LoadResponse(metadata=_metadata(events, state))
        if state:
            response.state.CopyFrom(state)
        response.events.extend(events[state.version if state else 0 :])
        self.tamper_load(response)
        return response

    def SaveStream(self, requests, context: grpc.ServicerContext):
        for request in requests:
            answer = aggregates_pb2.SaveStreamResponse(id=request.id)
            try:
                answer.saved.CopyFrom(self.Save(request.save, _Inner()))
            except _InnerError as error:
                if not error.args[0].details:  # Not an answer: the stream breaks.
                    context.abort(grpc.StatusCode.UNAVAILABLE, "made by a test")
                answer.error.CopyFrom(error.args[0])
            yield answer

    def BatchLoad(self, requests, context: grpc.ServicerContext):
        for index, request in enumerate(requests):
            answer = aggregates_pb2.BatchLoadResponse(index=index)
            try:
                answer.loaded.CopyFrom(self.Load(request, _Inner()))
            except _InnerError as error:
                answer.error.CopyFrom(error.args[0])
            yield answer

    def SaveAll(self, request: aggregates_pb2.SaveAllRequest, context: grpc.ServicerContext):
        self._begin("SaveAll", request, context)
        return aggregates_pb2.SaveAllResponse(commit_id=request.request_id)

    def DeleteAggregate(self, request: aggregates_pb2.DeleteAggregateRequest, context: grpc.ServicerContext):
        self._begin("DeleteAggregate", request, context)
        return aggregates_pb2.DeleteAggregateResponse(commit_id=request.request_id)

    def ListAggregates(self, request: aggregates_pb2.ListAggregatesRequest, context: grpc.ServicerContext):
        copy = aggregates_pb2.ListAggregatesRequest.FromString(request.SerializeToString())
        self._begin("ListAggregates", copy, context)
        page = int(request.page_token or 0)
        return aggregates_pb2.ListAggregatesResponse(
            aggregates=[{"version": page + 1}], next_page_token=str(page + 1) if page < 2 else ""
        )

    def CreateSnapshot(self, request: aggregates_pb2.CreateSnapshotRequest, context: grpc.ServicerContext):
        self._begin("CreateSnapshot", request, context)
        return aggregates_pb2.Snapshot(ref=request.ref, version=request.version)

    def ListSnapshots(self, request: aggregates_pb2.ListSnapshotsRequest, context: grpc.ServicerContext):
        self._begin("ListSnapshots", request, context)
        return aggregates_pb2.ListSnapshotsResponse(snapshots=[{"version": 3}])

    def DeleteSnapshot(self, request: aggregates_pb2.DeleteSnapshotRequest, context: grpc.ServicerContext):
        self._begin("DeleteSnapshot", request, context)
        return aggregates_pb2.DeleteSnapshotResponse()

    def GetHistory(self, request: aggregates_pb2.GetHistoryRequest, context: grpc.ServicerContext):
        self._begin("GetHistory", aggregates_pb2.GetHistoryRequest.FromString(request.SerializeToString()), context)
        events = self._existing(request.ref, context)
        to_version = request.to_version if request.HasField("to_version") else len(events)
        events = events[request.from_version : to_version]
        remaining = self.break_history_after.popleft() if self.break_history_after else None
        for event in reversed(events) if request.reverse else events:
            if request.event_types and event.type not in request.event_types:
                continue
            if remaining == 0:
                Fault(grpc.StatusCode.UNAVAILABLE).raise_in(context)
            copy = types_pb2.RecordedEvent()
            copy.CopyFrom(event)
            self.tamper(copy)
            yield copy
            remaining = remaining - 1 if remaining is not None else None
        if remaining == 0:
            Fault(grpc.StatusCode.UNAVAILABLE).raise_in(context)

    def GetAtVersion(
        self, request: aggregates_pb2.GetAtVersionRequest, context: grpc.ServicerContext
    ) -> aggregates_pb2.LoadResponse:
        self._begin("GetAtVersion", request, context)
        events = self._existing(request.ref, context)
        if request.version > len(events):
            Fault(
                grpc.StatusCode.NOT_FOUND,
                errors_pb2.ERROR_REASON_VERSION_NOT_FOUND,
                version_conflict={"expected_version": request.version, "actual_version": len(events)},
            ).raise_in(context)
        return aggregates_pb2.LoadResponse(
            metadata={"ref": request.ref, "version": request.version}, events=events[: request.version]
        )

    def GetMetadata(
        self, request: aggregates_pb2.GetMetadataRequest, context: grpc.ServicerContext
    ) -> types_pb2.AggregateMetadata:
        self._begin("GetMetadata", request, context)
        return types_pb2.AggregateMetadata(ref=request.ref, version=len(self._existing(request.ref, context)))

    def GetServerInfo(
        self, request: admin_pb2.GetServerInfoRequest, context: grpc.ServicerContext
    ) -> admin_pb2.GetServerInfoResponse:
        self._begin("GetServerInfo", request, context)
        return admin_pb2.GetServerInfoResponse(
            version="fake", max_request_bytes=4 << 20, max_event_bytes=self.max_event_bytes, max_state_bytes=4 << 20
        )

    def CreateAggregateType(self, request: admin_pb2.CreateAggregateTypeRequest, context: grpc.ServicerContext):
        self._begin("CreateAggregateType", request, context)
        return admin_pb2.CreateAggregateTypeResponse(type=_type(request.aggregate, request), created=True)

    def ListAggregateTypes(self, request: admin_pb2.ListAggregateTypesRequest, context: grpc.ServicerContext):
        copy = admin_pb2.ListAggregateTypesRequest.FromString(request.SerializeToString())
        self._begin("ListAggregateTypes", copy, context)
        page = int(request.page_token or 0)
        return admin_pb2.ListAggregateTypesResponse(
            types=[_type(f"type{page}", request)], next_page_token=str(page + 1) if page < 2 else ""
        )

    def DescribeAggregateType(self, request: admin_pb2.DescribeAggregateTypeRequest, context: grpc.ServicerContext):
        self._begin("DescribeAggregateType", request, context)
        if request.aggregate == "none":
            Fault(grpc.StatusCode.NOT_FOUND, errors_pb2.ERROR_REASON_TYPE_NOT_FOUND).raise_in(context)
        return admin_pb2.DescribeAggregateTypeResponse(type=_type(request.aggregate, request), aggregates=7)

    def AppendToChain(self, request: chains_pb2.AppendToChainRequest, context: grpc.ServicerContext):
        fault = self._begin("AppendToChain", request, context)
        if fault:
            fault.raise_in(context)
        return chains_pb2.AppendToChainResponse(cid="c", sequence=request.expected_sequence + 1)

    def GetChain(self, request: chains_pb2.GetChainRequest, context: grpc.ServicerContext):
        copy = chains_pb2.GetChainRequest.FromString(request.SerializeToString())
        self._begin("GetChain", copy, context)
        last = request.to_sequence if request.HasField("to_sequence") else 5
        sequences = list(range(request.from_sequence + 1, last + 1))
        left = self.break_history_after.popleft() if self.break_history_after else len(sequences)
        for sequence in (sequences[::-1] if request.reverse else sequences)[:left]:
            yield chains_pb2.GetChainResponse(sequence=sequence)
        if left < len(sequences):
            Fault(grpc.StatusCode.UNAVAILABLE).raise_in(context)

    def VerifyChain(self, request: chains_pb2.VerifyChainRequest, context: grpc.ServicerContext):
        fault = self._begin("VerifyChain", request, context)
        yield chains_pb2.VerifyChainResponse(progress=chains_pb2.VerifyProgress(verified=3, total=7))
        if fault:
            fault.raise_in(context)
        yield chains_pb2.VerifyChainResponse(result=chains_pb2.ChainVerification(valid=True, verified=7))

    def ExportCar(self, request: chains_pb2.ExportCarRequest, context: grpc.ServicerContext):
        fault = self._begin("ExportCar", request, context)
        yield chains_pb2.ExportCarResponse(data=b"one")
        if fault:
            fault.raise_in(context)
        yield chains_pb2.ExportCarResponse(data=b"two")

    def PutBlock(self, request: chains_pb2.PutBlockRequest, context: grpc.ServicerContext):
        self._begin("PutBlock", request, context)
        return chains_pb2.PutBlockResponse(cid=f"cid-of-{request.data.decode()}")

    def GetBlock(self, request: chains_pb2.GetBlockRequest, context: grpc.ServicerContext):
        self._begin("GetBlock", request, context)
        if not request.cid.startswith("cid-of-"):
            Fault(grpc.StatusCode.NOT_FOUND, errors_pb2.ERROR_REASON_BLOCK_NOT_FOUND).raise_in(context)
        return chains_pb2.GetBlockResponse(data=request.cid[7:].encode())

    def _begin(self, method: str, request: object, context: grpc.ServicerContext) -> Optional[Fault]:
        """Notes the request and ends the call if a fault is due now. Returns a fault that is due at its end."""
        with self._lock:
            self.requests[method].append(request)
            fault = self.faults.popleft() if self.faults else None
        if fault and not fault.late:
            fault.raise_in(context)
        return fault

    def _existing(self, ref: types_pb2.AggregateRef, context: grpc.ServicerContext) -> List[types_pb2.RecordedEvent]:
        with self._lock:
            events = list(self._events[_key(ref)])
        if not events:
            Fault(grpc.StatusCode.NOT_FOUND, errors_pb2.ERROR_REASON_AGGREGATE_NOT_FOUND, ref=ref).raise_in(context)
        return events

    def _store_state(self, key: Tuple[str, str, str], request: aggregates_pb2.SaveRequest, version: int) -> int:
        if not request.HasField("state"):
            return aggregates_pb2.STATE_RESULT_UNSPECIFIED
        if self.state_results:
            return self.state_results.popleft()
        if key in self._states and self._states[key].version > version:
            return aggregates_pb2.STATE_RESULT_SUPERSEDED
        self._states[key] = aggregates_pb2.AggregateState(
            payload=request.state, schema_version=request.state_schema_version or 1, version=version
        )
        return aggregates_pb2.STATE_RESULT_WRITTEN


class _InnerError(Exception):
    """Carries the errors_pb2.Status of a call inside a stream."""


class _Inner:
    """Stands in for the context of a call inside a stream."""

    def __init__(self) -> None:
        self._trailer = b""

    def set_trailing_metadata(self, metadata) -> None:
        self._trailer = metadata[0][1]

    def abort(self, code: grpc.StatusCode, message: str) -> None:
        raise _InnerError(errors_pb2.Status.FromString(self._trailer))


def _key(ref: types_pb2.AggregateRef) -> Tuple[str, str, str]:
    return ref.context, ref.aggregate, ref.entity_id


def _type(aggregate: str, request) -> admin_pb2.AggregateType:
    return admin_pb2.AggregateType(context=request.context, aggregate=aggregate)


def _metadata(
    events: List[types_pb2.RecordedEvent], state: Optional[aggregates_pb2.AggregateState]
) -> types_pb2.AggregateMetadata:
    last = events[-1]
    return types_pb2.AggregateMetadata(
        ref=last.ref,
        version=last.version,
        state_schema_version=state.schema_version if state else 0,
        last_modified=last.recorded_time,
        position=last.position,
    )


def _recorded(
    request: aggregates_pb2.SaveRequest, event: types_pb2.NewEvent, version: int
) -> types_pb2.RecordedEvent:
    return types_pb2.RecordedEvent(
        ref=request.ref,
        version=version,
        event_id=event.event_id,
        type=event.type,
        schema_version=event.schema_version or 1,
        payload=event.payload,
        metadata=event.metadata,
        time=event.time,
        recorded_time={"seconds": 1_700_000_000 + version},
        commit_id=request.request_id,
        position={"token": f"{request.ref.entity_id}:{version}"},
    )
