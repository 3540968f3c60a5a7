"""Whether the VOLE engine can be used here, and how its two sides are made.

The engine needs AES-NI and vector lanes (AVX2 or AVX-512). On a processor without them, or where the
environment chooses libsodium (``PURPOSEMATCH_GROUP=sodium``), it is not available and says why; nothing is
compiled then, because LLVM aborts the process when it meets an instruction it can not emit. Its kernels are
compiled, or loaded, when an engine is prepared or a party first computes, never with those of the group.

Semi-honest, experimental, no published proof.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, final

from purposematch.protocol.errors import ConfigurationError
from purposematch.protocol.group import Group, RandomBytes
from purposematch.protocol.simd.choice import GROUP_VARIABLE, announce, wants_lanes
from purposematch.protocol.vole.parameters import Parameters

if TYPE_CHECKING:
    from purposematch.protocol.vole.party import Items
    from purposematch.protocol.vole.receiver import Receiver
    from purposematch.protocol.vole.sender import Sender

__all__ = ["Engine", "open_engine", "why_unavailable"]


def why_unavailable(environ: Mapping[str, str]) -> str | None:
    """Why there is no VOLE engine here, as a sentence for people; None if there is one.

    Args:
        environ: the environment of the process.

    Raises:
        ConfigurationError: the environment names no back end, or lanes, which are not to be had here.
    """
    if not wants_lanes(environ):
        if environ.get(GROUP_VARIABLE) == "sodium":
            return f"the VOLE engine computes in vector lanes, and {GROUP_VARIABLE} is sodium"
        return "the VOLE engine needs a processor with AVX2 or AVX-512"
    from purposematch.protocol.simd.processor import FEATURES

    return None if "aes" in FEATURES else "the VOLE engine needs a processor with AES-NI"


def open_engine(group: Group, environ: Mapping[str, str]) -> "Engine":
    """The engine for this processor.

    Args:
        group: for the base oblivious transfers.
        environ: the environment of the process.

    Raises:
        ConfigurationError: there is none; the text says why.
    """
    reason = why_unavailable(environ)
    if reason is not None:
        raise ConfigurationError(reason)
    from purposematch.protocol.simd import kernel
    from purposematch.protocol.vole import kernels

    # What parties need is imported here, so that its kernels are known when they are prepared.
    from purposematch.protocol.vole import receiver as receiver
    from purposematch.protocol.vole import sender as sender

    return Engine(group, kernel.cache_folder(environ), kernels.cache_folder(environ), announce)


@final
class Engine:
    """Makes the parties of matches; made by `open_engine`.

    Args:
        group: for the base oblivious transfers.
        shared_cache: the folder for compiled kernels that others use as well, or None.
        cache: that of the engine's own kernels, or None.
        announce: called before kernels are compiled, which takes about ten seconds, once for a processor.
    """

    def __init__(
        self, group: Group, shared_cache: str | None, cache: str | None, announce: Callable[[], None]
    ) -> None:
        """Compiles nothing."""
        self._group = group
        self._shared_cache = shared_cache
        self._cache = cache
        self._announce = announce

    def prepare(self) -> None:
        """Compiles the kernels or loads them; the second time it does nothing."""
        from purposematch.protocol.simd import hash_kernels, kernel
        from purposematch.protocol.vole import kernels

        self._group.prepare()
        kernel.prepare(self._shared_cache, self._announce_once, [hash_kernels.sha256_messages])
        kernels.prepare(self._cache, self._announce_once)

    def _announce_once(self) -> None:
        told, self._announce = self._announce, lambda: None
        told()

    def receiver(self, sizes: Parameters, items: "Items", binding: bytes, random: RandomBytes) -> "Receiver":
        """The side that learns the intersection; see `Receiver`.

        Raises:
            LimitError: there are more items than declared.
            ValueError: the items are not (n, 33) bytes.
        """
        from purposematch.protocol.vole.receiver import Receiver

        self.prepare()
        return Receiver(sizes, items, binding, random, self._group)

    def sender(
        self,
        sizes: Parameters,
        items: "Items",
        binding: bytes,
        random: RandomBytes,
        labels: "Items | None" = None,
    ) -> "Sender":
        """The side that learns the receiver's size only; see `Sender`.

        Raises:
            LimitError: there are more items than declared.
            ValueError: the items are not (n, 33) bytes, or the labels do not fit.
        """
        from purposematch.protocol.vole.sender import Sender

        self.prepare()
        return Sender(sizes, items, binding, random, self._group, labels)
