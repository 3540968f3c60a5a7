"""The purposes that exist: the data-use keys of the Fides taxonomy, as `fideslang` ships them.

Source: fideslang's default taxonomy (Apache-2.0). Keys that it marks as deprecated are left out, so a file
that names one is refused as UNKNOWN_PURPOSE instead of being guessed at.

Not protected against: a new version of fideslang that renames keys. The digest of the taxonomy is part of the
policy and of every generation, so the change is visible.
"""

from functools import cache

from purposematch.protocol.purpose import Taxonomy

__all__ = ["load_taxonomy"]


@cache
def load_taxonomy() -> Taxonomy:
    """The taxonomy of the installed `fideslang`."""
    # It takes a tenth of a second to import; a command that asks for no purpose does without.
    from fideslang.default_taxonomy import DEFAULT_TAXONOMY

    return Taxonomy.from_keys(
        use.fides_key
        for use in DEFAULT_TAXONOMY.data_use
        if use.version_deprecated is None and use.replaced_by is None
    )
