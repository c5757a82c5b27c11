"""The client: one method for each call, with retries and Python values."""

import datetime
import enum
import threading
import time
from typing import Any, Callable, Dict, Iterable, Iterator, Mapping, Optional, Sequence, Tuple, Union

import grpc

from persistd._stubs import (
    admin_pb2,
    admin_pb2_grpc,
    aggregates_pb2,
    aggregates_pb2_grpc,
    chains_pb2,
    chains_pb2_grpc,
    types_pb2,
)
from persistd.errors import DeadlineExceeded, PersistdError, VersionConflict, from_rpc_error, from_status
from persistd.ids import uuid7
from persistd.payloads import Ref, Value, to_payload, to_ref
from persistd.retry import Deadline, RetryPolicy

# An aggregate without a state is loaded with all its events, which can be far more than gRPC's default of 4 MiB.
_MAX_RESPONSE_BYTES = 256 * 1024 * 1024


class Consistency(enum.IntEnum):
    """What a load must have seen; see `Consistency` in aggregates.proto."""

    STRONG = aggregates_pb2.CONSISTENCY_STRONG
    CACHED = aggregates_pb2.CONSISTENCY_CACHED
    AT_LEAST = aggregates_pb2.CONSISTENCY_AT_LEAST


class Client:
    """A connection to persistd. Thread safe: share one among threads, and close it, or use it in a `with` statement.

    Calls that fail with UNAVAILABLE or OVERLOADED are repeated until the deadline, with back-off. A save is repeated
    with the same request id, so it is stored at most once. What then remains is raised as a PersistdError.
    """

    def __init__(
        self,
        address: str,
        timeout: float = 30.0,
        *,
        credentials: Optional[grpc.ChannelCredentials] = None,
        metadata: Sequence[Tuple[str, str]] = (),
        retry: RetryPolicy = RetryPolicy(),
    ):
        """Connects in the background; the first call finds out whether it works.

        Args:
          address: `host:port`, or any other name that gRPC resolves.
          timeout: the deadline of each call, its retries included, in seconds. Each method can override it.
          credentials: for TLS. Default: plain text.
          metadata: gRPC metadata that is sent with each call, for example `traceparent`.
          retry: how long to wait between retries.
        """
        options = [
            ("grpc.max_receive_message_length", _MAX_RESPONSE_BYTES),
            ("grpc.enable_retries", 0),  # The retries are made here, where the request id is known.
            # A daemon that restarts is back in a second; gRPC's own default would look again only after 20 s.
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 2000),
        ]
        if credentials is None:
            self._channel = grpc.insecure_channel(address, options)
        else:
            self._channel = grpc.secure_channel(address, credentials, options)
        self._aggregates = aggregates_pb2_grpc.AggregateServiceStub(self._channel)
        self._chains = chains_pb2_grpc.ChainServiceStub(self._channel)
        self._admin = admin_pb2_grpc.AdminServiceStub(self._channel)
        self._timeout = timeout
        self._metadata = tuple(metadata)
        self._retry = retry

    def close(self) -> None:
        """Ends the connection; running calls are cancelled."""
        self._channel.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def save(
        self,
        ref: Ref,
        events: Iterable[types_pb2.NewEvent],
        expected_version: Optional[int] = None,
        must_exist: bool = False,
        state: Optional[Value] = None,
        *,
        state_schema_version: int = 0,
        tags: Optional[Sequence[str]] = None,
        metadata: Optional[Mapping[str, str]] = None,
        create_snapshot: bool = False,
        request_id: Optional[str] = None,
        timeout: Optional[float] = None,
    ) -> aggregates_pb2.SaveResponse:
        """Saves 1 to 1000 events of one aggregate atomically, and with them, if given, its state.

        Args:
          ref: the aggregate, also as a tuple (context, aggregate, entity id).
          events: see `persistd.event`.
          expected_version: save only on exactly this version; 0: it must not exist. None: on any.
          must_exist: save only when it exists, at any version.
          state: the aggregate's state after these events; see `persistd.to_payload`.
          state_schema_version: the schema version of `state`; 0 means 1.
          tags: the aggregate's tags from now on; an empty sequence removes them, None keeps what it has.
          metadata: its custom metadata from now on; an empty mapping removes it, None keeps what it has.
          create_snapshot: also keep the state after this save as a snapshot.
          request_id: identifies the save. Give it again to repeat a save whose outcome is unknown. Default: a UUIDv7.
          timeout: the deadline in seconds, instead of the client's.

        Raises:
          VersionConflict: the aggregate is at another version.
          Unavailable: with `outcome_unknown`, the save may have been stored.
          PersistdError: any other failure; nothing was stored unless `outcome_unknown` says so.
          ValueError: both `expected_version` and `must_exist` are given.
        """
        if expected_version is not None and must_exist:
            raise ValueError("expected_version and must_exist exclude each other")
        request = aggregates_pb2.SaveRequest(
            ref=to_ref(ref),
            events=events,
            state_schema_version=state_schema_version,
            request_id=request_id or uuid7(),
        )
        if expected_version is not None:
            request.expected_version = expected_version
        elif must_exist:
            request.must_exist = True
        if state is not None:
            request.state.CopyFrom(to_payload(state))
        if tags is not None:
            request.options.tags.extend(tags)
            request.options.clear_tags = not tags
        if metadata is not None:
            request.options.metadata.update(metadata)
            request.options.clear_metadata = not metadata
        request.options.create_snapshot = create_snapshot
        return self._call(self._aggregates.Save, request, timeout, is_save=True)

    def save_all(
        self, request: aggregates_pb2.SaveAllRequest, *, timeout: Optional[float] = None
    ) -> aggregates_pb2.SaveAllResponse:
        """Saves several aggregates in one commit, all or none; see SaveAllRequest. Raises as `save` does."""
        copy = aggregates_pb2.SaveAllRequest()
        copy.CopyFrom(request)
        copy.request_id = copy.request_id or uuid7()
        return self._call(self._aggregates.SaveAll, copy, timeout, is_save=True)

    def delete(
        self,
        ref: Ref,
        expected_version: Optional[int] = None,
        *,
        metadata: Optional[types_pb2.EventMetadata] = None,
        request_id: Optional[str] = None,
        timeout: Optional[float] = None,
    ) -> aggregates_pb2.DeleteAggregateResponse:
        """Deletes an aggregate; its history stays. A save with the exact version brings it back. Raises as `save`."""
        request = aggregates_pb2.DeleteAggregateRequest(
            ref=to_ref(ref), expected_version=expected_version, metadata=metadata, request_id=request_id or uuid7()
        )
        return self._call(self._aggregates.DeleteAggregate, request, timeout, is_save=True)

    def save_stream(
        self, saves: Iterable[aggregates_pb2.SaveRequest], window: int = 256
    ) -> Iterator[Tuple[aggregates_pb2.SaveRequest, Union[aggregates_pb2.SaveResponse, PersistdError]]]:
        """Carries out many saves over one call, up to `window` at a time, and yields each with its result as it ends.

        Saves of one aggregate are carried out in the order given. A save that fails is yielded with its error and does
        not touch the others. A save without a request id gets a UUIDv7, in the request that is yielded. `saves` is read
        by another thread.

        Raises a PersistdError when the stream breaks; what was not yielded by then may be stored: repeat it with the
        same request id.
        """
        pending: Dict[int, aggregates_pb2.SaveRequest] = {}
        room = threading.Semaphore(window)
        stopped = threading.Event()

        def requests() -> Iterator[aggregates_pb2.SaveStreamRequest]:
            for number, save in enumerate(saves, start=1):
                room.acquire()
                if stopped.is_set():
                    return
                save.request_id = save.request_id or uuid7()
                pending[number] = save
                yield aggregates_pb2.SaveStreamRequest(id=number, save=save)

        call = self._aggregates.SaveStream(requests(), metadata=self._metadata)
        try:
            for answer in call:
                save = pending.pop(answer.id)
                room.release()
                if answer.HasField("saved"):
                    yield save, answer.saved
                else:
                    yield save, from_status(answer.error, is_save=True)
        except grpc.RpcError as broken:
            raise from_rpc_error(broken, is_save=True) from broken
        finally:
            stopped.set()
            room.release()  # Ends a generator that waits for room.
            call.cancel()  # Without effect on a stream that has ended; needed when the caller stops early.

    def load(
        self,
        ref: Ref,
        consistency: Optional[Consistency] = None,
        *,
        version: Optional[int] = None,
        as_of: Optional[datetime.datetime] = None,
        at_least: Optional[types_pb2.Position] = None,
        include_events: Optional[bool] = None,
        use_snapshot: Optional[bool] = None,
        timeout: Optional[float] = None,
    ) -> aggregates_pb2.LoadResponse:
        """Loads an aggregate: its last stored state and the events after it.

        Args:
          ref: the aggregate.
          consistency: what the load must have seen. Default: every acknowledged save.
          version, as_of: load it as it was at this version, or at this time; at most one of them.
          at_least: a position that a save returned: the load has seen it. Implies Consistency.AT_LEAST.
          include_events: False leaves out the events after the state, True returns them also where they were folded.
          use_snapshot: False: from the events alone.
          timeout: the deadline in seconds, instead of the client's.

        Raises:
          NotFound: it does not exist (or, with `detail.deleted`, is deleted).
        """
        request = aggregates_pb2.LoadRequest(ref=to_ref(ref))
        options = request.options
        options.SetInParent()
        if at_least is not None:
            options.at_least.CopyFrom(at_least)
            consistency = Consistency.AT_LEAST
        if consistency is not None:
            options.consistency = int(consistency)
        _set_point_in_time(options, version, as_of)
        if include_events is not None:
            options.include_events = include_events
        if use_snapshot is not None:
            options.use_snapshot = use_snapshot
        return self._call(self._aggregates.Load, request, timeout)

    def batch_load(
        self, refs: Iterable[Ref], *, timeout: Optional[float] = None
    ) -> Iterator[Union[aggregates_pb2.LoadResponse, PersistdError]]:
        """Yields the aggregates in the order asked for, each loaded or with its error. `timeout` bounds all of it."""
        timeout = self._timeout if timeout is None else timeout
        requests = (aggregates_pb2.LoadRequest(ref=to_ref(ref)) for ref in refs)
        call = self._aggregates.BatchLoad(requests, timeout=timeout, metadata=self._metadata)
        try:
            for answer in call:
                yield answer.loaded if answer.HasField("loaded") else from_status(answer.error)
        except grpc.RpcError as broken:
            raise from_rpc_error(broken) from broken
        finally:
            call.cancel()

    def list_aggregates(
        self, *, timeout: Optional[float] = None, **fields: Any
    ) -> Iterator[types_pb2.AggregateMetadata]:
        """Yields what is known of aggregates, page by page; `fields` are those of ListAggregatesRequest."""
        request = aggregates_pb2.ListAggregatesRequest(**fields)
        while True:
            page = self._call(self._aggregates.ListAggregates, request, timeout)
            yield from page.aggregates
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def create_snapshot(
        self,
        ref: Ref,
        version: int = 0,
        state: Optional[Value] = None,
        *,
        state_schema_version: int = 0,
        timeout: Optional[float] = None,
    ) -> aggregates_pb2.Snapshot:
        """Keeps the state of an aggregate at a version (0: the current one), so that later loads are quick."""
        request = aggregates_pb2.CreateSnapshotRequest(
            ref=to_ref(ref), version=version, state_schema_version=state_schema_version
        )
        if state is not None:
            request.state.CopyFrom(to_payload(state))
        return self._call(self._aggregates.CreateSnapshot, request, timeout)

    def list_snapshots(self, ref: Ref, *, timeout: Optional[float] = None) -> Sequence[aggregates_pb2.Snapshot]:
        """Returns the snapshots of an aggregate without their content, newest first."""
        request = aggregates_pb2.ListSnapshotsRequest(ref=to_ref(ref))
        return self._call(self._aggregates.ListSnapshots, request, timeout).snapshots

    def delete_snapshot(self, ref: Ref, version: int, *, timeout: Optional[float] = None) -> None:
        """Deletes a snapshot; events and state stay. Raises NotFound when there is none of that version."""
        request = aggregates_pb2.DeleteSnapshotRequest(ref=to_ref(ref), version=version)
        self._call(self._aggregates.DeleteSnapshot, request, timeout)

    def get_at_version(
        self,
        ref: Ref,
        version: Optional[int] = None,
        *,
        as_of: Optional[datetime.datetime] = None,
        timeout: Optional[float] = None,
    ) -> aggregates_pb2.LoadResponse:
        """Returns an aggregate as it was at a version, or at a time (by when its events were recorded).

        Raises VersionNotFound when it has not reached that version, or did not exist at that time.
        """
        if (version is None) == (as_of is None):
            raise ValueError("give either version or as_of")
        request = aggregates_pb2.GetAtVersionRequest(ref=to_ref(ref))
        _set_point_in_time(request, version, as_of)
        return self._call(self._aggregates.GetAtVersion, request, timeout)

    def get_metadata(self, ref: Ref, *, timeout: Optional[float] = None) -> types_pb2.AggregateMetadata:
        """Returns version, time, tags and the like without payloads. Raises NotFound when it does not exist."""
        request = aggregates_pb2.GetMetadataRequest(ref=to_ref(ref))
        return self._call(self._aggregates.GetMetadata, request, timeout)

    def server_info(self, *, timeout: Optional[float] = None) -> admin_pb2.GetServerInfoResponse:
        """Returns the daemon's version, its limits, and what it stands on."""
        return self._call(self._admin.GetServerInfo, admin_pb2.GetServerInfoRequest(), timeout)

    def create_aggregate_type(
        self,
        context: str,
        aggregate: str,
        settings: Optional[admin_pb2.StreamSettings] = None,
        *,
        timeout: Optional[float] = None,
    ) -> admin_pb2.CreateAggregateTypeResponse:
        """Makes an aggregate type with its streams; one that is there with the same settings is fine.

        Args:
          context, aggregate: its name.
          settings: what its streams are to have of their own. Default: nothing; they follow the daemon's configuration.
          timeout: the deadline in seconds, instead of the client's.

        Raises:
          PersistdError: with reason TYPE_EXISTS when it has other settings.
        """
        request = admin_pb2.CreateAggregateTypeRequest(context=context, aggregate=aggregate, settings=settings)
        return self._call(self._admin.CreateAggregateType, request, timeout)

    def list_aggregate_types(
        self, context: str = "", *, page_size: int = 0, timeout: Optional[float] = None
    ) -> Iterator[admin_pb2.AggregateType]:
        """Yields the aggregate types of a context (default: of all) in the order of their names, page by page."""
        request = admin_pb2.ListAggregateTypesRequest(context=context, page_size=page_size)
        while True:
            page = self._call(self._admin.ListAggregateTypes, request, timeout)
            yield from page.types
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def describe_aggregate_type(
        self, context: str, aggregate: str, *, timeout: Optional[float] = None
    ) -> admin_pb2.DescribeAggregateTypeResponse:
        """Returns a type with its streams, event types and number of aggregates. Raises NotFound when there is none."""
        request = admin_pb2.DescribeAggregateTypeRequest(context=context, aggregate=aggregate)
        return self._call(self._admin.DescribeAggregateType, request, timeout)

    def history(
        self,
        ref: Ref,
        from_version: int = 0,
        to_version: Optional[int] = None,
        reverse: bool = False,
        event_types: Iterable[str] = (),
        *,
        timeout: Optional[float] = None,
    ) -> Iterator[types_pb2.RecordedEvent]:
        """Yields the events with from_version < version <= to_version, oldest first, or newest first with `reverse`.

        A stream that breaks is continued after the last event received, so each event comes exactly once. (What was
        saved after the call began is then seen as well; set `to_version` where that matters.) However long the history
        is, `timeout` bounds only the time in which no event comes.

        Raises NotFound when the aggregate does not exist, Unavailable when it cannot be continued in time.
        """
        request = aggregates_pb2.GetHistoryRequest(
            ref=to_ref(ref), from_version=from_version, to_version=to_version, reverse=reverse, event_types=event_types
        )
        yield from self._stream(self._aggregates.GetHistory, request, "version", timeout)

    def append_to_chain(
        self,
        chain: str,
        content: Optional[Value] = None,
        expected_sequence: Optional[int] = None,
        *,
        metadata: Optional[types_pb2.EventMetadata] = None,
        time: Optional[datetime.datetime] = None,
        request_id: Optional[str] = None,
        timeout: Optional[float] = None,
    ) -> chains_pb2.AppendToChainResponse:
        """Appends an entry to a named chain; the first one makes it.

        Args:
          chain: its name.
          content: see `persistd.to_payload`. None: the entry has none.
          expected_sequence: append only onto exactly this many entries; 0: it must not exist. None: onto any.
          metadata: why and by whom.
          time: when it happened. Default: now, by the daemon's clock.
          request_id: as for `save`.
          timeout: the deadline in seconds, instead of the client's.

        Raises what `save` raises.
        """
        request = chains_pb2.AppendToChainRequest(
            chain=chain, expected_sequence=expected_sequence, metadata=metadata, request_id=request_id or uuid7()
        )
        if content is not None:
            request.content.CopyFrom(to_payload(content))
        if time is not None:
            request.time.FromDatetime(time.astimezone(datetime.timezone.utc))
        return self._call(self._chains.AppendToChain, request, timeout, is_save=True)

    def chain(
        self,
        chain: str,
        from_sequence: int = 0,
        to_sequence: Optional[int] = None,
        reverse: bool = False,
        *,
        timeout: Optional[float] = None,
    ) -> Iterator[chains_pb2.GetChainResponse]:
        """Yields the entries of a named chain with from_sequence < sequence <= to_sequence; goes on as `history` does.

        Raises NotFound when nothing was ever appended to it.
        """
        request = chains_pb2.GetChainRequest(
            chain=chain, from_sequence=from_sequence, to_sequence=to_sequence, reverse=reverse
        )
        yield from self._stream(self._chains.GetChain, request, "sequence", timeout)

    def put_block(
        self,
        data: bytes,
        codec: int = chains_pb2.BLOCK_CODEC_RAW,
        *,
        expected_cid: str = "",
        timeout: Optional[float] = None,
    ) -> chains_pb2.PutBlockResponse:
        """Stores bytes under their CID, which it returns. `codec`: BLOCK_CODEC_RAW or BLOCK_CODEC_DAG_CBOR."""
        request = chains_pb2.PutBlockRequest(data=data, codec=codec, expected_cid=expected_cid)
        return self._call(self._chains.PutBlock, request, timeout)

    def get_block(self, cid: str, *, timeout: Optional[float] = None) -> chains_pb2.GetBlockResponse:
        """Returns the bytes of a block, or of an event's block or payload. Raises NotFound, or DataLoss for others."""
        return self._call(self._chains.GetBlock, chains_pb2.GetBlockRequest(cid=cid), timeout)

    def verify_chain(
        self,
        ref: Optional[Ref] = None,
        *,
        chain: str = "",
        from_version: int = 0,
        to_version: Optional[int] = None,
        expected_head_cid: str = "",
        expected_previous_cid: str = "",
        on_progress: Callable[[chains_pb2.VerifyProgress], None] = lambda progress: None,
        timeout: Optional[float] = None,
    ) -> chains_pb2.ChainVerification:
        """Verifies the history of an aggregate, or of a named chain, and returns what came of it, `valid` or not.

        Args:
          ref: the aggregate; or
          chain: the name of a chain.
          from_version, to_version: verifies the events with from_version < version <= to_version.
          expected_head_cid, expected_previous_cid: CIDs that were kept elsewhere, see chains.proto.
          on_progress: called now and then. Begins anew when the verification has to.
          timeout: the deadline in seconds, instead of the client's. A long history may take minutes.

        Raises NotFound when there is no such history.
        """
        request = chains_pb2.VerifyChainRequest(
            from_version=from_version,
            to_version=to_version,
            expected_head_cid=expected_head_cid,
            expected_previous_cid=expected_previous_cid,
        )
        _set_history(request, ref, chain)

        def verify(request: Any, **options: Any) -> chains_pb2.ChainVerification:
            for answer in self._chains.VerifyChain(request, **options):
                if answer.HasField("result"):
                    return answer.result
                on_progress(answer.progress)
            raise RuntimeError("the daemon ended a verification without a result")

        return self._call(verify, request, timeout)

    def export_car(
        self,
        ref: Optional[Ref] = None,
        *,
        chain: str = "",
        to_version: Optional[int] = None,
        timeout: Optional[float] = None,
    ) -> Iterator[bytes]:
        """Yields a CAR file of a history, piece by piece. It is complete only when the iteration ends by itself.

        Raises NotFound when there is no such history, DataLoss when it is damaged. Nothing is repeated.
        """
        request = chains_pb2.ExportCarRequest(to_version=to_version)
        _set_history(request, ref, chain)
        call = self._chains.ExportCar(
            request, timeout=self._timeout if timeout is None else timeout, metadata=self._metadata
        )
        try:
            for answer in call:
                yield answer.data
        except grpc.RpcError as broken:
            raise from_rpc_error(broken) from broken
        finally:
            call.cancel()

    def _stream(
        self, method: Callable[..., Any], request: Any, number: str, timeout: Optional[float]
    ) -> Iterator[Any]:
        """Yields what a method streams, over as many calls as it takes. `number`: the field that counts its answers."""
        timeout = self._timeout if timeout is None else timeout
        deadline, delays = Deadline(timeout), self._retry.delays()
        while True:
            last = None
            call = method(request, timeout=deadline.remaining(), metadata=self._metadata)
            try:
                for item in call:
                    last = getattr(item, number)
                    yield item
                return
            except grpc.RpcError as broken:
                error, cause = from_rpc_error(broken), broken
            finally:
                call.cancel()  # Without effect on a stream that has ended; needed when the caller stops early.
            continues = error.transient
            if last is not None:
                if _continue_after(request, number, last):
                    return
                deadline, delays = Deadline(timeout), self._retry.delays()
                # The deadline of a gRPC stream covers all of it, also the time that the caller took between two events.
                continues |= isinstance(error, DeadlineExceeded)
            self._wait(error, cause, continues, deadline, delays)

    def _call(
        self, method: Callable[..., Any], request: Any, timeout: Optional[float], *, is_save: bool = False
    ) -> Any:
        deadline, delays = Deadline(self._timeout if timeout is None else timeout), self._retry.delays()
        outcome_unknown = False
        while True:
            try:
                return method(request, timeout=deadline.remaining(), metadata=self._metadata)
            except grpc.RpcError as failed:
                error, cause = from_rpc_error(failed, is_save=is_save), failed
            # One lost answer leaves the outcome open, whatever later attempts are told; except that a conflict is only
            # answered after persistd has looked for this request id.
            outcome_unknown |= error.outcome_unknown
            error.outcome_unknown = outcome_unknown and not isinstance(error, VersionConflict)
            self._wait(error, cause, error.transient, deadline, delays)

    def _wait(
        self, error: PersistdError, cause: grpc.RpcError, again: bool, deadline: Deadline, delays: Iterator[float]
    ) -> None:
        """Waits before the next attempt, or raises `error` when there must be none or no time is left for one."""
        delay = max(next(delays), error.retry_delay)
        if not again or delay >= deadline.remaining():
            raise error from cause
        time.sleep(delay)


def _set_history(request: Any, ref: Optional[Ref], chain: str) -> None:
    if (ref is None) == (not chain):
        raise ValueError("needs an aggregate or the name of a chain")
    if ref is None:
        request.chain = chain
    else:
        request.aggregate.CopyFrom(to_ref(ref))


def _set_point_in_time(message: Any, version: Optional[int], as_of: Optional[datetime.datetime]) -> None:
    if version is not None and as_of is not None:
        raise ValueError("version and as_of exclude each other")
    if version is not None:
        message.version = version
    if as_of is not None:
        message.as_of.FromDatetime(as_of.astimezone(datetime.timezone.utc))


def _continue_after(request: Any, number: str, last: int) -> bool:
    """Moves the request behind the last item received. Returns True when nothing is left to ask for."""
    first, to = f"from_{number}", f"to_{number}"
    if request.reverse:
        setattr(request, to, last - 1)
        return last - 1 <= getattr(request, first)
    setattr(request, first, last)
    return request.HasField(to) and last >= getattr(request, to)
