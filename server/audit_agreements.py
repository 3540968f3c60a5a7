"""The audit of agreements: both sides signed each of them, and sessions kept to the one that they name.

That the rows are those of the log was checked before. This shows that none was written and logged by somebody
who has neither signature, and that no list had another size or was matched by another engine than was agreed.

Not protected against: an operator who accepts in an advertiser's place with a key of its own. The advertiser
finds it in its own credentials, which hold the agreement that it signed.
"""

from sqlalchemy import Connection, select

from purposematch.protocol.agreement import Agreement
from purposematch.protocol.agreement_document import Acceptance, AgreementDocument
from purposematch.protocol.errors import IntegrityError, PeerError
from purposematch.protocol.match_engine import MatchEngine
from purposematch.protocol.messages import SessionGrant
from purposematch.server.registry.schema import agreement, session

__all__ = ["audit_agreements"]


def audit_agreements(connection: Connection, identity_key: bytes) -> None:
    """Checks every agreement, also those that were replaced or have ended.

    Args:
        connection: a snapshot, whose rows are of the right types.
        identity_key: the platform's public identity key, 32 bytes.

    Raises:
        IntegrityError: a signature does not hold, or the row is not what was signed, or a session is not what
            was agreed; the text names it.
    """
    agreed: dict[bytes, Agreement] = {}
    columns = agreement.c
    for row in connection.execute(select(agreement).order_by(columns.advertiser, columns.number)):
        where = f"table agreement row {row.advertiser} {row.number}"
        try:
            terms = Agreement.decode(row.content)
            acceptance = Acceptance(row.advertiser_key, row.advertiser_signature)
            AgreementDocument(terms, row.platform_signature, acceptance).check_both(identity_key)
        except PeerError as error:
            raise IntegrityError(f"{where}: {error}") from None
        if (terms.advertiser, terms.number, terms.digest) != (row.advertiser, row.number, row.digest):
            raise IntegrityError(f"{where} is not what was signed")
        agreed[terms.digest] = terms
    for row in connection.execute(select(session).order_by(session.c.id)):
        where = f"table session row {row.id}"
        try:
            grant = SessionGrant.parse(row.grant)
        except PeerError as error:
            raise IntegrityError(f"{where}: {error}") from None
        engine = None if grant.engine is MatchEngine.OPRF else grant.engine.value
        granted = (grant.session.hex(), grant.agreement, grant.list_size, engine)
        if granted != (row.id, row.agreement, row.elements, row.engine):
            raise IntegrityError(f"{where} is not what was granted")
        terms = agreed[row.agreement]
        sized = terms.min_list_elements <= grant.list_size <= terms.max_list_elements
        if not sized or (grant.engine is MatchEngine.VOLE and not terms.allow_experimental):
            raise IntegrityError(f"{where} is not within its agreement")
