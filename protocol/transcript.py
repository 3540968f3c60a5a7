"""What a session binds itself to, and the MACs that commit its matches.

The transcript hash covers the agreement, the session, the signed manifest, both certificates and, for a
partner, the delegation, so that
a commit made for one of them proves nothing under another. An advertiser commits a match by its tag and
``HMAC-SHA-256(token, transcript hash)`` truncated to 16 bytes: only somebody who had the identifier
evaluated knows the token, while everybody who downloaded the index knows the tags.

Not protected against: an advertiser that commits identifiers it guessed and had evaluated; quota bounds
that.
"""

import hashlib
import hmac

import numpy as np

from purposematch.protocol.batch_hash import hmac_sha256_keys
from purposematch.protocol.ciphersuite import TAG_LENGTH, TOKEN_LENGTH, TRANSCRIPT_DOMAIN
from purposematch.protocol.errors import VerificationError
from purposematch.protocol.group import Bytes
from purposematch.protocol.match_engine import MatchEngine
from purposematch.protocol.messages import MAC_LENGTH, SessionGrant
from purposematch.protocol.secret import SecretArray, reveal_array

__all__ = ["commit_macs", "split_output", "transcript_hash", "verify_commit_macs"]


def transcript_hash(grant: SessionGrant) -> bytes:
    """SHA-256 over all that the session is bound to, 32 bytes; every field has a fixed length.

    The delegation is left out of an advertiser's own session. The name of the engine comes last, and is left
    out for the usual one; it is shorter than a delegation.
    """
    return hashlib.sha256(
        TRANSCRIPT_DOMAIN
        + grant.agreement
        + grant.session
        + grant.manifest
        + grant.client_certificate
        + grant.server_certificate
        + (grant.delegation or b"")
        + (b"" if grant.engine is MatchEngine.OPRF else grant.engine.encode("ascii"))
    ).digest()


def split_output(output: Bytes) -> tuple[Bytes, SecretArray]:
    """Tags (n, 16) and tokens (n, 32) of POPRF outputs (n, 64)."""
    return output[:, :TAG_LENGTH], SecretArray(output[:, TAG_LENGTH : TAG_LENGTH + TOKEN_LENGTH])


def commit_macs(tokens: SecretArray, transcript: bytes) -> Bytes:
    """The MAC of every token over the transcript hash, (n, 16)."""
    return np.ascontiguousarray(hmac_sha256_keys(reveal_array(tokens), transcript)[:, :MAC_LENGTH])


def verify_commit_macs(tokens: SecretArray, macs: Bytes, transcript: bytes) -> None:
    """Checks every MAC, in constant time.

    Raises:
        VerificationError: at least one does not hold.
    """
    if not hmac.compare_digest(commit_macs(tokens, transcript).tobytes(), macs.tobytes()):
        raise VerificationError("a commit holds a MAC that its token does not give")
