"""The registry: the platform's store of assertions, decisions, generations and sessions.

Everything here takes an open transaction (`Registry.reading` or `Registry.writing`) as its first argument,
so that what belongs together is read or written together.
"""

from purposematch.server.registry.connection import (
    COMMAND_CACHE_KIB,
    SERVER_CACHE_KIB,
    Registry,
    open_registry,
)
from purposematch.server.registry.decisions import record_decisions
from purposematch.server.registry.deliveries import Delivery, find_request, store_delivery
from purposematch.server.registry.digests import load_digests
from purposematch.server.registry.gate_input import GateInput
from purposematch.server.registry.keyed import keyed_digests
from purposematch.server.registry.load import assertions_for_gate
from purposematch.server.registry.policies import policy_id
from purposematch.server.registry.watermarks import highest_assertion, highest_decision, most_of_all

__all__ = [
    "COMMAND_CACHE_KIB",
    "SERVER_CACHE_KIB",
    "Delivery",
    "GateInput",
    "Registry",
    "assertions_for_gate",
    "find_request",
    "highest_assertion",
    "highest_decision",
    "keyed_digests",
    "load_digests",
    "most_of_all",
    "open_registry",
    "policy_id",
    "record_decisions",
    "store_delivery",
]
