"""Delegations: an advertiser signs one for a partner, or takes it back; a partner takes one up.

The advertiser keeps what it signed beside its agreements, numbered; the platform gets a copy to record, and
the partner a copy with the agreement under which it will match.

Not protected against: whoever can read the advertiser's folder can delegate in its name.
"""

from collections.abc import Sequence
from pathlib import Path

from purposematch.client.agreement import SIGNING_KEY
from purposematch.client.credentials import MemberCredentials, load_advertiser_pin, load_agreement
from purposematch.client.key_file import key_in, write_new
from purposematch.client.partner_credentials import holder_name
from purposematch.protocol.agreement import Agreement
from purposematch.protocol.agreement_document import MAX_AGREEMENT_BYTES, AgreementDocument
from purposematch.protocol.credentials import (
    DELEGATION_FILE,
    SIGNING_KEY_FILE,
    agreement_file,
    delegation_file,
    delegation_revocation_file,
    on_behalf_folder,
)
from purposematch.protocol.delegation import (
    MAX_DELEGATION_BYTES,
    Delegation,
    DelegationDocument,
    DelegationRevocation,
)
from purposematch.protocol.errors import ConfigurationError, DecodeError, InputError, PeerError
from purposematch.protocol.signing import AdvertiserSeed

__all__ = ["accept_delegation", "delegate", "revoke_own_delegation"]


def delegate(
    credentials: Path,
    partner: str,
    lists: Sequence[str],
    *,
    expires_at: int | None,
    max_list_elements: int | None,
) -> tuple[Delegation, Path]:
    """Signs a delegation under the agreement in an advertiser's folder, and the file that it is in.

    Args:
        credentials: the advertiser's folder, with agreement and signing key.
        partner: the name that the platform gave the partner.
        lists: names of the lists that it may bring.
        expires_at: microseconds since 1970; None for the end of the agreement, which is the latest.
        max_list_elements: of a list at most; None for the agreement's bound, which is the largest.

    Raises:
        ConfigurationError: the folder has no agreement, or no signing key, or can not be written.
        InputError: something is not of its form, or exceeds the agreement.
    """
    agreement, key = _own_agreement(credentials)
    seed = key_in(credentials / SIGNING_KEY_FILE, AdvertiserSeed, SIGNING_KEY)
    try:
        delegation = Delegation(
            platform_id=agreement.platform_id,
            advertiser=agreement.advertiser,
            number=1 + max(_numbers(credentials), default=0),
            partner=partner,
            purpose=agreement.purpose,
            lists=tuple(sorted(set(lists))),
            max_list_elements=agreement.max_list_elements if max_list_elements is None else max_list_elements,
            expires_at=agreement.expires_at if expires_at is None else expires_at,
        )
    except DecodeError as error:
        raise InputError(str(error)) from None
    if delegation.expires_at > agreement.expires_at:
        raise InputError("the delegation would outlast the agreement: choose an earlier end")
    if delegation.max_list_elements > agreement.max_list_elements:
        raise InputError(f"the agreement allows lists of at most {agreement.max_list_elements:,} identifiers")
    document = DelegationDocument.sign(delegation, seed)
    if document.key != key:
        raise ConfigurationError(
            f"{credentials / SIGNING_KEY_FILE} is not the key that accepted agreement {agreement.number}"
        )
    path = credentials / delegation_file(delegation.number)
    write_new(path, document.encode(), 0o644)
    return delegation, path


def revoke_own_delegation(credentials: Path, number: int) -> Path:
    """Signs the revocation of a delegation, and the file that it is in.

    Args:
        credentials: the advertiser's folder, with the delegation and the signing key.
        number: the delegation's.

    Raises:
        ConfigurationError: the folder lacks one of them, or can not be written.
    """
    delegation = _delegation(credentials / delegation_file(number), ConfigurationError).delegation
    seed = key_in(credentials / SIGNING_KEY_FILE, AdvertiserSeed, SIGNING_KEY)
    revocation = DelegationRevocation.sign(delegation, seed)
    path = credentials / delegation_revocation_file(number)
    write_new(path, revocation.encode(), 0o644)
    return path


def accept_delegation(delegation: Path, agreement: Path, credentials: Path) -> tuple[Delegation, Path]:
    """Checks what an advertiser handed over and puts it into a partner's folder, and where it is.

    Args:
        delegation: the file of the delegation.
        agreement: the file of the advertiser's agreement, which both sides signed.
        credentials: the partner's folder.

    Raises:
        InputError: a signature does not hold, or they are of another platform, partner or advertiser.
        ConfigurationError: the folder can not be used or written, or has another delegation of that number.
    """
    member = MemberCredentials.load(credentials)
    document = _delegation(delegation, InputError)
    signed = document.delegation
    try:
        agreed = AgreementDocument.decode(_read(agreement, MAX_AGREEMENT_BYTES, InputError))
        acceptance = agreed.check_both(member.pin.identity_key)
        document.check(acceptance.key)
    except PeerError as error:
        raise InputError(f"{error}; nothing was taken up") from None
    terms = agreed.agreement
    if (signed.platform_id, signed.partner) != (member.pin.platform_id, holder_name(member)):
        raise InputError(f"{delegation}: is for {signed.partner} at {signed.platform_id}")
    if (terms.platform_id, terms.advertiser) != (signed.platform_id, signed.advertiser):
        raise InputError(f"{agreement}: is not an agreement of {signed.advertiser}")
    folder = credentials / on_behalf_folder(signed.advertiser)
    try:
        folder.mkdir(0o700, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"{folder}: cannot be made: {error.strerror}") from None
    path = folder / delegation_file(signed.number)
    # With another agreement, the same delegation is taken up again.
    for place, content in (
        (folder / agreement_file(terms.number), agreed.encode()),
        (path, document.encode()),
    ):
        if not place.exists() or _read(place, len(content), ConfigurationError) != content:
            write_new(place, content, 0o644)
    return signed, path


def _own_agreement(credentials: Path) -> tuple[Agreement, bytes]:
    """The agreement in an advertiser's folder, and the key that accepted it."""
    if not credentials.is_dir():
        raise ConfigurationError(f"{credentials}: there is no such credentials folder")
    document = load_agreement(credentials, load_advertiser_pin(credentials))
    if document is None or document.acceptance is None:
        raise ConfigurationError(f"{credentials}: holds no agreement to delegate under")
    return document.agreement, document.acceptance.key


def _numbers(folder: Path) -> list[int]:
    found = (DELEGATION_FILE.fullmatch(path.name) for path in folder.iterdir())
    return [int(name[1]) for name in found if name]


def _delegation(path: Path, kind: type[InputError]) -> DelegationDocument:
    try:
        return DelegationDocument.decode(_read(path, MAX_DELEGATION_BYTES, kind))
    except PeerError as error:
        raise kind(f"{path}: {error}") from None


def _read(path: Path, most: int, kind: type[InputError]) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(most + 1)
    except OSError as error:
        raise kind(f"{path}: cannot be read: {error.strerror}") from None
