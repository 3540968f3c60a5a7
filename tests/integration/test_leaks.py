"""Planted identifiers, digests, tags, tokens and keys turn up in nothing that is written, and not at rest.

Everything is run once, failing calls too; then everything that either side wrote is searched, after the
search itself was shown to find what is there.
"""

import base64
import hmac
import os
import re
import secrets
import shutil
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path

import grpc
import numpy as np
import pytest
from platforms import (
    ASSERTION_COLUMNS,
    Done,
    LivePlatform,
    Row,
    advertiser,
    assertion,
    grants,
    operator,
    program,
    write_csv,
)
from raw_client import GROUP, connected, email_inputs, fails, load
from raw_set_client import RawSetSession, set_stub

from purposematch.protocol.messages import CommitEntries
from purposematch.protocol.secret import reveal, reveal_array
from purposematch.protocol.set_exchange.points import list_secret, planted_scalars
from purposematch.protocol.vole.engine import why_unavailable
from purposematch.server.initialize import load_platform_keys
from purposematch.server.registry import generations

PLANTED = {
    "email": [f"zanzibar.quagga{i}@planted.example" for i in range(6)],
    "phone": [f"+4930901820{i}7" for i in range(6)],
    "maid": [f"7f3e5c1a-90d2-4b6e-8f11-a2c4e6d80b{i}7" for i in range(6)],
}
BY_VOLE = () if why_unavailable(os.environ) else ("both", "platform")
"""The disclosures of which a match is computed by VOLE."""
ODD = "  Zanzibar.QUAGGA0@Planted.Example "
KIND = {"email": 1, "phone": 2, "maid": 3}


@dataclass
class Evidence:
    """What was written, and what must not be in it."""

    platform: LivePlatform
    texts: list[str] = field(default_factory=list)
    failed: int = 0

    def note(self, done: Done) -> Done:
        """Keeps what a command wrote."""
        self.texts += [done.stdout, done.stderr]
        self.failed += done.code != 0
        return done


def _spellings(content: bytes) -> set[bytes]:
    """Bytes as people and programs write them."""
    encoded = base64.b64encode(content).rstrip(b"=")
    url_safe = base64.urlsafe_b64encode(content).rstrip(b"=")
    numbers = ", ".join(map(str, content[:12])).encode()
    return {content, content.hex().encode(), content.hex().upper().encode(), encoded, url_safe, numbers}


def _raw_needles() -> set[bytes]:
    values = [value for values in PLANTED.values() for value in values]
    return {value.encode() for value in values} | {
        b"quagga",
        b"QUAGGA",
        b"4930901820",
        b"7f3e5c1a",
        b"7F3E5C1A",
    }


def _digest_needles() -> set[bytes]:
    needles: set[bytes] = set()
    for kind, values in PLANTED.items():
        for value in values:
            digest = sha256(value.encode()).digest()
            needles |= _spellings(digest)
            needles |= _spellings(sha256(bytes([KIND[kind]]) + digest).digest())
    return needles


def _accounts() -> list[Row]:
    rows = grants(950)
    for kind, values in PLANTED.items():
        rows += [
            assertion("p0", kind, ODD if kind == "email" else values[0]),
            assertion("p1", kind, values[1], "two_factor"),
            assertion("p2", kind, values[2]),
            assertion("p2", kind, values[2], status="withdrawn"),
            assertion("p3", kind, sha256(values[3].encode()).hexdigest(), value_format="sha256"),
            assertion("p4", kind, values[4], expires_at="2020-01-01T00:00:00Z"),
        ]
        # Columns that were shifted: an identifier stands where something else belongs.
        for column in ("kind", "value_format", "purposes", "origin", "status", "not_before", "expires_at"):
            rows.append(dict(assertion("p5", kind, "shifted@example.com")) | {column: values[5]})
    rows.append(
        dict(assertion("p5", "email", "x")) | {"value": f"{PLANTED['email'][5]} {PLANTED['phone'][5]}"}
    )
    return rows


