"""Enrollment into the embedded registry, log included: no evidence, evidence of a batch, n signatures."""

import tomllib
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from nacl.bindings import crypto_sign_open

from benchmarks.collected import COLLECTOR, ISSUERS, PLATFORM_ID, Evidence, collect
from purposematch.protocol.identifiers import Profile
from purposematch.protocol.policy import DEFAULT_POLICY_TOML, Policy
from purposematch.server.enroll import EnrollReport, enroll
from purposematch.server.keys import RootKey, derive_keys
from purposematch.server.registry import open_registry
from purposematch.server.taxonomy import load_taxonomy
from purposematch.tables import open_table

NOW = 1_900_000_000_000_000


@pytest.mark.parametrize("evidence", Evidence)
def test_enrollment(measure: Any, size: int, tmp_path: Path, evidence: Evidence) -> None:
    collected = collect(tmp_path / "assertions.csv", size, evidence)
    taxonomy, keys, rounds = load_taxonomy(), derive_keys(RootKey(bytes(32))), count()
    asked = {"issuers": ISSUERS, "require_evidence": evidence is not Evidence.NONE}
    policy = Policy.from_mapping(tomllib.loads(DEFAULT_POLICY_TOML) | asked, taxonomy)

    def enrolled() -> EnrollReport:
        path = tmp_path / f"registry-{next(rounds)}.sqlite"
        registry = open_registry(path, keys.identifier, keys.sealing, Profile.PLAIN)
        try:
            with open_table(collected.path) as table:
                return enroll(
                    table,
                    registry,
                    policy,
                    taxonomy,
                    lambda: NOW,
                    platform_id=PLATFORM_ID,
                    evidence=collected.batch,
                )
        finally:
            registry.close()

    assert measure(f"enrollment, {evidence}", enrolled).enrolled == size


def test_libsodium_alone(measure: Any, size: int, tmp_path: Path) -> None:
    """The bound: what the signatures of a file cost if nothing else were done."""
    collected = collect(tmp_path / "assertions.csv", size, Evidence.EACH)
    signed = [a + b for a, b in zip(collected.signatures, collected.messages, strict=True)]
    key = COLLECTOR.public_key

    def verified() -> int:
        return sum(len(crypto_sign_open(one, key)) > 0 for one in signed)

    assert measure("bound: libsodium verify", verified) == size
