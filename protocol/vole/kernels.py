"""The kernels of the VOLE engine: compiled on demand, and kept apart from those of the group.

What `purposematch.protocol.simd.kernel` says of kernels holds here as well. They are not among the kernels
that a group prepares, so that who never matches by VOLE never compiles them, and their cache has a name that
hashes the sources of both packages.
"""

import hashlib
import os
from collections.abc import Callable, Mapping
from typing import Any

from purposematch.protocol.simd import kernel as simd
from purposematch.protocol.simd.choice import cache_root
from purposematch.protocol.simd.kernel import Kernel, cache_key

__all__ = ["cache_folder", "prepare", "vole_kernel"]

_kernels: list[Kernel] = []


def vole_kernel(signature: str) -> Callable[[Callable[..., Any]], Kernel]:
    """Makes a function a kernel of the engine with this numba signature."""

    def decorate(function: Callable[..., Any]) -> Kernel:
        made = Kernel(function, signature)
        _kernels.append(made)
        return made

    return decorate


def prepare(folder: str | None, announce: Callable[[], None] = lambda: None) -> None:
    """Makes all kernels of the engine callable.

    Args:
        folder: where compiled kernels are kept, or None to compile them for this process only.
        announce: called once before anything is compiled, and not at all when everything is loaded.
    """
    simd.prepare(folder, announce, _kernels)


def cache_folder(environ: Mapping[str, str]) -> str | None:
    """Where this user's compiled kernels of the engine are kept, or None where there is no such place.

    Args:
        environ: the environment of the process.
    """
    root = cache_root(environ)
    if not root:
        return None
    keys = cache_key() + cache_key(os.path.dirname(__file__))
    return os.path.join(root, f"vole-{hashlib.sha256(keys.encode()).hexdigest()[:32]}")
