"""Signed documents inside the JSON of this side's own files, such as receipts.

Not protected against: nothing is verified here. Whoever takes a document out of a file checks its signature.
"""

from typing import Final

from purposematch.protocol.signing import MAX_DOCUMENT_LENGTH, SIGNATURE_LENGTH, SignedDocument
from purposematch.protocol.strict_json import Fields, canonical_object, decode_json

__all__ = ["document_mapping", "mapped_document"]

_FIELDS: Final = ("content", "signature")


def document_mapping(document: SignedDocument) -> dict[str, object]:
    """A signed document as a JSON object, whose content is an object in it.

    Raises:
        DecodeError: its content is not JSON.
    """
    content = decode_json(document.content, "signed document", MAX_DOCUMENT_LENGTH)
    return {"content": content, "signature": document.signature.hex()}


def mapped_document(value: object) -> SignedDocument:
    """What `document_mapping` made; not verified.

    Raises:
        DecodeError: it is anything else.
    """
    fields = Fields(value, "signed document", _FIELDS)
    content = canonical_object(fields.value("content"), "content of a signed document")
    return SignedDocument(content, fields.hexadecimal("signature", SIGNATURE_LENGTH))
