"""The Merkle tree of RFC 6962 section 2.1, word for word and recursively: what the fast one is compared with.

It shares no code with the package, and no thought: lists are cut as the RFC cuts them.
"""

from hashlib import sha256


def root(data: list[bytes]) -> bytes:
    """MTH(D[n])."""
    n = len(data)
    if n == 0:
        return sha256(b"").digest()
    if n == 1:
        return sha256(b"\x00" + data[0]).digest()
    k = _k(n)
    return sha256(b"\x01" + root(data[:k]) + root(data[k:])).digest()


def path(m: int, data: list[bytes]) -> list[bytes]:
    """PATH(m, D[n])."""
    n = len(data)
    if n == 1:
        return []
    k = _k(n)
    if m < k:
        return [*path(m, data[:k]), root(data[k:])]
    return [*path(m - k, data[k:]), root(data[:k])]


def proof(m: int, data: list[bytes]) -> list[bytes]:
    """PROOF(m, D[n]) for 0 < m < n."""
    return _subproof(m, data, True)


def _subproof(m: int, data: list[bytes], known: bool) -> list[bytes]:
    n = len(data)
    if m == n:
        return [] if known else [root(data)]
    k = _k(n)
    if m <= k:
        return [*_subproof(m, data[:k], known), root(data[k:])]
    return [*_subproof(m - k, data[k:], False), root(data[:k])]


def _k(n: int) -> int:
    """The largest power of two smaller than n."""
    k = 1
    while 2 * k < n:
        k *= 2
    return k
