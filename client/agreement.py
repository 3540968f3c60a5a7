"""Accepting an agreement: the advertiser's half of what both sides sign.

The signing key is made here, in the credentials folder, and never leaves it; it is needed for nothing else,
so it may be kept elsewhere between two agreements. Agreements are kept side by side, each in its file; the
highest number counts.

Not protected against: whoever can read the folder can accept in the advertiser's name.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from purposematch.client.credentials import load_advertiser_pin, load_agreement
from purposematch.client.key_file import key_in, write_new
from purposematch.protocol.agreement import Agreement
from purposematch.protocol.agreement_document import MAX_AGREEMENT_BYTES, AgreementDocument
from purposematch.protocol.credentials import SIGNING_KEY_FILE, agreement_file
from purposematch.protocol.errors import ConfigurationError, InputError, PeerError, RefusedError
from purposematch.protocol.group import RandomBytes
from purposematch.protocol.leak_sheet import leak_sheet
from purposematch.protocol.signing import AdvertiserSeed, advertiser_public_key

__all__ = ["SIGNING_KEY", "AcceptedAgreement", "accept_agreement"]

SIGNING_KEY: Final = "signing key"
"""What error texts call it."""


@dataclass(frozen=True, slots=True)
class AcceptedAgreement:
    """An agreement, the file with both signatures, and the public key that accepted it, 32 bytes."""

    agreement: Agreement
    path: Path
    key: bytes


def accept_agreement(
    offer: Path,
    credentials: Path,
    *,
    random_bytes: RandomBytes,
    show_sheet: Callable[[str], object],
) -> AcceptedAgreement:
    """Checks an offer, shows what it gives away, and signs it into the credentials folder.

    Args:
        offer: the file that the platform made.
        credentials: the credentials folder.
        random_bytes: the source of a new signing key.
        show_sheet: called with the leak sheet before anything is signed; what it raises ends it.

    Raises:
        InputError: the file is no offer of this platform to this advertiser.
        RefusedError: an agreement with this number, or a later one, was accepted before.
        ConfigurationError: the folder cannot be used.
    """
    if not credentials.is_dir():
        raise ConfigurationError(f"{credentials}: there is no such credentials folder")
    pin = load_advertiser_pin(credentials)
    try:
        with offer.open("rb") as file:
            document = AgreementDocument.decode(file.read(MAX_AGREEMENT_BYTES + 1))
        document.check_offer(pin.identity_key)
    except OSError as error:
        raise InputError(f"{offer}: cannot be read: {error.strerror}") from None
    except PeerError as error:
        raise InputError(f"{offer}: {error}") from None
    agreement = document.agreement
    if (agreement.platform_id, agreement.advertiser) != (pin.platform_id, pin.advertiser):
        raise InputError(
            f"{offer}: offered by {agreement.platform_id} to {agreement.advertiser}, and these credentials "
            f"are of {pin.advertiser} at {pin.platform_id}"
        )
    held = load_agreement(credentials, pin)
    if held is not None and held.agreement.number >= agreement.number:
        raise RefusedError(
            f"agreement {held.agreement.number} was accepted already; this one has number {agreement.number}"
        )
    show_sheet(leak_sheet(agreement, None))
    seed = key_in(credentials / SIGNING_KEY_FILE, AdvertiserSeed, SIGNING_KEY, random_bytes)
    path = credentials / agreement_file(agreement.number)
    write_new(path, document.accept(seed).encode(), 0o644)
    return AcceptedAgreement(agreement, path, advertiser_public_key(seed))
