"""What a partner brings a list with: its own certificate, the advertiser's agreement, and the delegation.

An advertiser's papers lie in a folder of their own below the partner's credentials, where
`purposematch delegation accept` puts them; the ones with the highest numbers count.

Not protected against: as `credentials`.
"""

from datetime import datetime
from pathlib import Path

from cryptography import x509

from purposematch.client.credentials import Credentials, MemberCredentials, load_agreement, read_file
from purposematch.protocol.credentials import (
    CLIENT_CERTIFICATE_FILE,
    DELEGATION_FILE,
    PlatformPin,
    delegation_file,
    on_behalf_folder,
)
from purposematch.protocol.delegation import DelegationDocument, OnBehalf
from purposematch.protocol.errors import ConfigurationError, DecodeError, PeerError

__all__ = ["holder_name", "load_partner"]


def load_partner(
    folder: Path | str, advertiser: str, list_name: str, now: datetime | None = None
) -> Credentials:
    """Reads a partner's folder, to bring a list for an advertiser.

    Args:
        folder: as the platform wrote it, with what `purposematch delegation accept` put there.
        advertiser: for whom.
        list_name: one of the lists that the delegation names.
        now: see `MemberCredentials.load`.

    Raises:
        ConfigurationError: as `MemberCredentials.load`; or the advertiser has delegated nothing to this
            partner, or not this list.
    """
    folder = Path(folder)
    member = MemberCredentials.load(folder, now)
    known = member.pin
    try:
        pin = PlatformPin(known.platform_id, known.identity_key, known.server_name, advertiser)
    except DecodeError as error:
        raise ConfigurationError(str(error)) from None
    there = folder / on_behalf_folder(advertiser)
    document = load_agreement(there, pin) if there.is_dir() else None
    if document is None or document.acceptance is None:
        raise ConfigurationError(
            f"{folder}: holds no delegation of {advertiser}; take one up with purposematch delegation "
            f"accept DELEGATION AGREEMENT --credentials {folder}"
        )
    delegation = _delegation(there, pin, document.acceptance.key, holder_name(member)).delegation
    try:
        on_behalf = OnBehalf(delegation, list_name)
    except DecodeError as error:
        raise ConfigurationError(f"{error}; it names {', '.join(delegation.lists)}") from None
    return Credentials(
        authority=member.authority,
        certificate=member.certificate,
        fingerprint=member.fingerprint,
        key=member.key,
        pin=pin,
        agreement=document.agreement,
        on_behalf=on_behalf,
        folder=folder,
    )


def holder_name(member: MemberCredentials) -> str:
    """The name in the URI of a client certificate.

    Raises:
        ConfigurationError: it has none.
    """
    leaf = x509.load_pem_x509_certificates(member.certificate)[0]
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        (uri,) = names.get_values_for_type(x509.UniformResourceIdentifier)
    except (x509.ExtensionNotFound, ValueError):
        raise ConfigurationError(
            f"{CLIENT_CERTIFICATE_FILE} does not say whose it is; ask the platform for fresh credentials"
        ) from None
    return uri.rpartition("/")[2]


def _delegation(folder: Path, pin: PlatformPin, key: bytes, partner: str) -> DelegationDocument:
    """The delegation with the highest number in a folder, its signature checked.

    Args:
        folder: the one for the advertiser in a partner's credentials.
        pin: the platform, and the advertiser.
        key: with which the advertiser accepted its agreement, 32 bytes.
        partner: whose credentials these are.

    Raises:
        ConfigurationError: there is none, it is damaged, of somebody else, or its signature does not hold.
    """
    found = (DELEGATION_FILE.fullmatch(path.name) for path in folder.iterdir())
    number = max((int(name[1]) for name in found if name), default=None)
    if number is None:
        raise ConfigurationError(f"{folder}: holds no delegation; ask {pin.advertiser} for one")
    path = folder / delegation_file(number)
    try:
        document = DelegationDocument.decode(read_file(path))
        document.check(key)
    except PeerError as error:
        raise ConfigurationError(f"{path}: {error}; ask {pin.advertiser} for another one") from None
    signed = document.delegation
    if (signed.platform_id, signed.advertiser, signed.partner) != (pin.platform_id, pin.advertiser, partner):
        raise ConfigurationError(f"{path}: this is a delegation of {signed.advertiser} to {signed.partner}")
    return document
