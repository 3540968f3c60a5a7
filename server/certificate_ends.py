"""When certificates end, told in time: those in `tls/` here, those of the peers by the registry.

Not protected against: a certificate of the chain that a peer shows beside its own, which only it has.
"""

from datetime import datetime
from typing import Final

from purposematch.protocol.errors import ConfigurationError
from purposematch.server.data_dir import DataDir
from purposematch.server.pki import load_certified_key, read_certificates
from purposematch.server.times import microseconds, moment

__all__ = ["NOTICE_MICROSECONDS", "ending", "file_ends", "file_warnings", "is_ending"]

_DAY: Final = 86_400_000_000

NOTICE_MICROSECONDS: Final = 30 * _DAY
"""How long before its end a certificate is told of."""

_REMEDY: Final = "issue another one, see docs/certificates.md"


def is_ending(ends: int, now: int) -> bool:
    """Whether a certificate is to be told of. Times are microseconds since 1970, here and below."""
    return ends - now < NOTICE_MICROSECONDS


def ending(ends: int, now: int) -> str:
    """How that is said."""
    return f"ends in {(ends - now) // _DAY} days" if now < ends else "has ended"


def file_ends(data_dir: DataDir) -> dict[str, int]:
    """When the certificates in `tls/` end: `server`, the first of its chain; `authority`, the last one.

    While one authority takes the place of another, the old one may end.

    Raises:
        ConfigurationError: a file is missing or not what it should be.
    """
    load_certified_key(data_dir.server_certificate, data_dir.server_key)
    chain = read_certificates(data_dir.server_certificate)
    authorities = read_certificates(data_dir.authority_certificate)
    ends: dict[str, datetime] = {
        "server": min(each.not_valid_after_utc for each in chain),
        "authority": max(each.not_valid_after_utc for each in authorities),
    }
    return {name: microseconds(time) for name, time in ends.items()}


def file_warnings(data_dir: DataDir, now: int) -> list[tuple[str, str]]:
    """What is wrong with the certificates in `tls/`, or will soon be, each with what to do about it."""
    try:
        ends = file_ends(data_dir)
    except ConfigurationError as error:
        return [(str(error), _REMEDY)]
    found = []
    for name, time in ends.items():
        if is_ending(time, now):
            after = "" if now < time else f" on {moment(time):%Y-%m-%d}: no client connects any more"
            found.append((f"the {name}'s certificate {ending(time, now)}{after}", _REMEDY))
    return found
