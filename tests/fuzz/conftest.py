"""Fuzz tests import the helpers next to this file; pytest's importlib mode adds no path."""

import os
import sys
from pathlib import Path

# gRPC reads this when it is first imported; `purposematch` sets it for itself.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
HERE = Path(__file__).parent
for folder in (HERE, HERE.parent / "integration"):
    sys.path.insert(0, str(folder))
