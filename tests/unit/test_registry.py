"""The registry: keyed and sealed digests, transactions, what is loaded, which decisions are stored."""

import hashlib
import hmac
import os
import secrets
import stat
import threading
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from fideslang.default_taxonomy import DEFAULT_TAXONOMY
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event, func, inspect, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable

from purposematch.protocol.assertions import Terms
from purposematch.protocol.errors import ConfigurationError, IntegrityError, UnavailableError
from purposematch.protocol.gate import decide
from purposematch.protocol.identifiers import Kind, Profile
from purposematch.protocol.policy import DEFAULT_POLICY_TOML, Policy
from purposematch.protocol.purpose import Origin, Reason, Status
from purposematch.server.keys import IdentifierKey, RootKey, derive_keys
from purposematch.server.registry import (
    Delivery,
    assertions_for_gate,
    chunks,
    highest_assertion,
    keyed_digests,
    load_digests,
    open_registry,
    policy_id,
    record_decisions,
    store_delivery,
)
from purposematch.server.registry.audiences import memberships
from purposematch.server.registry.bulk import insert_columns
from purposematch.server.registry.chunks import COLUMNS, load_chunks
from purposematch.server.registry.digests import store_digests
from purposematch.server.registry.gate_input import gate_input
from purposematch.server.registry.mentions import store_mentions
from purposematch.server.registry.rows import KEYED_DIGEST, Rows, keyed_array
from purposematch.server.registry.schema import (
    CHUNK_ASSERTIONS,
    KEYED_DIGEST_BYTES,
    advertiser,
    assertion_chunk,
    decision,
    digest_chunk,
    metadata,
    property_,
    terms,
)
from purposematch.server.registry.terms_rows import load_terms, store_terms
from purposematch.server.taxonomy import load_taxonomy

KEYS = derive_keys(RootKey(b"r" * 32))
TAXONOMY = load_taxonomy()
POLICY = Policy.from_mapping(tomllib.loads(DEFAULT_POLICY_TOML), TAXONOMY)
TARGETED = "marketing.advertising.third_party.targeted"
GRANT = Terms((TARGETED,), Origin.SIGNUP, Status.GRANTED, "default")
WITHDRAWAL = Terms((TARGETED,), Origin.SIGNUP, Status.WITHDRAWN, "default")
NOW = 1_750_000_000_000_000


def opened(folder: Path, profile: Profile = Profile.PLAIN):
    return open_registry(folder / "registry.sqlite", KEYS.identifier, KEYS.sealing, profile)


@pytest.fixture
def registry(tmp_path):
    made = opened(tmp_path)
    yield made
    made.close()


def key_of(number: int) -> bytes:
    return hashlib.sha256(b"%d" % number).digest()[:KEYED_DIGEST_BYTES]


def rows_of(
    subjects: list[str | None],
    identifiers: list[int | None],
    terms_: list[int],
    spellings: tuple[tuple[int, int], ...] = (),
) -> Rows:
    """Assertions whose identifiers are small numbers; `spellings` are (row, other number)."""
    count = len(subjects)
    none = np.full(count, np.iinfo(np.int64).min)
    return Rows(
        subject=pa.array(subjects, pa.string()),
        identifier=pa.array([None if i is None else key_of(i) for i in identifiers], KEYED_DIGEST),
        kind=np.full(count, Kind.EMAIL, np.uint8),
        terms=np.array(terms_, np.int64),
        not_before=none,
        expires_at=none,
        flaw=np.zeros(count, np.uint8),
        evidence=np.zeros(count, np.uint8),
        spelled=np.array([row for row, _ in spellings], np.int64),
        others=pa.array([key_of(other) for _, other in spellings], KEYED_DIGEST),
    )


def meeting(rows: Rows, table: list[Terms]) -> set[frozenset[int]]:
    """Which small numbers meet, according to what the gate is given."""
    zeros = np.zeros(len(rows), np.int64)
    given_ = gate_input(
        rows, table, ids=zeros, received_at=zeros, reasons=zeros.astype(np.uint8), policies=zeros
    )
    number = {key_of(n): n for n in range(100)}
    names = [number[key] for key in given_.identifiers.to_pylist()]
    return {frozenset((names[one], names[other])) for one, other in given_.assertions.meets.tolist()}


