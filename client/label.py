"""The label of the advertiser's list, under a key that is made and stays in its credentials folder.

The platform answers the same question about the same list with the same stored count, and takes nothing for
it: the label is how it knows the list again. Keep `label.key` with the folder; without it every list is new.

Not protected against: see `purposematch.protocol.label`.
"""

from pathlib import Path

from purposematch.client.key_file import key_in
from purposematch.protocol.audience import USUAL_CHANGE, AudienceChange
from purposematch.protocol.credentials import LABEL_KEY_FILE
from purposematch.protocol.group import Bytes, RandomBytes
from purposematch.protocol.label import LabelKey, list_label

__all__ = ["label_of"]


def label_of(
    credentials: Path, inputs: Bytes, random_bytes: RandomBytes, change: AudienceChange = USUAL_CHANGE
) -> bytes:
    """The label of a list, 32 bytes; the key is made with the first one.

    Args:
        credentials: the credentials folder.
        inputs: (n, 33) uint8, C-contiguous: kind byte and digest of every identifier, in any order.
        random_bytes: the source of a new key.
        change: what the session does to which audience.

    Raises:
        ConfigurationError: the file of the key cannot be used.
    """
    key = key_in(credentials / LABEL_KEY_FILE, LabelKey, "label key", random_bytes)
    return list_label(key, inputs, change)
