"""Identifiers for requests."""

import os
import time
import uuid


def uuid7() -> str:
    """Returns a fresh UUIDv7 (RFC 9562, section 5.7): 48 bits of Unix time in milliseconds, then 74 random bits.

    persistd recognises a repeated save without any time limit when its request id is a UUIDv7, because the id itself
    says how far back in the aggregate's history the first attempt can be.
    """
    milliseconds = time.time_ns() // 1_000_000
    number = milliseconds << 80 | int.from_bytes(os.urandom(10), "big")
    number = number & ~(0xF << 76) | 7 << 76
    number = number & ~(0x3 << 62) | 2 << 62
    return str(uuid.UUID(int=number))
