"""Finds the generated messages and stubs.

They are on the path already under Bazel (//proto:persistence_py). Outside it, `client/python/generate` writes them into
`client/python/build`, which this module then adds to the path.
"""

import pathlib
import sys

try:
    import cim.persistence.v1.types_pb2  # noqa: F401, the question is only whether it is there
except ModuleNotFoundError as missing:
    _build = pathlib.Path(__file__).resolve().parent.parent / "build"
    if not (_build / "cim" / "persistence" / "v1" / "types_pb2.py").is_file():
        raise ImportError(f"the generated code is missing from {_build}: run client/python/generate") from missing
    sys.path.append(str(_build))

from cim.persistence.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    aggregates_pb2,
    aggregates_pb2_grpc,
    chains_pb2,
    chains_pb2_grpc,
    errors_pb2,
    types_pb2,
)

__all__ = [
    "admin_pb2",
    "admin_pb2_grpc",
    "aggregates_pb2",
    "aggregates_pb2_grpc",
    "chains_pb2",
    "chains_pb2_grpc",
    "errors_pb2",
    "types_pb2",
]
