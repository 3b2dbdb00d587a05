#!/usr/bin/env python3
"""Starts, shows and stops a Spark standalone cluster on this machine.

    scripts/cluster start --workers 2 --cores 1
    scripts/cluster status
    scripts/cluster stop

With --master, workers of this machine join a master elsewhere; with --workers 0 a master starts
alone: so a cluster of several machines is made.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from _standalone import Cluster, ClusterError, Wanted

FOLDER = Path(__file__).parent.parent / "build" / "cluster"


def main() -> None:
    """Does what is asked for; ends with 1 and a reason if it can't."""
    args = arguments()
    cluster = Cluster(args.folder)
    try:
        if args.command == "start":
            start(cluster, args)
        elif args.command == "status":
            sys.exit(0 if status(cluster) else 1)
        else:
            ended = cluster.stop()
            print(f"stopped: {', '.join(ended)}" if ended else "nothing was running")
    except ClusterError as error:
        sys.exit(f"cluster: {error}")


def arguments() -> argparse.Namespace:
    """What the user asks for."""
    parser = argparse.ArgumentParser(
        prog="cluster", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    start = commands.add_parser("start", help="start a master and workers, and wait for them")
    start.add_argument("--workers", type=int, default=Wanted.workers, help="how many (%(default)s)")
    start.add_argument(
        "--cores", type=int, default=Wanted.cores, help="cores of each worker (%(default)s)"
    )
    start.add_argument(
        "--memory", default=Wanted.memory, help="each worker's, for its executors (%(default)s)"
    )
    start.add_argument(
        "--host", default=Wanted.host, help="this machine's address in the cluster (%(default)s)"
    )
    start.add_argument("--port", type=int, default=Wanted.port, help="the master's (%(default)s)")
    start.add_argument(
        "--webui-port", type=int, default=Wanted.webui_port, help="the master's (%(default)s)"
    )
    start.add_argument("--master", metavar="URL", help="join this master instead of starting one")
    start.add_argument(
        "--timeout", type=float, default=Wanted.timeout, help="seconds to wait (%(default)s)"
    )
    commands.add_parser("status", help="show master and workers; ends with 1 if one is not alive")
    commands.add_parser("stop", help="end them all")
    for command in commands.choices.values():
        command.add_argument(
            "--folder", type=Path, default=FOLDER, help="record and logs (%(default)s)"
        )
    return parser.parse_args()


def start(cluster: Cluster, args: argparse.Namespace) -> None:
    """Starts a cluster and prints the master's URL."""
    wanted = Wanted(
        workers=args.workers,
        cores=args.cores,
        memory=args.memory,
        host=args.host,
        port=args.port,
        webui_port=args.webui_port,
        master=args.master,
        timeout=args.timeout,
    )
    print(cluster.start(wanted))
    print(f"logs in {cluster.folder}, web page {wanted.webui}", file=sys.stderr)


def status(cluster: Cluster) -> bool:
    """Prints how each process is; says whether all of them are alive."""
    states = cluster.status()
    print(cluster.master())
    for state in states:
        ended = "unknown exit code" if state.exit_code is None else f"exit code {state.exit_code}"
        told = "alive" if state.alive else f"ended, {ended}"
        print(f"{state.name:<10} pid {state.pid:<8} {told}")
    return bool(states) and all(state.alive for state in states)


if __name__ == "__main__":
    main()
