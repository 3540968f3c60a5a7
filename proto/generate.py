"""Generates the Python bindings beside each .proto file.

    python proto/generate.py           # rewrite the bindings
    python proto/generate.py --check   # exit 1 if any binding is stale (CI)

The tools are pinned in the `gen` dependency group: their versions set the oldest
protobuf and grpcio that the bindings run on.
"""

import argparse
import filecmp
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent
OUTPUTS = ("python_out", "mypy_out", "grpc_python_out", "mypy_grpc_out")


def generate(out: Path) -> set[Path]:
    """Writes the bindings under `out` and returns their paths relative to it."""
    protos = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.proto"))
    flags = [f"--{name}={out}" for name in OUTPUTS]
    # The plugins lie beside the interpreter, also where its environment is not activated.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    subprocess.run(  # noqa: S603 - a fixed command on our own files
        [sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT}", *flags, *protos],
        check=True,
        env={**os.environ, "PATH": path},
    )
    return bindings(out)


def bindings(root: Path) -> set[Path]:
    """The bindings below `root`, relative to it."""
    return {path.relative_to(root) for path in root.rglob("*_pb2*.py*") if path.suffix != ".pyc"}


def stale() -> list[Path]:
    """Returns the bindings that are missing, left over or out of date."""
    with tempfile.TemporaryDirectory() as scratch:
        fresh = Path(scratch)
        want, have = generate(fresh), bindings(ROOT)
        same = {p for p in want & have if filecmp.cmp(fresh / p, ROOT / p, shallow=False)}
    return sorted((want | have) - same)


def main() -> int:
    """Rewrites the bindings, or only compares them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only compare")
    if not parser.parse_args().check:
        generate(ROOT)
        return 0
    found = stale()
    for path in found:
        print(f"stale: {path}")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
