"""Which columns of a customer list hold identifiers: named by the caller, or found by their usual names.

Not protected against: a column that holds something else than its name says. What that looks like in
`check` is a high number of refused rows.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from purposematch.protocol.errors import InputError
from purposematch.protocol.identifiers import Kind
from purposematch.tables import Table, require_columns

__all__ = ["Column", "UnnamedColumnsError", "choose_columns"]


class UnnamedColumnsError(InputError):
    """No column was named, and none has a usual name."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of identifiers.

    Attributes:
        name: as in the list's header.
        kind: what its values are.
        hashed: whether they are SHA-256 digests rather than raw values.
    """

    name: str
    kind: Kind
    hashed: bool = False


_NAMES: Final = {
    Kind.EMAIL: ("email", "e_mail", "email_address", "e_mail_address", "emailaddress", "mail"),
    Kind.PHONE: (
        *("phone", "phone_number", "phonenumber", "telephone", "telephone_number", "tel", "msisdn"),
        *("mobile", "mobile_phone", "mobile_number", "mobile_phone_number", "cell", "cell_phone"),
    ),
    Kind.MAID: (
        *("maid", "madid", "idfa", "aaid", "gaid", "adid", "mobile_id", "mobile_ad_id", "device_id"),
        *("advertising_id", "mobile_advertising_id", "mobile_advertiser_id"),
    ),
}
_HASHED_FORMS: Final = (
    *("hashed_{}", "{}_hashed", "{}_hash", "hash_{}"),
    *("{}_sha256", "sha256_{}", "{}_sha_256", "sha_256_{}", "{}_sha256_hash"),
)
_KNOWN: Final = {name: (kind, False) for kind, names in _NAMES.items() for name in names} | {
    form.format(name): (kind, True)
    for kind, names in _NAMES.items()
    for name in names
    for form in _HASHED_FORMS
}


def choose_columns(table: Table, named: Sequence[Column], *, prehashed: bool = False) -> tuple[Column, ...]:
    """The columns of `table` to read identifiers from.

    Args:
        table: the list.
        named: what the caller named; if empty, columns with one of the usual names are taken, in any
            case, with spaces or dashes for underscores, and with a number behind.
        prehashed: every column holds SHA-256 digests, whatever its name says.

    Raises:
        UnnamedColumnsError: no column is named, and none has a usual name.
        InputError: a named column is missing, or named twice. Both texts list the columns that there are.
    """
    chosen = tuple(named) or tuple(filter(None, map(_by_usual_name, table.columns)))
    if not chosen:
        # The table words the list of its columns so that a file without header shows no identifier.
        try:
            require_columns(table, ["email"])
        except InputError as error:
            raise UnnamedColumnsError(f"{error}; name the columns that hold identifiers") from None
    require_columns(table, [column.name for column in chosen])
    names = [column.name for column in chosen]
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise InputError(f'the column "{repeated}" is named twice; a column holds one kind of identifier')
    return tuple(Column(column.name, column.kind, column.hashed or prehashed) for column in chosen)


def _by_usual_name(name: str) -> Column | None:
    plain = re.sub(r"[\s_-]+", "_", name.strip().lower())
    kind, hashed = _KNOWN.get(plain) or _KNOWN.get(re.sub(r"_?[0-9]+$", "", plain)) or (None, False)
    return None if kind is None else Column(name, kind, hashed)