def _run_everything(folder: Path) -> Evidence:
    platform = LivePlatform.create(folder, max_batch_elements=256)
    evidence = Evidence(platform)
    accounts = write_csv(folder / "accounts.csv", _accounts())
    data_dir = ("--data-dir", platform.data_dir)
    evidence.note(program("purposematch-platform", "enroll", accounts, *data_dir, "--json"))
    evidence.note(operator("enroll", accounts, *data_dir))
    # Files that are refused, with planted values in the rows that refuse them.
    email, phone = PLANTED["email"][5], PLANTED["phone"][5]
    header = ",".join(ASSERTION_COLUMNS)
    for content in (
        f"{header}\n,email,{email[:-16]},raw,,,withdrawn,,,\n",
        f"{header}\n{email},{phone}\n",
        f'{header}\n"{email}',
        f"{email},{phone}\n1,2\n",
        f"{header}\n{email}\0\n",
        f"{header}\n{email}" + "x" * (3 << 20),
        f"{header}\ns,email,{email},raw,,signup,withdrawn,,{email},{email}\n,{email},{email},,,,objected,,,\n",
    ):
        path = folder / "refused.csv"
        path.write_text(content)
        evidence.note(operator("enroll", path, *data_dir))
        evidence.note(advertiser("check", path, "--email-column", "value"))
    evidence.note(operator("publish", *data_dir))
    evidence.note(operator("publish", *data_dir, "--json"))
    evidence.note(operator("policy", "check", platform.data_dir / "policy.toml"))
    credentials = platform.admit("acme")
    rows = [{"email": f"user{i}@example.com", "phone": "", "maid": ""} for i in range(1_100)]
    for i in range(6):
        rows.append({kind: values[i] for kind, values in PLANTED.items()})
        rows.append(
            {"email": f"{PLANTED['email'][i]} {i}", "phone": f"{PLANTED['phone'][i]} ext. {i}", "maid": ""}
        )
    listed = write_csv(folder / "list.csv", rows)
    output = folder / "out.csv"
    with platform.serving():
        evidence.note(program("purposematch", *platform.match_arguments(listed, output, credentials)))
        evidence.note(platform.match(listed, output, credentials))
        human = [part for part in platform.match_arguments(listed, output, credentials) if part != "--json"]
        evidence.note(advertiser(*human))
        evidence.note(advertiser("check", listed))
        evidence.note(advertiser("check", listed, "--json"))
        evidence.note(platform.match(listed, folder, credentials))
        evidence.note(platform.match(listed, output, credentials, "--email-column", email))
        evidence.note(platform.match(accounts, output, credentials, "--email-column", "value"))
        evidence.texts += _misbehave(platform, credentials)
        for name in ("platform", "count"):
            noisy = platform.admit(name, name)
            report = folder / f"{name}.json"
            evidence.note(program("purposematch", *platform.match_arguments(listed, report, noisy)))
            evidence.texts += [report.read_text(), (folder / f"{name}.json.receipt").read_text()]
            evidence.texts += _misbehave_in_an_exchange(platform, noisy)
        for name in BY_VOLE:
            allowed = platform.admit(f"{name}-vole", name, "--allow-experimental")
            found = folder / f"{name}-vole{'.csv' if name == 'both' else '.json'}"
            engine = ("--engine", "vole")
            evidence.note(program("purposematch", *platform.match_arguments(listed, found, allowed), *engine))
            # The result names the advertiser's own rows; what is beside it names none.
            evidence.texts.append(found.with_name(f"{found.name}.receipt").read_text())
        evidence.texts.append(_metrics_page(platform))
    # No generation is published without them: what was published is searched for below.
    for identifier in (PLANTED["email"][0], PLANTED["phone"][1], PLANTED["maid"][2], email[:-16], "+1"):
        # Answers name identifiers by their keyed digests, and so does the list of `identifiers`.
        asked = operator("subject", "--identifier", identifier, *data_dir, "--json")
        evidence.note(replace(asked, stdout=""))
        evidence.note(operator("withdraw", "--identifier", identifier, *data_dir, "--kind", "email"))
        evidence.note(operator("withdraw", "--purpose", identifier, *data_dir, "--subject-id", "x"))
        evidence.note(operator("impact", "--origin", identifier, *data_dir))
        evidence.note(operator("impact", "--from", identifier, *data_dir))
    evidence.note(operator("object", accounts, *data_dir))
    evidence.note(operator("impact", *data_dir, "--output", folder / "impact"))
    arguments = ("--was-origin", "signup", "--origin", "two_factor", "--output", folder / "corrected")
    evidence.note(operator("correct", *arguments, *data_dir))
    for written in (*(folder / "impact").iterdir(), *(folder / "corrected").iterdir()):
        if written.stem != "identifiers":
            evidence.texts.append(written.read_text())
    evidence.texts.append(platform.log.read_text())
    return evidence


def _misbehave_in_an_exchange(platform: LivePlatform, credentials: Path) -> list[str]:
    """Calls of a set exchange that fail, with elements and points in them; the texts that come back."""
    invalid, precondition = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION
    texts: list[str] = []
    shown = load(credentials)
    with connected(platform.address, shown) as client, set_stub(platform.address, shown) as stub:
        listed = [*PLANTED["email"], *(f"user{i}@example.com" for i in range(994))]
        session = RawSetSession(client, stub, email_inputs(listed))
        own = session.own()
        own[-1].elements[-1] = own[0].elements[0]
        session.send(own)
        back = session.returned(session.points())
        if session.in_order:
            with fails(invalid) as details:
                session.give_back([replace(back[0], elements=back[0].elements[::-1].copy())])
            texts += details
        session.give_back(back)
        with fails(invalid) as details:
            session.finish()
        texts += details
        with fails(precondition) as details:
            session.give_back(back)
        texts += details
    return texts


