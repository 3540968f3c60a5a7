"""Sessions under noisy agreements, opened in the registry itself, whatever the exchange would be.

They are stored, counted and logged as the matching service does it; what the exchange would find is given.
"""

from sqlalchemy import Connection

from purposematch.protocol.manifest import Manifest
from purposematch.protocol.messages import SESSION_ID_LENGTH, SessionGrant
from purposematch.protocol.noisy_report import NoisyReport
from purposematch.protocol.signing import SignedDocument
from purposematch.server.platform import Platform
from purposematch.server.registry import generations, ledger, quota, sessions
from purposematch.server.registry.agreements import agreement_in_force
from purposematch.server.release import Release, release_count


def open_session(platform: Platform, name: str, list_size: int = 1_000) -> bytes:
    """Opens a session of an advertiser on the latest generation; its id."""
    now = platform.clock()
    with platform.registry.writing() as connection:
        owner = sessions.find_advertiser(connection, name)
        assert owner is not None
        agreement = agreement_in_force(connection, name, now)
        latest = generations.latest_generation(connection)
        assert latest is not None
        grant = SessionGrant(
            session=platform.random_bytes(SESSION_ID_LENGTH),
            agreement=agreement.digest,
            manifest=Manifest.digest(platform.store.load(latest.name).document),
            client_certificate=owner.fingerprint,
            server_certificate=bytes(32),
            list_size=list_size,
            max_batch_elements=8_192,
            window=8,
        )
        quota.charge_session(connection, agreement, list_size, now)
        document = grant.sign(platform.identity)
        sessions.add_session(connection, grant, document, latest.name, owner, now)
        ledger.record_session(connection, grant.session.hex(), platform.random_bytes)
    return grant.session


def finish(platform: Platform, session: bytes, label: bytes, exact: int) -> Release:
    """Answers a session's question in a transaction of its own."""
    now = platform.clock()
    with platform.registry.writing() as connection:
        return finish_in(platform, connection, session, label, exact, now)


def finish_in(
    platform: Platform, connection: Connection, session: bytes, label: bytes, exact: int, now: int
) -> Release:
    """The same in a transaction that is open."""
    row = sessions.find_session(connection, session)
    assert row is not None
    agreement = agreement_in_force(connection, row.advertiser, now)
    return release_count(platform, connection, row, agreement, label, platform.policy(), exact, now)


def ask(platform: Platform, name: str, label: bytes, exact: int = 500, list_size: int = 1_000) -> Release:
    """Opens a session and answers its question."""
    return finish(platform, open_session(platform, name, list_size), label, exact)


def report_of(platform: Platform, document: SignedDocument) -> NoisyReport:
    """The report in an answer, its signature checked."""
    return NoisyReport.open(document, platform.identity_key)