def test_the_work_of_storing_terms_grows_with_their_number(registry, monkeypatch):
    many = [Terms((f"key{n}",), Origin.SIGNUP, Status.GRANTED, "default") for n in range(400)]
    hashed = []
    plain = Terms.__hash__

    def counting(terms_):
        hashed.append(terms_)
        return plain(terms_)

    with registry.writing() as connection:
        store_terms(connection, many[:200])
        with monkeypatch.context() as patch:
            patch.setattr(Terms, "__hash__", counting)
            table, ids = store_terms(connection, many)
    assert (table, ids.tolist()) == (many, list(range(1, 401)))
    assert len(hashed) < 10 * len(many)


def test_keyed_digests_are_hmac_sha_256_over_kind_and_digest():
    digests = np.frombuffer(hashlib.sha512(b"two digests").digest(), np.uint8).reshape(2, 32)
    keyed = keyed_digests(IdentifierKey(b"k" * 32), np.array([1, 2], np.uint8), digests)
    expected = [
        hmac.digest(b"k" * 32, bytes([kind]) + digest.tobytes(), "sha256")[:16]
        for kind, digest in zip((1, 2), digests, strict=True)
    ]
    assert [each.tobytes() for each in keyed] == expected
    assert keyed_digests(IdentifierKey(b"k" * 32), np.zeros(0, np.uint8), digests[:0]).shape == (0, 16)


def test_keyed_digests_collide_with_negligible_probability():
    identifiers = 10**9
    assert identifiers**2 / 2 / 2 ** (8 * KEYED_DIGEST_BYTES) < 2**-68


@given(numbers=st.lists(st.integers(0, 5), max_size=30), missing=st.sets(st.integers(0, 29)))
def test_codes_and_keyed_digests_translate_back(numbers, missing):
    identifiers = [None if at in missing else number for at, number in enumerate(numbers)]
    rows = rows_of(["s"] * len(numbers), identifiers, [0] * len(numbers))
    zeros = np.zeros(len(rows), np.int64)
    given_ = gate_input(
        rows, [GRANT], ids=zeros, received_at=zeros, reasons=zeros.astype(np.uint8), policies=zeros
    )
    back = [given_.identifiers[code].as_py() if code >= 0 else None for code in given_.assertions.identifier]
    assert back == rows.identifier.to_pylist()
    assert len(set(given_.identifiers.to_pylist())) == len(given_.identifiers)


def test_keyed_digests_whose_first_halves_agree_are_told_apart():
    keyed = np.zeros((4, 16), np.uint8)
    keyed[[1, 2], 15] = 1
    rows = rows_of(["s"] * 4, [0] * 4, [0] * 4)
    object.__setattr__(rows, "identifier", keyed_array(keyed))
    zeros = np.zeros(4, np.int64)
    given_ = gate_input(
        rows, [GRANT], ids=zeros, received_at=zeros, reasons=zeros.astype(np.uint8), policies=zeros
    )
    codes = given_.assertions.identifier.tolist()
    assert codes[1] == codes[2] != codes[0] == codes[3]


SPELLED = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 8), st.booleans(), st.lists(st.integers(0, 8)))
)


@given(table=SPELLED)
def test_identifiers_meet_exactly_when_they_share_a_spelling_with_a_refusal(table):
    spellings = [(at, other) for at, (_, _, _, others) in enumerate(table) for other in sorted(set(others))]
    rows = rows_of(
        [f"s{subject}" for subject, *_ in table],
        [identifier for _, identifier, *_ in table],
        [int(refuses) for _, _, refuses, _ in table],
        tuple(spellings),
    )
    own = {identifier: {identifier} for _, identifier, _, _ in table}
    for _, identifier, _, others in table:
        own[identifier] |= set(others)
    refused = {identifier for _, identifier, refuses, _ in table if refuses}
    expected = {
        frozenset((one, other)) for one in refused for other in own if one != other and own[one] & own[other]
    }
    found = {pair for pair in meeting(rows, [GRANT, WITHDRAWAL]) if pair <= set(own)}
    assert found == expected


