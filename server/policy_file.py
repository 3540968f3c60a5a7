"""Reads the gate's policy from `policy.toml`.

Not protected against: whoever can write the file decides within the rules that are code.
"""

import tomllib
from pathlib import Path

from purposematch.protocol.errors import PolicyError
from purposematch.protocol.policy import Policy
from purposematch.protocol.purpose import Taxonomy

__all__ = ["load_policy", "parse_policy", "read_policy_text"]

MAX_POLICY_BYTES = 1_048_576
"""The longest policy file that is read, in bytes."""


def load_policy(path: Path, taxonomy: Taxonomy) -> Policy:
    """Reads and checks a policy.

    Raises:
        PolicyError: the file is missing, is not TOML, or breaks a rule that no policy may break.
    """
    return parse_policy(read_policy_text(path), path, taxonomy)


def read_policy_text(path: Path) -> str:
    """The text of a policy file.

    Raises:
        PolicyError: the file is missing, too long, or not UTF-8.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_POLICY_BYTES + 1)
    except OSError as error:
        raise PolicyError(f"the policy {path} cannot be read: {error.strerror}") from error
    if len(content) > MAX_POLICY_BYTES:
        raise PolicyError(f"the policy {path} is longer than {MAX_POLICY_BYTES} bytes")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise PolicyError(f"the policy {path} is not TOML in UTF-8: {error}") from None


def parse_policy(text: str, path: Path, taxonomy: Taxonomy) -> Policy:
    """The policy that a text describes.

    Args:
        text: TOML.
        path: names its file in error texts.
        taxonomy: the purposes that exist.

    Raises:
        PolicyError: it is not TOML, or breaks a rule that no policy may break.
    """
    try:
        mapping = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise PolicyError(f"the policy {path} is not TOML in UTF-8: {error}") from None
    try:
        return Policy.from_mapping(mapping, taxonomy)
    except PolicyError as error:
        raise PolicyError(f"{path}: {error}") from None
