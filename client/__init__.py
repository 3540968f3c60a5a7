"""The advertiser's side: match a customer list with a platform, privately.

::

    from purposematch.client import match

    result = match("customers.csv", platform="match.example.com:8443",
                   credentials="credentials/", output="matched.csv")
    print(f"{result.matched_rows} of {result.usable} usable rows matched")

`MatchClient` is the same for asyncio. `apply_removals` takes people who left out of stored results, and
`check_list` says what is wrong with a list without contacting anybody. `audit_bundle` checks a platform's
log from outside, and receipts of several advertisers against it. `deliver` and `withdraw` are for a
platform's own collecting systems, `ask_subject`, `ask_impact`, `ask_audit`, `ask_status` and `publish` for
its operators and auditors. What each side learns depends on the agreement in the credentials;
`purposematch.protocol.agreement.leak_sheet` says it in words. Every error is a `PurposematchError`.
"""

from purposematch.client.answers import ask_audit, ask_impact, ask_status, ask_subject, publish
from purposematch.client.audit import BundleAudit, audit_bundle
from purposematch.client.check import CheckResult, check_list
from purposematch.client.client import MatchClient, match
from purposematch.client.columns import Column
from purposematch.client.credentials import Credentials, MemberCredentials
from purposematch.client.delivery import Delivered, deliver, withdraw
from purposematch.client.partner_credentials import load_partner
from purposematch.client.progress import Progress
from purposematch.client.reconnect import Patience
from purposematch.client.removals import RemovalsResult, apply_removals
from purposematch.client.result import MatchResult, NoisyResult
from purposematch.client.segment_cache import SegmentCache
from purposematch.protocol.agreement import Agreement
from purposematch.protocol.audience import AudienceChange, AudienceMode
from purposematch.protocol.errors import PurposematchError
from purposematch.protocol.identifiers import Kind, Profile

__all__ = [
    "Agreement",
    "AudienceChange",
    "AudienceMode",
    "BundleAudit",
    "CheckResult",
    "Column",
    "Credentials",
    "Delivered",
    "Kind",
    "MatchClient",
    "MatchResult",
    "MemberCredentials",
    "NoisyResult",
    "Patience",
    "Profile",
    "Progress",
    "PurposematchError",
    "RemovalsResult",
    "SegmentCache",
    "apply_removals",
    "ask_audit",
    "ask_impact",
    "ask_status",
    "ask_subject",
    "audit_bundle",
    "check_list",
    "deliver",
    "load_partner",
    "match",
    "publish",
    "withdraw",
]