def test_digests_come_back_in_the_order_asked_for_across_chunks(registry):
    count = CHUNK_ASSERTIONS + 100
    digests = np.random.default_rng(1).integers(0, 256, (count, 32), np.uint8)
    with registry.writing() as connection:
        store_digests(connection, KEYS.sealing, 11, digests)
    wanted = np.array([11 + count - 1, 11, 11 + CHUNK_ASSERTIONS, 12, 11])
    with registry.reading() as connection:
        assert (load_digests(connection, KEYS.sealing, wanted) == digests[wanted - 11]).all()
        assert load_digests(connection, KEYS.sealing, wanted[:0]).shape == (0, 32)
        for missing in (10, 11 + count):
            with pytest.raises(IntegrityError):
                load_digests(connection, KEYS.sealing, np.array([missing]))


@pytest.mark.parametrize("damage", [{"first": 2}, {"count": 2}, {"sealed": b"\0" * 124}])
def test_a_moved_shortened_or_altered_chunk_of_digests_is_refused(registry, damage):
    with registry.writing() as connection:
        store_digests(connection, KEYS.sealing, 1, np.ones((3, 32), np.uint8))
        connection.execute(digest_chunk.update().values(damage))
    with registry.reading() as connection, pytest.raises(IntegrityError):
        load_digests(connection, KEYS.sealing, np.array([2]))


def test_a_registry_is_private_and_stays_what_it_was_made_as(tmp_path):
    registry = opened(tmp_path)
    registry.close()
    assert stat.S_IMODE((tmp_path / "registry.sqlite").stat().st_mode) == 0o600
    with pytest.raises(ConfigurationError, match="profile"):
        opened(tmp_path, Profile.GOOGLE)
    other = derive_keys(RootKey(b"o" * 32))
    with pytest.raises(ConfigurationError, match="root key"):
        open_registry(tmp_path / "registry.sqlite", other.identifier, other.sealing, Profile.PLAIN)
    registry = opened(tmp_path)
    with registry.writing() as connection:
        connection.execute(property_.update().where(property_.c.name == "schema_version").values(value="99"))
    registry.close()
    with pytest.raises(ConfigurationError, match="version"):
        opened(tmp_path)


def test_what_is_no_database_is_refused(tmp_path):
    (tmp_path / "registry.sqlite").write_bytes(os.urandom(20_000))
    with pytest.raises(IntegrityError):
        opened(tmp_path)
    with pytest.raises(ConfigurationError):
        open_registry(tmp_path / "no" / "registry", KEYS.identifier, KEYS.sealing, Profile.PLAIN)


def test_a_reader_sees_one_moment_while_somebody_writes(registry):
    def write() -> None:
        with registry.writing() as connection:
            store_terms(connection, [GRANT])

    with registry.reading() as connection:
        assert load_terms(connection)[0] == []
        writer = threading.Thread(target=write)
        writer.start()
        writer.join()
        assert load_terms(connection)[0] == []
    with registry.reading() as connection:
        assert load_terms(connection)[0] == [GRANT]


def test_writers_of_one_process_wait_for_each_other_before_they_ask_sqlite(registry):
    begun = []
    event.listen(registry.engine, "begin", lambda _: begun.append(threading.get_ident()))

    def write() -> None:
        with registry.writing() as connection:
            connection.execute(advertiser.insert().values(name="acme", added_at=1))

    with ThreadPoolExecutor(1) as pool:
        with registry.writing() as connection:
            waiting = pool.submit(write)
            with pytest.raises(TimeoutError):
                waiting.result(0.2)
            assert begun == [threading.get_ident()]
            assert connection.scalar(select(func.count()).select_from(advertiser)) == 0
        waiting.result(60)
    assert len(begun) == 2


