"""Kernels: numba functions over whole batches, compiled once and kept in a cache on disk.

A kernel has one signature, calls steps, releases the GIL, and never compiles anything when it is called:
`prepare` compiles kernels before their first use, or loads them. numba's own cache watches only the file
that defines a kernel and would go on using machine code made from an old step; here the name of the folder is
a hash over every source of this package, the versions of numba, llvmlite and Python, and what LLVM compiles
for.

What is loaded is machine code, so a cache is only used where its folder belongs to this user and nobody
else may write to it. Without such a folder (a read-only home) kernels are compiled in every process.
"""

import hashlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import Any, final

import llvmlite
import llvmlite.binding
import numba
from numba.core import config
from numba.core.caching import CompileResultCacheImpl, FunctionCache, _CacheLocator

from purposematch.protocol.simd.choice import cache_root
from purposematch.protocol.simd.processor import FEATURES, LANES

__all__ = ["Kernel", "cache_folder", "cache_key", "kernel", "kernels", "prepare"]

_kernels: "list[Kernel]" = []
_preparing = Lock()


@final
class Kernel:
    """A numba function of one signature.

    Args:
        function: what numba compiles.
        signature: its numba signature.
    """

    def __init__(self, function: Callable[..., Any], signature: str) -> None:
        """Compiles nothing yet."""
        self.name = function.__name__
        self.signature = signature
        self.dispatcher = numba.njit(nogil=True, error_model="numpy", boundscheck=False)(function)

    def __call__(self, *arguments: Any) -> Any:
        """Runs it; `prepare` must have been called."""
        return self.dispatcher(*arguments)

    def compile(self) -> None:
        """Loads it from the cache or compiles it; afterwards no call compiles anything."""
        self.dispatcher.compile(self.signature)
        self.dispatcher.disable_compile()

    @property
    def ready(self) -> bool:
        """Whether it can be called."""
        return bool(self.dispatcher.signatures)


def kernel(signature: str) -> Callable[[Callable[..., Any]], Kernel]:
    """Makes a function a kernel with this numba signature."""

    def decorate(function: Callable[..., Any]) -> Kernel:
        made = Kernel(function, signature)
        _kernels.append(made)
        return made

    return decorate


def kernels() -> tuple[Kernel, ...]:
    """All kernels of the modules that have been imported."""
    return tuple(_kernels)


def prepare(
    folder: str | None, announce: Callable[[], None] = lambda: None, wanted: Sequence[Kernel] | None = None
) -> None:
    """Makes kernels callable.

    Args:
        folder: where compiled kernels are kept, or None to compile them for this process only.
        announce: called once before anything is compiled, and not at all when everything is loaded.
        wanted: which; all of the modules that have been imported if not given.
    """
    with _preparing:
        waiting = [one for one in (_kernels if wanted is None else wanted) if not one.ready]
        if not waiting:
            return
        usable = folder is not None and _private(folder)
        announced = False
        for one in waiting:
            cached = usable and _use_cache(one, str(folder))
            if not cached and not announced:
                announce()
                announced = True
            one.compile()


def cache_folder(environ: Mapping[str, str]) -> str | None:
    """Where this user's compiled kernels are kept, or None where there is no such place.

    Args:
        environ: the environment of the process.
    """
    root = cache_root(environ)
    return os.path.join(root, f"kernels-{cache_key()}") if root else None


def cache_key(source: str = os.path.dirname(__file__)) -> str:
    """A hash of everything that compiled kernels depend on, 32 hexadecimal digits.

    Args:
        source: the folder of the generator's sources.
    """
    processor = config.CPU_NAME or llvmlite.binding.get_host_cpu_name()
    parts = [numba.__version__, llvmlite.__version__, sys.version, processor, *sorted(FEATURES), str(LANES)]
    digest = hashlib.sha256("\0".join(parts).encode())
    for name in sorted(os.listdir(source)):
        if name.endswith(".py"):
            with open(os.path.join(source, name), "rb") as file:
                content = file.read()
            digest.update(f"\0{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:32]


def _private(folder: str) -> bool:
    """Makes the folder if need be; false where it can not be written or somebody else could write to it."""
    try:
        os.makedirs(os.path.dirname(folder), exist_ok=True)
        os.makedirs(folder, mode=0o700, exist_ok=True)
        status = os.stat(folder)
    except OSError:
        return False
    own = not hasattr(os, "getuid") or (status.st_uid == os.getuid() and not status.st_mode & 0o022)
    return own and os.access(folder, os.W_OK | os.X_OK)


def _use_cache(one: Kernel, folder: str) -> bool:
    """Gives a kernel its cache in `folder`; true if the cache holds it already."""

    class Locator(_CacheLocator):  # type: ignore[misc]
        """Puts every kernel into the one folder, whose name stands for all sources."""

        def get_cache_path(self) -> str:
            return folder

        def get_source_stamp(self) -> str:
            return folder

        def get_disambiguator(self) -> str:
            return "kernel"

        @classmethod
        def from_function(cls, function: object, file: object) -> "Locator":
            return cls()

    class Implementation(CompileResultCacheImpl):  # type: ignore[misc]
        _locator_classes = (Locator,)

    class Cache(FunctionCache):  # type: ignore[misc]
        _impl_class = Implementation

    # numba has no public way to give one function a cache of its own.
    one.dispatcher._cache = Cache(one.dispatcher.py_func)
    return os.path.exists(one.dispatcher._cache._cache_file._index_path)
