#!/bin/sh
# Runs a Python test with Debian's Python, which has grpcio, whatever `python3` is first on the PATH.
# Usage: run_python.sh TEST.py [ARGUMENT...], in the runfiles of its Bazel target.
set -eu

export PYTHONPATH=proto:client/python:client/python/examples:tests/client/python
exec /usr/bin/python3 -B "$@"
