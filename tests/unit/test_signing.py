"""Signed documents: pinned key, one kind each, one spelling each, and nothing outside the error tree."""

import contextlib
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey
from samples import IDENTITY, OTHER_IDENTITY, flip, grant, manifest, noisy_report, receipt

from purposematch.protocol.ciphersuite import (
    MANIFEST_DOMAIN,
    NOISY_REPORT_DOMAIN,
    RECEIPT_DOMAIN,
    SESSION_DOMAIN,
)
from purposematch.protocol.errors import DecodeError, PeerError, VerificationError
from purposematch.protocol.manifest import Manifest
from purposematch.protocol.messages import Receipt, SessionGrant
from purposematch.protocol.noisy_report import NoisyReport
from purposematch.protocol.secret import reveal
from purposematch.protocol.signing import (
    MAX_DOCUMENT_LENGTH,
    IdentitySeed,
    SignedDocument,
    identity_public_key,
    open_document,
    sign_document,
)

PUBLIC = identity_public_key(IDENTITY)
DOMAINS = {
    Manifest: MANIFEST_DOMAIN,
    SessionGrant: SESSION_DOMAIN,
    Receipt: RECEIPT_DOMAIN,
    NoisyReport: NOISY_REPORT_DOMAIN,
}
SIGNED: dict[Any, SignedDocument] = {
    Manifest: manifest().sign(IDENTITY),
    SessionGrant: grant().sign(IDENTITY),
    Receipt: receipt().sign(IDENTITY),
    NoisyReport: noisy_report().sign(IDENTITY),
}
kinds = pytest.mark.parametrize("kind", DOMAINS)


def sign_bytes(domain: bytes, content: bytes) -> SignedDocument:
    """Signs any bytes as a dishonest platform could, from the description of the signature alone."""
    key = SigningKey(reveal(IDENTITY))
    return SignedDocument(content, key.sign(len(domain).to_bytes(2, "big") + domain + content).signature)


def test_the_signature_is_ed25519_over_the_framed_domain_and_the_canonical_json() -> None:
    document = sign_document(IDENTITY, b"kind", {"b": 1, "a": [True, None, "\u00e9"]})
    assert document == sign_bytes(b"kind", b'{"a":[true,null,"\\u00e9"],"b":1}')
    assert open_document(PUBLIC, b"kind", document, "test") == {"a": [True, None, "\u00e9"], "b": 1}