def _metrics_page(platform: LivePlatform) -> str:
    """What Prometheus gets."""
    found = re.search(r"metrics on ([0-9.:]+)", platform.log.read_text())
    assert found is not None
    with urllib.request.urlopen(f"http://{found[1]}/metrics", timeout=30) as answer:
        return str(answer.read().decode())


def _misbehave(platform: LivePlatform, credentials: Path) -> list[str]:
    """Calls that fail, with tags, elements and MACs in them; the texts that come back."""
    invalid, precondition = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION
    texts: list[str] = []
    with connected(platform.address, load(credentials)) as client:
        session = client.open()
        listed = [*PLANTED["email"], *(f"user{i}@example.com" for i in range(994))]
        tags, tokens = session.run(email_inputs(listed))
        good = session.entries(tags, tokens, [0, 6, 7])
        bad_mac = CommitEntries(good.tags, np.zeros_like(good.macs))
        for entries in (bad_mac, session.entries(tags, tokens, [1]), session.entries(tags, tokens, [0, 0])):
            with fails(invalid) as details:
                session.commit(entries, secrets.token_bytes(16))
            texts += details
        with fails(invalid) as details:
            session.send(session.message(90, b"\xff" * 32))
        texts += details
        session.commit(good, b"r" * 16)
        session_elements = GROUP.map_to_group(np.full((2, 64), 7, np.uint8))
        with fails(precondition) as details:
            session.commit(bad_mac, b"r" * 16)
        texts += details
        with fails(precondition) as details:
            session.send(session.message(0, GROUP.encode(session_elements).tobytes()))
        texts += details
    return texts


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Evidence]:
    folder = tmp_path_factory.mktemp("leaks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        # Everything that can be shown is: metrics, JSON logs, and the spans of both sides on stderr.
        patch.setenv("PURPOSEMATCH_TELEMETRY_METRICS_LISTEN", "127.0.0.1:0")
        patch.setenv("PURPOSEMATCH_TELEMETRY_LOG_FORMAT", "json")
        patch.setenv("OTEL_TRACES_EXPORTER", "console")
        yield _run_everything(folder / "run")


def _at_rest(evidence: Evidence, *parts: str) -> bytes:
    """Everything in a folder of the platform's, one file behind the other."""
    paths = [
        path for part in parts for path in sorted(evidence.platform.data_dir.rglob(part)) if path.is_file()
    ]
    assert paths
    return _Hidden(b"\n".join(path.read_bytes() for path in paths))


class _Hidden(bytes):
    """Bytes that a failing test does not print."""

    def __repr__(self) -> str:
        return f"<{len(self)} bytes>"


def _found(needles: set[bytes], content: bytes) -> int:
    """How many of the needles are there, and not which: a failing test must not print what it guards."""
    return sum(needle in content for needle in needles if len(needle) >= 6)


def _written(evidence: Evidence) -> bytes:
    return "\n".join(evidence.texts).encode()


def test_the_search_finds_what_is_there(evidence: Evidence) -> None:
    assert evidence.failed >= 10
    # The failures are the ones that were meant: three matches ran, two set exchanges, and what VOLE computed.
    assert evidence.platform.rows('SELECT count(*) FROM "commit"') == [(6 + len(BY_VOLE),)]
    accounts = (evidence.platform.folder / "accounts.csv").read_bytes()
    assert _found(_raw_needles(), accounts) >= 18
    assert _found(_digest_needles(), accounts) == 3
    written = _written(evidence)
    assert b"Evaluate answered INVALID_ARGUMENT" in written
    assert b"ReturnPoints answered INVALID_ARGUMENT" in written
    assert b"FinishExchange answered INVALID_ARGUMENT" in written
    # A log in JSON, a page of metrics, and the spans of a client and of the server are among it.
    assert b'"session": "' in written
    assert b"purposematch_refusals_total{" in written
    assert all(f'"name": "{name}"'.encode() in written for name in ("match", "Evaluate", "batch"))


def test_no_identifier_is_written_by_either_side(evidence: Evidence) -> None:
    # A column that does not exist is the user's own word, which the error repeats.
    own_word = PLANTED["email"][5].encode()
    for text in evidence.texts:
        if f'"{own_word.decode()}"' in text:
            text = text.replace(f'"{own_word.decode()}"', "")
        assert _found(_raw_needles(), text.encode()) == 0, text[:40]


def test_no_digest_is_written_by_either_side(evidence: Evidence) -> None:
    assert _found(_digest_needles(), _written(evidence)) == 0


def test_no_tag_token_or_key_is_written_by_either_side(evidence: Evidence) -> None:
    needles: set[bytes] = set()
    with evidence.platform.opened() as platform:
        with platform.registry.reading() as connection:
            latest = generations.latest_generation(connection)
        assert latest is not None
        table = platform.store.load(latest.name).table
        planted = [
            row.tobytes()
            for row in (*table.tags, *reveal_array(table.tokens), *table.identifiers)
            if row.any()
        ]
        keys = load_platform_keys(platform.data_dir, platform.config, os.environ)
        epoch = platform.key_store.load_epoch_key(latest.epoch)
        secrets_of_platform = [keys.identifier, keys.sealing, keys.wrapping, platform.identity, epoch]
        planted += [reveal(key) for key in secrets_of_platform]
        stored = platform.store.load(latest.name)
        secret = platform.key_store.load_epoch_secret(latest.epoch)
        planted.append(reveal(secret))
        assert set(stored.manifest.point_lists) == {"platform", "count-2"}
        for name in stored.manifest.point_lists:
            planted.append(reveal(list_secret(secret, name)))
            planted += [row.tobytes() for row in reveal_array(planted_scalars(GROUP, secret, name))]
            planted += [row.tobytes() for row in platform.store.points(stored.manifest, name)]
    planted.append((evidence.platform.data_dir / "keys" / "root.key").read_bytes().strip())
    for content in planted:
        needles |= _spellings(content)
    assert _found(needles, _at_rest(evidence, "tags", "tokens")) > 1_000
    assert _found(needles, _written(evidence)) == 0


def test_the_registry_holds_no_identifier_and_no_digest(evidence: Evidence) -> None:
    content = _at_rest(evidence, "registry.sqlite*")
    assert b"p0" in content
    assert _found(_raw_needles(), content) == 0
    assert _found(_digest_needles(), content) == 0


def test_generations_hold_no_identifier_and_no_digest(evidence: Evidence) -> None:
    content = _at_rest(evidence, "generations/**/*")
    assert _found(_raw_needles() | _digest_needles(), content) == 0


def test_no_key_lies_open_in_the_data_directory(evidence: Evidence) -> None:
    with evidence.platform.opened() as platform:
        keys = load_platform_keys(platform.data_dir, platform.config, os.environ)
        derived = [keys.identifier, keys.sealing, keys.wrapping, platform.identity]
        derived.append(platform.key_store.load_epoch_key(1))
        needles = set().union(*(_spellings(reveal(key)) for key in derived))
    assert _found(needles, _at_rest(evidence, "*")) == 0


def test_what_stands_for_an_identifier_takes_the_key(evidence: Evidence) -> None:
    # The control to the two tests above: the registry does know the planted identifiers, under its key.
    content = _at_rest(evidence, "registry.sqlite*")
    digest = sha256(PLANTED["email"][0].encode()).digest()
    with evidence.platform.opened() as platform:
        keyed = hmac.digest(reveal(platform.registry.identifier_key), b"\x01" + digest, "sha256")[:16]
    assert keyed in content
    assert hmac.digest(bytes(32), b"\x01" + digest, "sha256")[:16] not in content


def test_the_advertiser_s_cache_and_credentials_hold_nothing_of_the_list(evidence: Evidence) -> None:
    folders = [evidence.platform.folder.parent / "cache", evidence.platform.folder / "credentials-acme"]
    paths = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    assert len(paths) >= 5
    content = b"\n".join(path.read_bytes() for path in paths)
    assert _found(_raw_needles() | _digest_needles(), content) == 0


def test_private_files_are_private(evidence: Evidence) -> None:
    data_dir = evidence.platform.data_dir
    for path in [data_dir, *data_dir.rglob("*")]:
        public = path.name in ("ca.pem", "server.pem")
        assert public or path.stat().st_mode & 0o077 == 0, path.name
    assert (evidence.platform.folder / "out.csv").stat().st_mode & 0o077 == 0
    key = evidence.platform.folder / "credentials-acme" / "client.key"
    assert key.stat().st_mode & 0o077 == 0


def test_a_copy_of_the_registry_alone_does_not_open(evidence: Evidence, tmp_path: Path) -> None:
    stolen = tmp_path / "stolen"
    shutil.copytree(evidence.platform.data_dir, stolen)
    (stolen / "keys" / "root.key").write_bytes(secrets.token_hex(32).encode() + b"\n")
    (stolen / "keys" / "root.key").chmod(0o600)
    done = operator("publish", "--data-dir", stolen)
    assert done.code == 1
    assert done.stderr.startswith("error: ")