def test_a_writer_does_not_wait_for_ever(registry, monkeypatch):
    monkeypatch.setattr("purposematch.server.registry.connection._WAIT_SECONDS", 0.05)
    with registry.writing(), ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(registry.writing().__enter__)
        with pytest.raises(UnavailableError, match="another writer did not finish in time"):
            waiting.result(60)


def test_a_writer_does_not_wait_for_another_process_for_ever(registry, tmp_path, monkeypatch):
    monkeypatch.setattr("purposematch.server.registry.connection._WAIT_SECONDS", 0.05)
    other = opened(tmp_path)
    with (
        registry.writing(),
        pytest.raises(UnavailableError, match=r"cannot be used now \(SQLITE_BUSY\)"),
        other.writing(),
    ):
        pass
    with other.writing() as connection:
        connection.execute(advertiser.insert().values(name="acme", added_at=1))
    other.close()


def test_a_writer_that_fails_lets_the_next_one_write(registry):
    with pytest.raises(ZeroDivisionError), registry.writing():
        _ = 1 // 0
    with registry.writing() as connection:
        connection.execute(advertiser.insert().values(name="acme", added_at=1))


def test_members_are_found_by_the_key_of_their_change(registry):
    # An index by assertion would lie all over the table, and every commit would write all of it.
    assert not inspect(registry.engine).get_indexes("member_chunk")
    asked = []

    def explain(connection, cursor, statement, parameters, *_):
        if "member_chunk" in statement and not statement.startswith("EXPLAIN"):
            asked.append(cursor.connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters).fetchall())

    event.listen(registry.engine, "before_cursor_execute", explain)
    with registry.reading() as connection:
        assert memberships(connection, [3]) == []
    ((first, *others),) = asked
    assert first[3].endswith("(change=? AND first=?)")
    assert others[-1][3].endswith("(change=? AND first<?)")


def test_an_exception_takes_everything_back(registry):
    def fail() -> None:
        with registry.writing() as connection:
            store_terms(connection, [GRANT])
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    with registry.reading() as connection:
        assert load_terms(connection)[0] == []


def test_rows_are_inserted_in_order_whatever_their_number(registry):
    count = 1000
    columns = {
        "id": range(1, count + 1),
        "purposes": [f"p{number}" for number in range(count)],
        "origin": [0] * count,
        "status": [1] * count,
        "source": ['it\'s; "quoted"'] * count,
        "issuer": [""] * count,
    }
    with registry.writing() as connection:
        insert_columns(connection, terms, columns)
        found = connection.execute(select(terms).order_by(terms.c.id)).all()
    assert [tuple(each) for each in found] == list(zip(*columns.values(), strict=True))


def test_few_statements_insert_any_number_of_rows(registry):
    """The driver keeps 128 of them prepared, a connection, and one of a thousand rows takes much memory."""
    statements = set()

    def note(connection, cursor, statement, *others):
        statements.add(statement)

    event.listen(registry.engine, "before_cursor_execute", note)
    with registry.writing() as connection:
        first = 1
        for count in range(1, 100):
            ids = range(first, first + count)
            texts = [f"p{each}" for each in ids]
            columns = {"id": ids, "purposes": texts, "origin": [0] * count, "status": [1] * count}
            insert_columns(connection, terms, {**columns, "source": texts, "issuer": texts})
            first += count
        assert connection.scalar(select(func.count()).select_from(terms)) == first - 1
    assert len([each for each in statements if each.startswith("INSERT")]) == 7


def test_terms_and_policies_are_stored_once(registry):
    with registry.writing() as connection:
        table, ids = store_terms(connection, [GRANT, WITHDRAWAL, GRANT])
        again, same_ids = store_terms(connection, [WITHDRAWAL, Terms((), Origin.UNKNOWN, Status(0), "x")])
        assert table == [GRANT, WITHDRAWAL] == again[:2]
        assert len(again) == 3
        assert same_ids.tolist() == [*ids.tolist(), 3]
        assert load_terms(connection)[0] == again
        assert policy_id(connection, POLICY, NOW) == policy_id(connection, POLICY, NOW + 1) == 1


