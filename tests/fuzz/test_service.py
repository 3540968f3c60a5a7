"""A real server that strangers call: documented codes and fixed texts, it lives, and its books stay right."""

import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import grpc
import pytest
from broken_matches import quota_is_exact
from budget import fuzz
from hypothesis import strategies as st
from platforms import LivePlatform, grants, operator
from raw_client import GROUP, RawClient, connected, email_inputs, issued, load, tls
from samples import uniform
from strangers import SECONDS, Call, Ended, Known, Stranger, drained

from purposematch.server.pki import Role
from purposematch.v1 import log_pb2

EXAMPLES = 12
CALLS = 24
"""Rounds of calls of one example; up to four calls are under way at once."""
GROWTH_KIB = 64 * 1_024
"""What the server's memory may grow by from the middle of the run to its end."""
Code = grpc.StatusCode

# The table of `server/statuses.py`, and what gRPC answers by itself.
FIXED = {
    Code.INVALID_ARGUMENT: r"a field of the message is malformed|a commit does not prove what it claims",
    Code.UNAVAILABLE: r"the platform is not ready; try again later"
    r"|the platform serves as many as it can; try again soon",
    Code.RESOURCE_EXHAUSTED: r"a limit of the session was passed"
    r"|today's quota of .*|.* sessions may be open at a time; so many are open"
    r"|sessions that are open hold back .*"
    r"|(CLIENT|SERVER)?:? ?(Received|Decompressed|Sent) message larger than max.*",
    Code.UNAUTHENTICATED: r"the certificate is for another platform|a client certificate is needed"
    r"|the certificate of operator nobody is not recorded: .*",
    Code.PERMISSION_DENIED: r"this certificate is not one of .*",
    Code.NOT_FOUND: r"no such session|there is no such epoch|the session's generation has no such segment"
    r"|the platform has not stored this commit|the log .*|there is no .*|no list .*|this .*",
    Code.UNIMPLEMENTED: r"",
}
OWN_TEXTS = re.compile(
    r"Traceback|Exception|<class|Error\b|\.py\b|/work|/tmp|sqlite|None\b|@example|object at"
)


@dataclass
class Town:
    """A served platform, who calls it, and what strangers know."""

    platform: LivePlatform
    channels: dict[str, grpc.Channel]
    known: Known
    pid: int
    memory: list[int] = field(default_factory=list)

    def note_memory(self) -> None:
        """Notes what the server's process occupies, in KiB."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(r"^VmRSS:\s+([0-9]+) kB$", status, re.MULTILINE)
        assert found is not None
        self.memory.append(int(found[1]))


def learned(client: RawClient) -> list[tuple[bytes, bytes]]:
    """What an honest client would commit, in some sessions."""
    inputs = email_inputs([f"user{i}@example.com" for i in range(1_000)])
    found = []
    for rows in (range(5), range(40), range(1_000)):
        session = client.open()
        tags, tokens = session.run(inputs)
        found.append((session.id, session.entries(tags, tokens, rows).encode()))
    return found


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    platform = LivePlatform.create(tmp_path_factory.mktemp("strangers"), max_batch_elements=256)
    platform.enroll(grants(1_200))
    platform.publish()
    folders = {
        name: load(platform.admit(name, "both", "--daily-elements", "1000000000", "--allow-experimental"))
        for name in ("acme", "rival")
    }
    with platform.serving(), ExitStack() as stack:
        shown = {name: tls(credentials) for name, credentials in folders.items()}
        shown |= {
            str(role): issued(platform, role, f"{role}-1") for role in Role if role is not Role.ADVERTISER
        }
        shown["stranger"] = issued(platform, Role.ADVERTISER, "nobody")
        shown["unrecorded"] = issued(platform, Role.OPERATOR, "nobody", recorded=False)
        shown["foreigner"] = issued(platform, Role.ADVERTISER, "acme", platform_id="otherbirds")
        options = [
            ("grpc.ssl_target_name_override", folders["acme"].pin.server_name),
            ("grpc.enable_http_proxy", 0),
            ("grpc.max_send_message_length", -1),
        ]
        channels = {
            name: stack.enter_context(grpc.secure_channel(platform.address, each, options))
            for name, each in shown.items()
        }
        with connected(platform.address, folders["acme"]) as client:
            commits = learned(client)
        elements = GROUP.encode(GROUP.map_to_group(uniform(500, 64))).tobytes()
        agreements = {name: each.agreement.digest for name, each in folders.items()}
        yield Town(platform, channels, Known(agreements, elements, commits), platform.server)
    # What the server wrote tells of calls that were refused, and of none that failed.
    written = platform.log.read_text()
    assert "Traceback" not in written
    assert " ERROR " not in written
    quota_is_exact(platform)
    audited = operator("audit", "--data-dir", platform.data_dir, "--json")
    assert audited.code == 0, audited.stderr


def check(ended: Ended) -> None:
    """A call ended as the interface says."""
    call, code, text = ended.call, ended.code, ended.text
    what = (call.method.full_name, call.role, code, text)
    if code is Code.CANCELLED:
        assert call.given_up, what
    elif code is Code.DEADLINE_EXCEEDED:
        assert not call.messages, what
    elif code is Code.OK:
        assert text == "", what
    elif code is Code.FAILED_PRECONDITION:
        assert OWN_TEXTS.search(text) is None, what
        assert text.isprintable(), what
    else:
        assert code in FIXED, what
        assert re.fullmatch(FIXED[code], text), what


def test_strangers_get_documented_answers_and_change_nothing(town: Town) -> None:
    def rounds(random: Random) -> None:
        stranger = Stranger(town.channels, town.known, random)
        for _ in range(CALLS):
            calls: list[Call] = [stranger.call() for _ in range(random.choice((1, 1, 2, 4)))]
            begun = [(call, stranger.begin(call)) for call in calls]
            for ended in drained(begun, stranger):
                check(ended)
        quota_is_exact(town.platform)
        asked = town.channels["auditor"].unary_unary("/purposematch.v1.LogService/GetCheckpoint")
        assert log_pb2.GetCheckpointResponse.FromString(asked(b"", timeout=SECONDS)).checkpoint
        town.note_memory()

    fuzz(st.randoms(use_true_random=True), rounds, EXAMPLES)
    middle = town.memory[len(town.memory) // 2]
    assert town.memory[-1] - middle < GROWTH_KIB, town.memory
