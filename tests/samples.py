"""Small valid documents and batches for tests of the protocol."""

import hashlib
import ssl
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from purposematch.protocol.agreement import LATEST_EXPIRY, Agreement, Disclosure
from purposematch.protocol.canary import CANARY_COUNT
from purposematch.protocol.group import Bytes
from purposematch.protocol.identifiers import Kind, Profile
from purposematch.protocol.index import Segment
from purposematch.protocol.manifest import Manifest
from purposematch.protocol.messages import Receipt, SessionGrant
from purposematch.protocol.noisy_report import NoisyReport
from purposematch.protocol.point_segments import PointSegment
from purposematch.protocol.scope import Scope
from purposematch.protocol.signing import IdentitySeed

IDENTITY = IdentitySeed(bytes(range(32)))
OTHER_IDENTITY = IdentitySeed(bytes(range(1, 33)))

SCOPE = Scope("birdsite", "marketing.advertising.third_party.targeted", Profile.PLAIN, 7)
AGREEMENT = Agreement(
    platform_id="birdsite",
    advertiser="acme",
    legal_entity="acme",
    number=1,
    purpose="marketing.advertising.third_party.targeted",
    profile=Profile.PLAIN,
    disclosure=Disclosure.BOTH,
    expires_at=LATEST_EXPIRY,
    min_list_elements=1,
)

NOISY_AGREEMENT = replace(
    AGREEMENT, disclosure=Disclosure.COUNT, release_epsilon=250_000, identifiers_per_subject=2
)


def rows(items: Iterable[bytes], width: int = 32) -> Bytes:
    """A batch of byte strings of one width."""
    return np.frombuffer(b"".join(items), np.uint8).reshape(-1, width).copy()


def uniform(count: int, width: int, label: str = "uniform") -> Bytes:
    """Arbitrary but fixed bytes, (count, width)."""
    return rows((hashlib.shake_256(f"{label} {i}".encode()).digest(width) for i in range(count)), width)


def private_input(number: int, kind: int = Kind.EMAIL) -> bytes:
    """The private input of an invented identifier."""
    return bytes([kind]) + hashlib.sha256(b"identifier %d" % number).digest()


def private_inputs(numbers: Iterable[int]) -> Bytes:
    """The private inputs of invented identifiers, (n, 33)."""
    return rows(map(private_input, numbers), 33)


def flip(content: bytes, bit: int) -> bytes:
    """`content` with one bit changed."""
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def without_key(certificate: x509.Certificate) -> bytes:
    """A certificate in PEM that parses, with bytes in the place of its key that are no point of the curve."""
    der = certificate.public_bytes(Encoding.DER)
    point = certificate.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    at = der.index(point) + len(point) - 1
    changed = der[:at] + bytes([der[at] ^ 1]) + der[at + 1 :]
    return ssl.DER_cert_to_PEM_cert(changed).encode()


def manifest() -> Manifest:
    """A manifest of two segments, one addition and two lists of points; each holds its 64 canaries."""
    return Manifest(
        generation=bytes.fromhex("0123456789abcdeffedcba9876543210"),
        scope=SCOPE,
        public_key=bytes.fromhex("e2f2ae0a6abc4e71a884a961c500515f58e30b6aa582dd8db6a65945e08d2d76"),
        count=100 + 120 + 80 - 2 * CANARY_COUNT,
        watermark=bytes.fromhex("05" * 32),
        published_at=1_700_000_000_000_000,
        valid_until=1_700_086_400_000_000,
        policy=b"\xaa" * 32,
        taxonomy=b"\xbb" * 32,
        segments=(Segment(100, b"\x01" * 32), Segment(120, b"\x02" * 32)),
        additions=(Segment(80, b"\x03" * 32),),
        point_lists={
            "count-2": (PointSegment(200, b"\x04" * 32), PointSegment(64, b"\x06" * 32)),
            "platform": (PointSegment(172 + CANARY_COUNT, b"\x07" * 32),),
        },
    )


def grant() -> SessionGrant:
    """A session grant whose fields all differ."""
    return SessionGrant(
        session=b"\x10" * 16,
        agreement=b"\x11" * 32,
        manifest=b"\x12" * 32,
        client_certificate=b"\x13" * 32,
        server_certificate=b"\x14" * 32,
        list_size=1000,
        max_batch_elements=4096,
        window=8,
    )


def receipt() -> Receipt:
    """A receipt whose fields all differ."""
    return Receipt(
        session=b"\x20" * 16,
        commit=b"\x21" * 16,
        generation=b"\x22" * 16,
        agreement=b"\x23" * 32,
        transcript=b"\x24" * 32,
        received=12,
        committed_at=1_700_000_000_000_001,
    )


def noisy_report() -> NoisyReport:
    """A noisy report whose fields all differ."""
    return NoisyReport(
        session=b"\x30" * 16,
        agreement=b"\x31" * 32,
        legal_entity="holding",
        label=b"\x32" * 32,
        generation=b"\x33" * 16,
        policy=b"\x34" * 32,
        disclosure=Disclosure.COUNT,
        sensitivity=2,
        epsilon=300_000,
        list_size=20_000,
        value=1_230,
        released_at=1_700_000_000_000_002,
    )
