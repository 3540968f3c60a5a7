"""SecretFlow PSI on two files of one identifier a line; prints what it took as one JSON document.

    .venv/secretflow/bin/python secretflow.py {ecdh,rr22} SERVER_LIST CLIENT_LIST [--output FILE]

Runs in the environment of the Makefile beside it: `psi_execute` of the package spu, one process for each
party, linked over loopback without TLS. Both protocols are semi-honest and have no proofs. What costs extra
is left out: only the client's party learns the result, the lists are declared free of repeats, and ECDH runs
on Curve25519, the fastest of its curves where it was measured. The seconds are those of the slower party's
`psi_execute`, which reads and writes the files; the start of Python and the connection are left out.

Each party leaves a trace of about 2 kB in /tmp, which spu has no setting for.
"""

import argparse
import json
import multiprocessing
import os
import socket
import sys
import tempfile
import time
from contextlib import ExitStack
from importlib.metadata import PackageNotFoundError, version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

PACKAGE = "spu"
COLUMN = "id"
SERVER, CLIENT = 0, 1
PROTOCOLS = {"ecdh": ("ECDH Curve25519", "PROTOCOL_ECDH"), "rr22": ("RR22", "PROTOCOL_RR22")}
"""What each is called here, and by spu."""


class Party(NamedTuple):
    """What one party's process is told."""

    rank: int
    protocol: str
    ports: list[int]
    folder: Path


class Taken(NamedTuple):
    """What a party took: seconds by the clock and of the processor; the matches, -1 where it learns none."""

    seconds: float
    processor_seconds: float
    matched: int


def main() -> int:
    """Runs both parties and prints."""
    parser = argparse.ArgumentParser(description="Intersects two lists with SecretFlow PSI.")
    parser.add_argument("protocol", choices=PROTOCOLS)
    parser.add_argument("lists", metavar="LIST", type=Path, nargs=2, help="the server's and the client's")
    parser.add_argument(
        "--output", metavar="FILE", type=Path, help="keep what the client learns: the matched lines"
    )
    options = parser.parse_args()
    try:
        found = version(PACKAGE)
    except PackageNotFoundError:
        print(
            f"the package {PACKAGE} is not there: run `make -C benchmarks/peers secretflow`", file=sys.stderr
        )
        return 1
    name, protocol = PROTOCOLS[options.protocol]
    with tempfile.TemporaryDirectory(prefix="secretflow-") as scratch:
        folder = Path(scratch)
        for rank, path in zip((SERVER, CLIENT), options.lists, strict=True):
            _input(folder, rank).write_text(f"{COLUMN}\n{path.read_text(encoding='utf-8')}", encoding="utf-8")
        # Where its parties sort.
        os.environ["TMPDIR"] = scratch
        server, client = _run(protocol, folder)
        if options.output is not None:
            header, *matched = _output(folder, CLIENT).read_text(encoding="utf-8").splitlines(keepends=True)
            if header.strip().strip('"') != COLUMN:
                raise SystemExit(f"the output begins with {header!r}")
            options.output.write_text("".join(matched), encoding="utf-8")
    print(
        json.dumps(
            {
                "name": f"SecretFlow {name}",
                "version": found,
                "seconds": max(server.seconds, client.seconds),
                "processor_seconds": server.processor_seconds + client.processor_seconds,
                "matched": client.matched,
            }
        )
    )
    return 0


def _input(folder: Path, rank: int) -> Path:
    return folder / f"list-{rank}.csv"


def _output(folder: Path, rank: int) -> Path:
    return folder / f"matched-{rank}.csv"


def _run(protocol: str, folder: Path) -> tuple[Taken, Taken]:
    """Both parties, each in a fresh process."""
    context = multiprocessing.get_context("spawn")
    ports = _free_ports()
    started = []
    for rank in (SERVER, CLIENT):
        receiving, sending = context.Pipe(duplex=False)
        process = context.Process(target=_take_part, args=(Party(rank, protocol, ports, folder), sending))
        process.start()
        # Its end is open in the party alone: if that dies, reading here ends.
        sending.close()
        started.append((process, receiving))
    try:
        server, client = (receiving.recv() for _, receiving in started)
    except EOFError:
        for process, _ in started:
            process.terminate()
        raise SystemExit("a party of SecretFlow PSI failed; what it said is above") from None
    finally:
        for process, _ in started:
            process.join()
    return server, client


def _free_ports() -> list[int]:
    with ExitStack() as sockets:
        bound = [sockets.enter_context(socket.socket()) for _ in (SERVER, CLIENT)]
        for one in bound:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in bound]


def _take_part(party: Party, answer: Connection) -> None:
    """One party's process."""
    # spu logs to stdout, which is for the answer.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    from spu import psi
    from spu.libspu import link

    description = link.Desc()
    for rank, port in enumerate(party.ports):
        description.add_party(f"party-{rank}", f"127.0.0.1:{port}")
    context = link.create_brpc(description, party.rank)
    config = psi.PsiExecuteConfig(
        protocol_conf=psi.PsiProtocolConfig(
            protocol=psi.parse_protocol(party.protocol),
            receiver_rank=CLIENT,
            ecdh_params=psi.EcdhParams(curve=psi.EllipticCurveType.CURVE_25519),
        ),
        input_params=psi.InputParams(
            path=str(_input(party.folder, party.rank)), selected_keys=[COLUMN], keys_unique=True
        ),
        output_params=psi.OutputParams(path=str(_output(party.folder, party.rank)), disable_alignment=True),
    )
    began, processor = time.perf_counter(), _processor_seconds()
    report = psi.psi_execute(config, context)
    seconds, processor = time.perf_counter() - began, _processor_seconds() - processor
    answer.send(Taken(seconds, processor, report.intersection_count))
    context.stop_link()


def _processor_seconds() -> float:
    """Of this process and of those that it has waited for: spu sorts with the command `sort`."""
    return sum(os.times()[:4])


if __name__ == "__main__":
    sys.exit(main())