def test_the_public_key_is_the_one_of_rfc_8032() -> None:
    # Section 7.1, test 1.
    seed = IdentitySeed(bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"))
    expected = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    assert identity_public_key(seed).hex() == expected


def test_a_generated_identity_takes_32_bytes_from_its_source() -> None:
    assert IdentitySeed.generate(lambda n: b"\7" * n) == IdentitySeed(b"\7" * 32)


@kinds
@pytest.mark.parametrize("other", DOMAINS)
def test_a_document_of_one_kind_never_opens_as_another(kind: Any, other: Any) -> None:
    if kind is other:
        assert isinstance(kind.open(SIGNED[kind], PUBLIC), kind)
    else:
        with pytest.raises(VerificationError):
            other.open(SIGNED[kind], PUBLIC)


def test_a_domain_does_not_run_into_the_content() -> None:
    document = sign_bytes(b"kind", b'{"a":1}')
    for domain, content in ((b"kin", b'd{"a":1}'), (b'kind{"a":1}', b""), (b"kind{", b'"a":1}')):
        with pytest.raises(VerificationError):
            open_document(PUBLIC, domain, SignedDocument(content, document.signature), "test")


@kinds
@given(bit=st.integers(0, 511))
def test_a_flipped_bit_in_a_signature_is_refused(kind: Any, bit: int) -> None:
    document = SIGNED[kind]
    with pytest.raises(VerificationError):
        kind.open(SignedDocument(document.content, flip(document.signature, bit)), PUBLIC)


@kinds
@given(data=st.data())
def test_a_flipped_bit_in_the_content_is_refused(kind: Any, data: st.DataObject) -> None:
    document = SIGNED[kind]
    bit = data.draw(st.integers(0, 8 * len(document.content) - 1))
    with pytest.raises(VerificationError):
        kind.open(SignedDocument(flip(document.content, bit), document.signature), PUBLIC)


@kinds
@given(bit=st.integers(0, 255))
def test_a_flipped_bit_in_the_pinned_key_is_refused(kind: Any, bit: int) -> None:
    with pytest.raises(VerificationError):
        kind.open(SIGNED[kind], flip(PUBLIC, bit))


@kinds
def test_another_identity_is_refused(kind: Any) -> None:
    with pytest.raises(VerificationError):
        kind.open(SIGNED[kind], identity_public_key(OTHER_IDENTITY))


def test_a_key_of_small_order_signs_nothing() -> None:
    # With the neutral element as key, R = neutral and S = 0 would satisfy the bare equation.
    neutral = b"\1" + bytes(31)
    with pytest.raises(VerificationError):
        open_document(neutral, b"kind", SignedDocument(b'{"a":1}', neutral + bytes(32)), "test")


def test_a_signature_with_an_unreduced_scalar_is_refused() -> None:
    document = sign_bytes(b"kind", b'{"a":1}')
    order = 2**252 + 27742317777372353535851937790883648493
    scalar = int.from_bytes(document.signature[32:], "little") + order
    changed = SignedDocument(document.content, document.signature[:32] + scalar.to_bytes(32, "little"))
    with pytest.raises(VerificationError):
        open_document(PUBLIC, b"kind", changed, "test")


@kinds
@pytest.mark.parametrize("length", [0, 1, 63, 65, 128])
def test_a_signature_of_another_length_is_refused(kind: Any, length: int) -> None:
    with pytest.raises(DecodeError):
        kind.open(SignedDocument(SIGNED[kind].content, bytes(length)), PUBLIC)


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_a_key_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(DecodeError):
        open_document(bytes(length), b"kind", sign_bytes(b"kind", b"{}"), "test")


def test_a_document_has_a_largest_length() -> None:
    content = b'{"a":"' + b"x" * (MAX_DOCUMENT_LENGTH - 8) + b'"}'
    assert len(content) == MAX_DOCUMENT_LENGTH
    open_document(PUBLIC, b"kind", sign_bytes(b"kind", content), "test")
    longer = content[:-2] + b'x"}'
    with pytest.raises(DecodeError, match="longer"):
        open_document(PUBLIC, b"kind", sign_bytes(b"kind", longer), "test")


OTHER_SPELLINGS: dict[str, Any] = {
    "a space after a colon": lambda text: text.replace(":", ": ", 1),
    "a space after a comma": lambda text: text.replace(",", ", ", 1),
    "a line feed at the end": lambda text: text + "\n",
    "a line feed at the beginning": lambda text: "\n" + text,
    "indentation": lambda text: json.dumps(json.loads(text), indent=1, sort_keys=True),
    "names in another order": lambda text: json.dumps(
        dict(reversed(json.loads(text).items())), separators=(",", ":")
    ),
    "a name twice": lambda text: "{" + text[1:].split(",", 1)[0] + "," + text[1:],
    "an escaped letter": lambda text: text.replace('"agreement"', '"\\u0061greement"').replace(
        '"additions"', '"\\u0061dditions"'
    ),
    "a float": lambda text: re.sub(r":(\d+)", r":\1.0", text, count=1),
    "an exponent": lambda text: re.sub(r":(\d+)", r":\1e0", text, count=1),
    "a byte order mark": lambda text: "\ufeff" + text,
    "a second document": lambda text: text + text,
    "nothing": lambda text: "",
    "a cut": lambda text: text[:-1],
}


@kinds
@pytest.mark.parametrize("spelling", OTHER_SPELLINGS.values(), ids=list(OTHER_SPELLINGS))
def test_another_spelling_of_the_same_document_is_refused_although_it_is_signed(
    kind: Any, spelling: Any
) -> None:
    text = SIGNED[kind].content.decode()
    changed = spelling(text)
    assert changed != text
    with pytest.raises(DecodeError):
        kind.open(sign_bytes(DOMAINS[kind], changed.encode()), PUBLIC)


NOT_OBJECTS = [
    *(b"", b"null", b"true", b"1", b"[]", b'"text"', b"{", b"{}}", b"\xff", b"\x00", b"\xef\xbb\xbf{}"),
    *(b'{"a":1e999}', b'{"a":NaN}', b'{"a":Infinity}', b'{"a":-1e999}', b'{"a":' + b"9" * 5000 + b"}"),
    *(b'{"a":' + b"[" * 100_000, b"[" * 100_000 + b"]" * 100_000, b'{"a":' * 2000 + b"1" + b"}" * 2000),
    *(b'{"a":1.0}\n', b"{'a':1}", b'{"a":01}', b'{"a":+1}', b'{"a":1,}', b'{"\\ud800":1,"\\ud800":1}'),
]


@kinds
@pytest.mark.parametrize("content", NOT_OBJECTS, ids=range(len(NOT_OBJECTS)))
def test_signed_bytes_that_are_no_canonical_object_are_refused(kind: Any, content: bytes) -> None:
    with pytest.raises(DecodeError):
        kind.open(sign_bytes(DOMAINS[kind], content), PUBLIC)
    with pytest.raises(DecodeError):
        open_document(PUBLIC, b"kind", sign_bytes(b"kind", content), "test")


@kinds
@given(content=st.binary(max_size=300), signature=st.binary(max_size=70), key=st.binary(max_size=40))
def test_opening_arbitrary_bytes_raises_nothing_outside_the_error_tree(
    kind: Any, content: bytes, signature: bytes, key: bytes
) -> None:
    for public in (PUBLIC, key):
        with pytest.raises(PeerError):
            kind.open(SignedDocument(content, signature), public)
        with pytest.raises(PeerError):
            kind.open(SignedDocument(content, signature.ljust(64, b"\0")[:64]), public)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@kinds
@given(data=st.data())
def test_opening_arbitrary_signed_json_raises_nothing_outside_the_error_tree(
    kind: Any, data: st.DataObject
) -> None:
    fields = json.loads(SIGNED[kind].content)
    name = data.draw(st.sampled_from(sorted(fields)))
    value = data.draw(json_values)
    if value == fields[name]:
        return
    fields[name] = value
    for content in (fields, value):
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        opened = None
        # The signature holds, so that only the form can be wrong.
        with contextlib.suppress(DecodeError):
            opened = kind.open(sign_bytes(DOMAINS[kind], text.encode()), PUBLIC)
        # Another small number may be as valid as the one it replaces, and a manifest may have no lists.
        assert opened is None or type(value) is int or (name, value) == ("point_lists", {})
