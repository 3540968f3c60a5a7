"""The prime-order group ristretto255 (RFC 9496) behind one small interface.

`Group` is what the protocol computes with, always on whole batches; `SodiumGroup` is the reference back
end. All back ends give identical bytes.
"""

from purposematch.protocol.group.interface import Bytes, Elements, Group, RandomBytes, SecretScalar
from purposematch.protocol.group.sodium import SodiumGroup

__all__ = ["Bytes", "Elements", "Group", "RandomBytes", "SecretScalar", "SodiumGroup"]
