"""The advertiser's side: match a customer list with a platform, privately.

::

    from purposematch.client import match

    result = match("customers.csv", platform="match.example.com:8443",
                   credentials="credentials/", output="matched.csv")
    print(f"{result.matched_rows} of {result.usable} usable rows matched")

`MatchClient` is the same for asyncio. What each side learns depends on the agreement in the credentials;
`purposematch.protocol.agreement.leak_sheet` says it in words.
"""

from purposematch.client.client import MatchClient, match
from purposematch.client.columns import Column
from purposematch.client.credentials import Credentials
from purposematch.client.result import MatchResult
from purposematch.protocol.identifiers import Kind

__all__ = ["Column", "Credentials", "Kind", "MatchClient", "MatchResult", "match"]
