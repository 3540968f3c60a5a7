"""The prime-order group ristretto255 (RFC 9496) behind one small interface.

`Group` is what the protocol computes with, always on whole batches. `SodiumGroup` is the reference back end
and runs everywhere; `purposematch.protocol.group.simd` is a multiple of its speed and needs AVX2 or AVX-512.
Both give identical bytes; `default_group` chooses, and lends lanes to libsodium for sums of public products.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from purposematch.protocol.group.interface import Bytes, Elements, Group, RandomBytes, SecretScalar
from purposematch.protocol.group.sodium import SodiumGroup
from purposematch.protocol.simd.choice import GROUP_VARIABLE, announce, wants_lanes

if TYPE_CHECKING:
    from purposematch.protocol.group.lanes import PublicLanes

__all__ = [
    "GROUP_VARIABLE",
    "Bytes",
    "Elements",
    "Group",
    "RandomBytes",
    "SecretScalar",
    "SodiumGroup",
    "default_group",
]


def default_group(threads: int | None, environ: Mapping[str, str]) -> Group:
    """The fastest back end for this processor, or the one that the environment names.

    Args:
        threads: how many threads share a batch; None for all cores.
        environ: the environment of the process, for `GROUP_VARIABLE` and the place of the kernel cache.

    Raises:
        ConfigurationError: the named back end does not exist, or can not be used on this processor.
    """
    if not wants_lanes(environ):
        return SodiumGroup(threads, lambda: _lanes(threads, environ))
    # numba takes half a second to import; who uses libsodium for small batches does not need it.
    from purposematch.protocol.group.simd import SimdGroup
    from purposematch.protocol.simd.kernel import cache_folder

    return SimdGroup(threads, cache_folder(environ), announce)


def _lanes(threads: int | None, environ: Mapping[str, str]) -> "PublicLanes":
    from purposematch.protocol.group.lanes import PublicLanes
    from purposematch.protocol.simd.kernel import cache_folder

    return PublicLanes(threads, cache_folder(environ), announce)
