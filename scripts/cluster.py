#!/usr/bin/env python3
"""Start, show and stop a Spark standalone cluster on this machine.

    scripts/cluster start --workers 2 --cores 1
    scripts/cluster status
    scripts/cluster stop

For a cluster of several machines, start a master alone with --workers 0, and workers that join it
with --master URL.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from _spark import BackendError
from _standalone import Cluster, ClusterConfig, ClusterError

FOLDER = Path(__file__).parent.parent / "build" / "cluster"


def main() -> None:
    """Run the command; exit with status 1 and the reason if it fails."""
    args = arguments()
    cluster = Cluster(args.folder)
    try:
        if args.command == "start":
            start(cluster, args)
        elif args.command == "status":
            sys.exit(0 if status(cluster) else 1)
        else:
            stopped = cluster.stop()
            print(f"stopped: {', '.join(stopped)}" if stopped else "nothing was running")
    except (ClusterError, BackendError) as error:
        sys.exit(f"cluster: {error}")


def arguments() -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(
        prog="cluster", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    start = commands.add_parser("start", help="start a master and workers, and wait for them")
    start.add_argument(
        "--workers", type=int, default=ClusterConfig.workers, help="number of workers (%(default)s)"
    )
    start.add_argument(
        "--cores", type=int, default=ClusterConfig.cores, help="cores of each worker (%(default)s)"
    )
    start.add_argument(
        "--memory",
        default=ClusterConfig.memory,
        help="memory of each worker, for its executors (%(default)s)",
    )
    start.add_argument(
        "--host",
        default=ClusterConfig.host,
        help="this machine's address in the cluster (%(default)s)",
    )
    start.add_argument(
        "--port", type=int, default=ClusterConfig.port, help="port of the master (%(default)s)"
    )
    start.add_argument(
        "--webui-port",
        type=int,
        default=ClusterConfig.webui_port,
        help="its web page (%(default)s)",
    )
    start.add_argument("--master", metavar="URL", help="join this master instead of starting one")
    start.add_argument(
        "--timeout", type=float, default=ClusterConfig.timeout, help="seconds to wait (%(default)s)"
    )
    commands.add_parser("status", help="show master and workers; exit status 1 if one is not alive")
    commands.add_parser("stop", help="stop all of them")
    for command in commands.choices.values():
        command.add_argument(
            "--folder", type=Path, default=FOLDER, help="folder of record and logs (%(default)s)"
        )
    return parser.parse_args()


def start(cluster: Cluster, args: argparse.Namespace) -> None:
    """Start a cluster and print the master's URL."""
    config = ClusterConfig(
        workers=args.workers,
        cores=args.cores,
        memory=args.memory,
        host=args.host,
        port=args.port,
        webui_port=args.webui_port,
        master=args.master,
        timeout=args.timeout,
    )
    print(cluster.start(config))
    print(f"logs in {cluster.folder}, web page {config.webui}", file=sys.stderr)


def status(cluster: Cluster) -> bool:
    """Print the state of each process; return whether all are alive."""
    states = cluster.status()
    print(cluster.master())
    for state in states:
        stopped = "unknown exit code" if state.exit_code is None else f"exit code {state.exit_code}"
        status_text = "alive" if state.alive else f"ended, {stopped}"
        print(f"{state.name:<10} pid {state.pid:<8} {status_text}")
    return bool(states) and all(state.alive for state in states)


if __name__ == "__main__":
    main()
