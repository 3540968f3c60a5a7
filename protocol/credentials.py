"""What the platform hands those whom it certifies: the names of the files and the format of `platform.json`.

The folder holds the authority that signs the platform's server certificate, the advertiser's client
certificate and key, and the pin: who the advertiser is at this platform, the platform's Ed25519 identity key,
and the server's name. A client checks every manifest against the pinned key; a key made for one client only
would make the proofs of the POPRF worthless. The agreements that both sides signed lie beside them, each in a
file of its own; the one with the highest number counts. Collectors, operators and auditors have none.

Not protected against: the folder being replaced on its way to the advertiser. Both sides should compare
the identity key over another channel.
"""

import json
import re
from dataclasses import dataclass
from typing import Any, Final, Self

from purposematch.protocol.agreement import check_advertiser_name
from purposematch.protocol.errors import DecodeError
from purposematch.protocol.scope import check_platform_id
from purposematch.protocol.strict_json import Fields, decode_json

__all__ = [
    "AGREEMENT_FILE",
    "AUTHORITY_FILE",
    "CLIENT_CERTIFICATE_FILE",
    "CLIENT_KEY_FILE",
    "DELEGATION_FILE",
    "LABEL_KEY_FILE",
    "MAX_PIN_BYTES",
    "PIN_FILE",
    "SIGNING_KEY_FILE",
    "MemberPin",
    "PlatformPin",
    "agreement_file",
    "delegation_file",
    "delegation_revocation_file",
    "on_behalf_folder",
]

AGREEMENT_FILE: Final = re.compile(r"agreement-([1-9][0-9]{0,6})\.json")
"""The name of a file with an agreement that both sides signed, and its number."""

DELEGATION_FILE: Final = re.compile(r"delegation-([1-9][0-9]{0,6})\.json")
"""The name of a file with a delegation that an advertiser signed, and its number."""

AUTHORITY_FILE: Final = "ca.pem"
"""The certificate of the authority that signs the platform's server certificate, PEM."""

CLIENT_CERTIFICATE_FILE: Final = "client.pem"
"""The advertiser's client certificate, PEM."""

CLIENT_KEY_FILE: Final = "client.key"
"""The private key of the client certificate, PEM (PKCS #8), mode 0600."""

LABEL_KEY_FILE: Final = "label.key"
"""The key under which the client labels its lists: 64 hexadecimal digits, made by the client, mode 0600."""

PIN_FILE: Final = "platform.json"
"""The encoded `PlatformPin` of an advertiser, `MemberPin` of everybody else."""

SIGNING_KEY_FILE: Final = "signing.key"
"""The seed of the advertiser's signing key, 64 hexadecimal digits, mode 0600."""

PIN_VERSION: Final = 2
"""The version of the format, the only one there is."""

IDENTITY_KEY_BYTES: Final = 32
"""The length of an Ed25519 public key."""

MAX_PIN_BYTES: Final = 65_536
"""The longest `platform.json` that is read, in bytes."""

_IDENTITY_KEY_HEX: Final = re.compile(r"[0-9a-f]{64}")
_SERVER_NAME: Final = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9.-]*[a-z0-9])?")


_MEMBER_FIELDS: Final = ("version", "platform_id", "identity_key", "server_name")


def agreement_file(number: int) -> str:
    """The name of the file with the agreement of that number."""
    return f"agreement-{number}.json"


def delegation_file(number: int) -> str:
    """The name of the file with the delegation of that number."""
    return f"delegation-{number}.json"


def delegation_revocation_file(number: int) -> str:
    """The name of the file with the revocation of that delegation."""
    return f"delegation-{number}.revocation.json"


def on_behalf_folder(advertiser: str) -> str:
    """The name of the folder in which a partner keeps an advertiser's agreement and delegations."""
    return f"for-{advertiser}"


@dataclass(frozen=True, slots=True)
class MemberPin:
    """What everybody must know of a platform before it is trusted.

    Attributes:
        platform_id: the id of the platform.
        identity_key: the platform's Ed25519 public key, 32 bytes.
        server_name: the DNS name in the server's certificate, whatever address is dialled.

    Raises:
        DecodeError: a field is not of its form.
    """

    platform_id: str
    identity_key: bytes
    server_name: str

    def __post_init__(self) -> None:
        """Checks every field."""
        check_platform_id(self.platform_id)
        if len(self.identity_key) != IDENTITY_KEY_BYTES:
            raise DecodeError(f"the identity key of a platform is {IDENTITY_KEY_BYTES} bytes long")
        if _SERVER_NAME.fullmatch(self.server_name) is None:
            raise DecodeError("the server name of a platform is a lower-case DNS name")

    def to_mapping(self) -> dict[str, object]:
        """The fields as JSON has them."""
        return {
            "version": PIN_VERSION,
            "platform_id": self.platform_id,
            "identity_key": self.identity_key.hex(),
            "server_name": self.server_name,
        }

    def encode(self) -> bytes:
        """The content of `platform.json`: indented JSON, because people read it too."""
        return json.dumps(self.to_mapping(), indent=2).encode("ascii") + b"\n"

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """The pin in the content of a `platform.json`; white space may differ, nothing else.

        Raises:
            DecodeError: `data` is anything but a pin of version `PIN_VERSION`.
        """
        return cls(**_member_values(_fields(data, _MEMBER_FIELDS)))


@dataclass(frozen=True, slots=True)
class PlatformPin(MemberPin):
    """What an advertiser's client must know of a platform before it trusts anything that it sends.

    Attributes:
        advertiser: what this advertiser is called there.

    Raises:
        DecodeError: a field is not of its form.
    """

    advertiser: str

    def __post_init__(self) -> None:
        """Checks every field."""
        # Without arguments, `super` does not know a class that was made again for its slots.
        MemberPin.__post_init__(self)
        check_advertiser_name(self.advertiser)

    def to_mapping(self) -> dict[str, object]:
        """The fields as JSON has them."""
        return MemberPin.to_mapping(self) | {"advertiser": self.advertiser}

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """The pin in the content of a `platform.json`; white space may differ, nothing else.

        Raises:
            DecodeError: `data` is anything but a pin of version `PIN_VERSION`.
        """
        fields = _fields(data, (*_MEMBER_FIELDS, "advertiser"))
        return cls(**_member_values(fields), advertiser=fields.text("advertiser"))


def _fields(data: bytes, names: tuple[str, ...]) -> Fields:
    fields = Fields(decode_json(data, PIN_FILE, MAX_PIN_BYTES), PIN_FILE, names)
    if fields.integer("version") != PIN_VERSION:
        raise DecodeError(f"{PIN_FILE} has another version than {PIN_VERSION}: update purposematch")
    return fields


def _member_values(fields: Fields) -> dict[str, Any]:
    identity_key = fields.text("identity_key")
    if _IDENTITY_KEY_HEX.fullmatch(identity_key) is None:
        raise DecodeError(f"identity_key of {PIN_FILE} is not 64 lower-case hexadecimal digits")
    return {
        "platform_id": fields.text("platform_id"),
        "identity_key": bytes.fromhex(identity_key),
        "server_name": fields.text("server_name"),
    }