def store(registry, rows: Rows, now: int) -> None:
    """Stores rows as `enroll` does when nothing stored touches them; terms 1 grant, terms 2 withdraw."""
    with registry.writing() as connection:
        store_terms(connection, [GRANT, WITHDRAWAL])
        first = highest_assertion(connection) + 1
        about = Delivery("default", bytes(32), now, first, policy_id(connection, POLICY, now), "{}")
        reasons = np.where(rows.terms == 1, Reason.PERMITTED, Reason.WITHDRAWN).astype(np.uint8)
        digests = np.zeros((len(rows), 32), np.uint8)
        notice = rows.subject
        store_delivery(connection, registry.sealing_key, about, rows, notice, digests, reasons)
        store_mentions(connection, first, rows)


def decide_all(registry, now: int, policy: Policy = POLICY) -> int:
    with registry.writing() as connection:
        given_ = assertions_for_gate(connection)
        decisions = decide(given_.assertions, policy, TAXONOMY, now)
        number = policy_id(connection, policy, now)
        return record_decisions(connection, given_, decisions, number, now, secrets.token_bytes)


def test_a_decision_is_stored_only_when_it_is_news(registry):
    store(registry, rows_of(["a", "b", "c"], [1, 2, 3], [1, 1, 1]), NOW)
    assert decide_all(registry, NOW) == 0
    # A withdrawal by identifier changes what the registry shows for the pair of b, and nothing else.
    store(registry, rows_of([None], [2], [2]), NOW + 1)
    assert decide_all(registry, NOW + 1) == 1
    assert decide_all(registry, NOW + 2) == 0
    # Another policy is another answer, even where it says the same.
    mapping = tomllib.loads(DEFAULT_POLICY_TOML) | {"max_consent_age_days": 10}
    other = Policy.from_mapping(mapping, TAXONOMY)
    assert decide_all(registry, NOW + 3, other) == 3
    assert decide_all(registry, NOW + 4, other) == 0
    assert decide_all(registry, NOW + 5) == 3
    with registry.reading() as connection:
        found = connection.execute(select(decision).order_by(decision.c.id)).first()
        assert connection.scalar(select(func.count()).select_from(decision)) == 7
    assert found is not None
    assert (found.subject, found.identifier, found.reason) == ("b", key_of(2), Reason.WITHDRAWN)
    assert (found.granting, found.decided_at, found.assertions) == (None, NOW + 1, 4)


def test_a_partial_load_holds_what_the_pairs_need_and_no_more(registry):
    # 1 and 2 share the spelling 9; c withdrew without a readable identifier; 7 is nobody's business.
    rows = rows_of(
        ["a", "b", "c", "c", None, "z"], [1, 2, 2, None, 9, 7], [1, 1, 1, 2, 2, 1], ((0, 9), (1, 9))
    )
    store(registry, rows, NOW)
    with registry.reading() as connection:
        by_identifier = assertions_for_gate(connection, [key_of(1)])
        by_subject = assertions_for_gate(connection, (), ["z"])
        nothing = assertions_for_gate(connection, [key_of(55)])
        everything = assertions_for_gate(connection)
    assert by_identifier.ids.tolist() == [1, 2, 3, 4, 5]
    assert by_subject.ids.tolist() == [6]
    assert nothing.ids.tolist() == []
    assert everything.ids.tolist() == [1, 2, 3, 4, 5, 6]
    assert len(decide(nothing.assertions, POLICY, TAXONOMY, NOW).reasons) == 0
    assert everything.assertions.received_at.tolist() == [NOW] * 6
    assert everything.policies.tolist() == [1] * 6


