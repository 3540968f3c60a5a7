"""Blinding by a multiple of the platform's key: what RFC 9497's client computes, at under half of its cost.

::

    RFC 9497, section 3.3.3               here
    r * H(input)                  ->      H(input) + r * T          with T = t * G, the tweaked public key
    1/r * evaluated               ->      evaluated - r * G         since 1/t * (r * T) = r * G

Only multiples of T and of the generator are computed, which a table makes cheap
(`purposematch.protocol.simd.fixed_kernels`), where RFC 9497 multiplies another element each time. What the
platform receives is as before a uniformly random element, whatever the input, and it can not tell the two
apart; what comes out is the same output, byte for byte.

Source: the technique is "multiplicative blinding" of Jarecki, Krawczyk and Xu 2021 ("On the (In)Security of
the Diffie-Hellman Oblivious PRF with Multiplicative Blinding"), who show it weaker where T is not
authenticated or the evaluation is not verified. So the order matters, and is the caller's duty: T comes from
the signed manifest, and `purposematch.protocol.poprf.verify_evaluation` has accepted the proof *before*
`additive_finalize` is called. Then evaluated = 1/t * (H(input) + r * T), and the result is
1/t * H(input) and nothing else.

Not protected against: an answer whose proof was not checked. With the blinding of RFC 9497 such an answer
gives noise; with this one, a platform that chose T and the answer would learn from what the client does
with the output.
"""

from purposematch.protocol.ciphersuite import Suite
from purposematch.protocol.group import Bytes, Elements, Group
from purposematch.protocol.hashing import hash_to_group
from purposematch.protocol.poprf import output_hash
from purposematch.protocol.secret import SecretArray

__all__ = ["additive_blind", "additive_finalize"]


def additive_blind(
    group: Group, suite: Suite, inputs: Bytes, blinds: SecretArray, tweaked: Elements
) -> Elements:
    """Blinds private inputs.

    Args:
        group: the back end.
        suite: the POPRF suite.
        inputs: (n, width).
        blinds: (n, 32), none of them zero, from `purposematch.protocol.poprf.expand_blinds`.
        tweaked: from `purposematch.protocol.poprf.tweaked_public_key`.

    Raises:
        DecodeError: a blind is zero or a sum is the identity, which happens to nobody.
    """
    return group.add_multiples(hash_to_group(group, suite, inputs), blinds, tweaked)


def additive_finalize(
    group: Group, suite: Suite, inputs: Bytes, info: bytes, evaluated: Elements, blinds: SecretArray
) -> Bytes:
    """Unblinds and hashes: the POPRF outputs, (n, 64). The proof must have been verified before.

    Args:
        group: the back end.
        suite: the POPRF suite.
        inputs: as given to `additive_blind`.
        info: the scope's.
        evaluated: what the platform proved, (n).
        blinds: the same as for `additive_blind`.

    Raises:
        DecodeError: as `additive_blind`.
    """
    unblinded = group.add_multiples(evaluated, blinds, negate=True)
    return output_hash(inputs, group.encode(unblinded), info)
