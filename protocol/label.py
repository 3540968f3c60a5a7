"""The label of a list: what a client calls it, so that the same question is answered alike and paid once.

HMAC-SHA-256 over the sorted digests, under a key that the client keeps. The platform learns from labels which
sessions had the same list for the same change of an audience, and nothing of the list: without the key it can
not try any. It takes a label as it comes. Whoever sends one list under two labels pays twice, and whoever
sends two lists under one label is given the first one's answer again: neither tells more than was paid for.

Not protected against: a lost key. Lists have other labels then, and the same question is paid again.
"""

import hmac
from hashlib import sha256
from typing import Final, Self

import numpy as np

from purposematch.protocol.audience import USUAL_CHANGE, AudienceChange
from purposematch.protocol.ciphersuite import AUDIENCE_LABEL_DOMAIN, LABEL_DOMAIN
from purposematch.protocol.group import Bytes, RandomBytes
from purposematch.protocol.secret import Secret, reveal

__all__ = ["LABEL_LENGTH", "LabelKey", "list_label"]

LABEL_LENGTH: Final = 32
"""Bytes of a label."""


class LabelKey(Secret):
    """The key under which a client labels its lists."""

    @classmethod
    def generate(cls, random_bytes: RandomBytes) -> Self:
        """A fresh one."""
        return cls(random_bytes(cls.LENGTH))


def list_label(key: LabelKey, inputs: Bytes, change: AudienceChange = USUAL_CHANGE) -> bytes:
    """The label of a list, 32 bytes; order and repetition of its rows change nothing.

    A list that changes another audience, or otherwise, asks something else: its session is to happen.

    Args:
        key: the client's.
        inputs: (n, width) uint8, C-contiguous: kind byte and digest of every identifier.
        change: what the session does to which audience; the usual one leaves no trace in the label.
    """
    width = inputs.shape[1]
    # Strings of one length are ordered byte by byte; that NumPy takes zeros at an end off changes no order.
    rows = np.sort(inputs.view(f"S{width}").reshape(-1))
    first = np.ones(len(rows), np.bool_)
    np.not_equal(rows[1:], rows[:-1], out=first[1:])
    domain = LABEL_DOMAIN if change == USUAL_CHANGE else AUDIENCE_LABEL_DOMAIN + change.label_bytes()
    mac = hmac.new(reveal(key), domain, sha256)
    mac.update(rows[first].view(np.uint8).data)
    return mac.digest()