def test_small_deliveries_share_a_chunk_and_large_ones_are_cut(registry, monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK_ROWS", 4)
    people = [f"p{number}" for number in range(11)]
    for part in (people[:1], people[1:3], people[3:9], people[9:]):
        numbers = [int(person[1:]) for person in part]
        store(registry, rows_of(part, numbers, [1] * len(part), ((0, 50 + numbers[0]),)), NOW)
    with registry.reading() as connection:
        sizes = connection.execute(select(assertion_chunk.c.first, assertion_chunk.c.count)).all()
        ids, stated = load_chunks(connection)
        some, said = load_chunks(connection, np.array([2, 4, 5, 11]))
        by_spelling = assertions_for_gate(connection, [key_of(53)])
    assert [tuple(size) for size in sizes] == [(1, 4), (5, 4), (9, 3)]
    assert (ids.tolist(), stated["subject"].to_pylist()) == (list(range(1, 12)), people)
    assert (some.tolist(), said["subject"].to_pylist()) == ([2, 4, 5, 11], ["p1", "p3", "p4", "p10"])
    assert said["others"].to_pylist() == [[key_of(51)], [key_of(53)], [], []]
    assert by_spelling.ids.tolist() == [4]


@pytest.mark.parametrize("wanted", [[0], [1, 4]])
def test_an_assertion_that_is_not_there_is_missed(registry, wanted):
    store(registry, rows_of(["a", "b", "c"], [1, 2, 3], [1, 1, 1]), NOW)
    with registry.reading() as connection, pytest.raises(IntegrityError):
        load_chunks(connection, np.array(wanted))


def damaged_chunks() -> dict[str, dict[str, object]]:
    """What may stand in place of a chunk of one assertion."""
    one: dict[str, object] = dict.fromkeys(COLUMNS.names, 0)
    one |= {"subject": "a", "identifier": key_of(1), "others": [], "notice": None}
    whole = pa.RecordBatch.from_pylist([one], COLUMNS)
    nameless = whole.set_column(0, "subject", pa.array([b"\xff"]).view(pa.string()))
    loose = pa.schema([field_.with_nullable(True) for field_ in COLUMNS])
    return {
        "cut": {"content": whole.serialize().to_pybytes()[:-64]},
        "empty": {"content": b""},
        "no batch": {"content": b"\0" * 400},
        "another count": {"count": 2},
        "no text": {"content": nameless.serialize().to_pybytes()},
        "no terms": {
            "content": pa.RecordBatch.from_pylist([one | {"terms": None}], loose).serialize().to_pybytes()
        },
    }


@pytest.mark.parametrize("damage", damaged_chunks().values(), ids=damaged_chunks())
def test_a_damaged_chunk_of_assertions_is_refused(registry, damage):
    store(registry, rows_of(["a"], [1], [1]), NOW)
    with registry.writing() as connection:
        connection.execute(assertion_chunk.update().values(damage))
    with registry.reading() as connection, pytest.raises(IntegrityError):
        load_chunks(connection)


def test_identifiers_that_share_an_index_key_are_told_apart(registry):
    keyed = np.zeros((3, 16), np.uint8)
    keyed[[1, 2], 15] = 1
    rows = rows_of(["a", "b", None], [0, 0, 0], [1, 1, 2])
    object.__setattr__(rows, "identifier", keyed_array(keyed))
    store(registry, rows, NOW)
    with registry.reading() as connection:
        given_ = assertions_for_gate(connection, [bytes(16)])
    decisions = decide(given_.assertions, POLICY, TAXONOMY, NOW)
    assert given_.ids.tolist() == [1, 2, 3]
    assert decisions.reasons.tolist() == [Reason.PERMITTED, Reason.WITHDRAWN]


def test_the_tables_can_be_made_in_postgresql():
    text = ""
    for table in metadata.sorted_tables:
        for made in (CreateTable(table), *map(CreateIndex, table.indexes)):
            text += str(made.compile(dialect=postgresql.dialect()))
    assert "BYTEA" in text
    assert "BLOB" not in text


def test_the_taxonomy_is_that_of_fideslang_without_deprecated_keys():
    assert TARGETED in TAXONOMY
    deprecated = {use.fides_key for use in DEFAULT_TAXONOMY.data_use if use.version_deprecated}
    assert deprecated
    assert not deprecated & TAXONOMY.keys
    assert len(TAXONOMY.keys) + len(deprecated) == len(DEFAULT_TAXONOMY.data_use)
