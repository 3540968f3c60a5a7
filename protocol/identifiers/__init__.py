"""Identifiers: raw or pre-hashed values in, canonical forms and digests out.

A profile is a named, versioned rule. All of them trim Unicode white space first and refuse what is empty,
longer than 512 bytes, not Unicode, a placeholder or a digest, or holds control characters. Then:

========= =============================================== ============================================
profile   e-mail                                          phone
========= =============================================== ============================================
plain-v1  NFC and Unicode lower case, no inner white      E.164 with ``+``
          space
uid2-v1   ASCII lower case; gmail.com: no dots, no        E.164 with ``+``, at least 10 digits
          ``+suffix``
google-v1 Unicode lower case, no inner white space;       E.164 with ``+``; without a region digits
          gmail.com and googlemail.com: no dots, no       alone are read as if they had a ``+``
          ``+suffix``
meta-v1   Unicode lower case                              E.164 without ``+``
x-v1      Unicode lower case                              E.164 with ``+``
pair-v1   ASCII lower case                                E.164 with ``+``
========= =============================================== ============================================

A mobile advertising id is a lower-case UUID with dashes under every profile. Every canonical form is a fixed
point of its profile (for meta-v1 phones with the ``+`` put back). Sources: docs/protocol.md and the vendors'
published rules; cases from their documentation are in tests/vectors/normalization.json.

Does not protect the values: a digest of a phone number is found again by trying all phone numbers.
"""

from purposematch.protocol.identifiers.canonical import Canonical
from purposematch.protocol.identifiers.columns import (
    IdentifierColumn,
    canonical_value,
    canonicalize,
    digest_prehashed,
    digest_raw,
    hash_canonical,
    other_profile_digests,
    private_inputs,
    write_private_inputs,
)
from purposematch.protocol.identifiers.kinds import CANARY_KIND, Kind, Profile
from purposematch.protocol.identifiers.prehashed import digest_of_prehashed
from purposematch.protocol.identifiers.raw import MAX_VALUE_BYTES
from purposematch.protocol.identifiers.reasons import IdentifierReason

__all__ = [
    "CANARY_KIND",
    "MAX_VALUE_BYTES",
    "Canonical",
    "IdentifierColumn",
    "IdentifierReason",
    "Kind",
    "Profile",
    "canonical_value",
    "canonicalize",
    "digest_of_prehashed",
    "digest_prehashed",
    "digest_raw",
    "hash_canonical",
    "other_profile_digests",
    "private_inputs",
    "write_private_inputs",
]
