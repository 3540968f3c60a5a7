"""Whether to compute in vector lanes: one rule, for the group and for hashes.

Lanes are used where LLVM compiles for AVX2 or AVX-512 (`purposematch.protocol.simd.processor`), unless the
environment says ``PURPOSEMATCH_GROUP=sodium``; ``PURPOSEMATCH_GROUP=simd`` demands them. What is chosen
changes how long something takes, and never a byte of what comes out. It is not asked about long sums of
public values, which `purposematch.protocol.group.sodium` has computed in lanes on every processor.
"""

import os
from collections.abc import Callable, Mapping
from typing import Final

from purposematch.protocol.errors import ConfigurationError

__all__ = [
    "CACHE_VARIABLE",
    "GROUP_VARIABLE",
    "LANES_FROM",
    "LANES_FROM_READY",
    "announce",
    "announce_with",
    "cache_root",
    "lanes_for",
    "wants_lanes",
]

GROUP_VARIABLE: Final = "PURPOSEMATCH_GROUP"
"""The environment variable that forces the choice: `sodium` or `simd`."""
CACHE_VARIABLE: Final = "PURPOSEMATCH_KERNEL_CACHE"
"""The environment variable that names another folder for compiled kernels; empty for none."""
LANES_FROM: Final = 1_024
"""Messages from which a batch is reason enough to load or compile kernels: hashlib takes about 2 ms for
fewer, and a program that never has more does without."""
LANES_FROM_READY: Final = 32
"""Messages from which lanes are faster once the kernels are ready."""


def cache_root(environ: Mapping[str, str]) -> str:
    """The folder below which this user's compiled kernels are kept, empty where there is no such place.

    Args:
        environ: the environment of the process.
    """
    root = environ.get(CACHE_VARIABLE)
    if root is None:
        home = environ.get("HOME")
        caches = environ.get("XDG_CACHE_HOME") or (os.path.join(home, ".cache") if home else None)
        root = os.path.join(caches, "purposematch") if caches else ""
    return root


def _silent() -> None:
    """Announces nothing."""


_announce: Callable[[], None] = _silent
_ready = False


def wants_lanes(environ: Mapping[str, str]) -> bool:
    """Whether to compute in lanes.

    Args:
        environ: the environment of the process.

    Raises:
        ConfigurationError: the environment names no back end, or lanes, which are not to be had here.
    """
    named = environ.get(GROUP_VARIABLE, "")
    if named == "sodium":
        return False
    if named not in ("", "simd"):
        raise ConfigurationError(f"{GROUP_VARIABLE} is neither simd nor sodium")
    # numba takes half a second to import; who uses libsodium does not need it.
    from purposematch.protocol.simd.processor import INSTRUCTIONS

    if INSTRUCTIONS is None and named:
        raise ConfigurationError("the simd back end needs AVX2 or AVX-512, which is not to be had here")
    return INSTRUCTIONS is not None


def announce_with(told: Callable[[], None]) -> None:
    """Has `told` called before kernels are compiled, which takes seconds, once for a processor.

    It is called in the thread that needs a kernel first, of the group or of a hash.
    """
    global _announce
    _announce = told


def announce() -> None:
    """Tells whoever asked by `announce_with` that kernels are being compiled."""
    _announce()


def lanes_for(count: int) -> bool:
    """Whether to hash a batch of `count` messages in lanes; if so, the kernels are ready afterwards.

    Raises:
        ConfigurationError: see `wants_lanes`.
    """
    global _ready
    if count < (LANES_FROM_READY if _ready else LANES_FROM) or not wants_lanes(os.environ):
        return False
    if _ready:
        return True
    from purposematch.protocol.simd import hash_kernels
    from purposematch.protocol.simd.kernel import cache_folder, prepare

    prepare(cache_folder(os.environ), announce)
    _ready = hash_kernels.sha256_messages.ready and hash_kernels.sha512_messages.ready
    return _ready
