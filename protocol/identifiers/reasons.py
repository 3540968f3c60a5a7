"""Why a value is no identifier: a closed set of syntactic reasons, with advice for the owner of the row.

Every reason can be told to whoever delivered the row, because it depends on the row alone: none of them says
anything about another party's list. Reasons of the gate are another set, in the gate's own module.
"""

from enum import IntEnum, unique

__all__ = ["IdentifierReason"]


@unique
class IdentifierReason(IntEnum):
    """Why a value has no canonical form, as one unsigned byte. The numbers are stored: never reuse one."""

    USABLE = 0
    """Nothing is wrong: the value has a canonical form."""
    EMPTY = 1
    """There is no value, or nothing but white space."""
    TOO_LONG = 2
    """The value or its canonical form has more than `MAX_VALUE_BYTES` bytes of UTF-8."""
    NOT_UNICODE = 3
    """The bytes are not UTF-8, or the text holds a lone surrogate."""
    CONTROL_CHARACTER = 4
    """A control character (Unicode category Cc, so NUL too) stands inside the value."""
    INNER_WHITESPACE = 5
    """White space stands inside an e-mail address and the profile does not keep it."""
    PLACEHOLDER = 6
    """A word that systems write where there is no value, such as ``null``, or a well-known test address."""
    LOOKS_PREHASHED = 7
    """A column of raw values holds what looks like a SHA-256 digest."""
    EMAIL_SYNTAX = 10
    """An e-mail address without exactly one ``@``, or without a domain."""
    EMAIL_LOCAL_EMPTY = 11
    """Nothing stands before the ``@``, or nothing is left there under the profile's rule."""
    PHONE_SYNTAX = 20
    """No phone number can be read from the value."""
    PHONE_REGION_MISSING = 21
    """A phone number without ``+``, and no region was declared."""
    PHONE_NOT_POSSIBLE = 22
    """A number that can not be dialled from abroad: too short or too long for its country, or local only."""
    PHONE_EXTENSION = 23
    """A phone number with an extension, which reaches an office and not one person."""
    MAID_SYNTAX = 30
    """A mobile advertising id that is no UUID written as 8-4-4-4-12 hexadecimal digits."""
    MAID_ZERO = 31
    """The UUID of zeros that devices return when advertising is limited: many people share it."""
    HASH_MD5 = 40
    """A pre-hashed value of 32 hexadecimal digits."""
    HASH_SHA1 = 41
    """A pre-hashed value of 40 hexadecimal digits."""
    HASH_0X_PREFIX = 42
    """A pre-hashed value that begins with ``0x``."""
    HASH_BASE64_OF_HEX = 43
    """Base64 of the hexadecimal text of a digest in place of base64 of its 32 bytes."""
    HASH_SYNTAX = 44
    """A pre-hashed value that is neither 64 hexadecimal digits nor base64 of exactly 32 bytes."""
    HASH_OF_PLACEHOLDER = 45
    """The digest of the empty text, of a word such as ``null`` or of a well-known test address."""

    @property
    def label(self) -> str:
        """The name in reports, in lower case."""
        return self.name.lower()

    @property
    def advice(self) -> str:
        """One sentence that tells the owner of the row what to do."""
        return _ADVICE[self]


_ADVICE = {
    IdentifierReason.USABLE: "Nothing needs to be done.",
    IdentifierReason.EMPTY: "Fill in the value or drop the row.",
    IdentifierReason.TOO_LONG: "Check that the columns are not shifted: an identifier has at most 512 bytes.",
    IdentifierReason.NOT_UNICODE: "Export the file again as UTF-8.",
    IdentifierReason.CONTROL_CHARACTER: "Remove tabs, line breaks and other control characters.",
    IdentifierReason.INNER_WHITESPACE: "Remove the white space inside the e-mail address.",
    IdentifierReason.PLACEHOLDER: "Leave the field empty where there is no value.",
    IdentifierReason.LOOKS_PREHASHED: "Declare the column as pre-hashed, or deliver the raw value.",
    IdentifierReason.EMAIL_SYNTAX: "Write the e-mail address as one local part, one @ and one domain.",
    IdentifierReason.EMAIL_LOCAL_EMPTY: "Write the part of the e-mail address before the @.",
    IdentifierReason.PHONE_SYNTAX: "Write the phone number in E.164: + and digits only.",
    IdentifierReason.PHONE_REGION_MISSING: "Write the phone number with + or declare the region.",
    IdentifierReason.PHONE_NOT_POSSIBLE: "Check the number: it can not be dialled from abroad.",
    IdentifierReason.PHONE_EXTENSION: "Deliver a phone number without an extension.",
    IdentifierReason.MAID_SYNTAX: "Write the mobile advertising id as a UUID with dashes.",
    IdentifierReason.MAID_ZERO: "Drop the id: its owner has limited advertising on the device.",
    IdentifierReason.HASH_MD5: "Hash with SHA-256: this looks like MD5.",
    IdentifierReason.HASH_SHA1: "Hash with SHA-256: this looks like SHA-1.",
    IdentifierReason.HASH_0X_PREFIX: "Write the digest without 0x in front.",
    IdentifierReason.HASH_BASE64_OF_HEX: "Encode the digest's 32 bytes as base64, not its hexadecimal text.",
    IdentifierReason.HASH_SYNTAX: "Write SHA-256 as 64 hexadecimal digits or as 44 characters of base64.",
    IdentifierReason.HASH_OF_PLACEHOLDER: "Hash only real values: leave the field empty where there is none.",
}
