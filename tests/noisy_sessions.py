"""Sessions under noisy agreements, opened in the registry itself, whatever the exchange would be.

They are stored, counted and logged as the matching service does it; what the exchange would find is given.
"""

import numpy as np
from platforms import admitted_peer
from samples import private_inputs
from sqlalchemy import Connection

from purposematch.protocol.agreement import Disclosure
from purposematch.protocol.manifest import Manifest
from purposematch.protocol.messages import SESSION_ID_LENGTH, SessionGrant
from purposematch.protocol.noisy_report import NoisyReport
from purposematch.protocol.poprf import SessionSeed
from purposematch.protocol.set_exchange.advertiser import AdvertiserExchange
from purposematch.protocol.signing import SignedDocument
from purposematch.server.open_sessions import OpenSessions
from purposematch.server.platform import Platform
from purposematch.server.point_lists import list_of
from purposematch.server.registry import exchanges, generations, ledger, quota, sessions
from purposematch.server.registry.agreements import agreement_in_force
from purposematch.server.release import Release, release_count
from purposematch.server.set_matching import SetMatching


def open_session(platform: Platform, name: str, list_size: int = 1_000) -> bytes:
    """Opens a session of an advertiser on the latest generation; its id."""
    now, certificate = platform.clock(), admitted_peer(platform, name).fingerprint
    with platform.registry.writing() as connection:
        agreement = agreement_in_force(connection, name, now)
        latest = generations.latest_generation(connection)
        assert latest is not None
        grant = SessionGrant(
            session=platform.random_bytes(SESSION_ID_LENGTH),
            agreement=agreement.digest,
            manifest=Manifest.digest(platform.store.load(latest.name).document),
            client_certificate=certificate,
            server_certificate=bytes(32),
            list_size=list_size,
            max_batch_elements=8_192,
            window=8,
        )
        quota.charge_session(connection, agreement, list_size, now)
        document = grant.sign(platform.identity)
        sessions.add_session(connection, grant, document, latest.name, name, now)
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


def begin_exchange(platform: Platform, session: bytes, label: bytes = bytes(32)) -> None:
    """Sends everything of a set exchange for a session that is open, and does not finish it."""
    with platform.registry.writing() as connection:
        row = sessions.find_session(connection, session)
        assert row is not None
        exchanges.add_exchange(connection, row.id, label)
        agreement = agreement_in_force(connection, row.advertiser, platform.clock())
    stored = platform.store.load(row.generation)
    grant, name = SessionGrant.parse(row.grant), list_of(agreement)
    assert name is not None
    in_order = agreement.disclosure is Disclosure.PLATFORM
    client = AdvertiserExchange(
        platform.group, name, grant, stored.manifest, SessionSeed(bytes(range(32))), in_order=in_order
    )
    peer = admitted_peer(platform, row.advertiser)
    matching = SetMatching(platform, OpenSessions(platform))
    listed = private_inputs(range(grant.list_size))
    for number in range(client.shape.own_batches):
        inputs = np.concatenate([listed[client.own_numbers(number)], client.own_canaries(number)])
        matching.take_own(peer, session, client.own(number, inputs))
    points = platform.store.points(stored.manifest, name)
    for number in range(len(client.shape.segments)):
        batch = client.give_back(number, points[client.returned_places(number)])
        matching.take_returned(peer, session, batch)
