#!/usr/bin/env python3
"""Runs a script on a Spark cluster: packs the environment and calls spark-submit.

    scripts/cluster start --workers 2
    scripts/submit scripts/quickstart.py --epochs 5

The driver runs here, in this environment. Executors get the environment and the packages as
archives, which are made once; their machines need the same Python underneath (--python-prefix if
it lies elsewhere), and the store must be a folder or a service that all of them see. Options of
this command stand before SCRIPT.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import _packing
from _spark import address_towards, spark_environment, spark_home
from _standalone import Cluster, ClusterError
from cluster import FOLDER

ROOT = Path(__file__).parent.parent
ARCHIVES = ROOT / "build" / "archives"

# An executor unpacks the environment before its first heartbeat, for which Spark waits so long.
SETTINGS_OF_ARCHIVES = {"spark.network.timeout": "600s"}
# Workers are tasks that last as long as the search: a copy of one would be a second worker, and an
# executor must not be sent home while it holds one.
SETTINGS = {
    "spark.speculation": "false",
    "spark.dynamicAllocation.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
}
MASTERS = {"yarn": "yarn", "kubernetes": "k8s://https://HOST:PORT"}
IMAGE = "spark.kubernetes.container.image"


def main() -> None:
    """Runs spark-submit in place of this process, or prints the command."""
    args = arguments()
    try:
        master = args.master or MASTERS.get(args.kind) or Cluster(args.folder).master()
        show = args.dry_run or args.kind != "standalone"
        local = None if args.host else address_towards(master)
        settings = configuration(args, args.host or local)
        archives = [] if args.python else packed(args, show)
    except (ClusterError, _packing.PackingError, OSError) as error:
        sys.exit(f"submit: {error}")
    command = [os.path.join(spark_home(), "bin", "spark-submit"), "--master", master]
    command += ["--deploy-mode", "client"]
    for name, value in settings.items():
        command += ["--conf", f"{name}={value}"]
    command += [*archives, args.script, *args.arguments]
    variables = {
        "PYSPARK_PYTHON": args.python or "./environment/bin/python",
        "PYSPARK_DRIVER_PYTHON": sys.executable,
    }
    if local:
        variables["SPARK_LOCAL_IP"] = local  # else the driver's web page is on all addresses
    if show:
        print(shlex.join(["env", *(f"{n}={v}" for n, v in variables.items()), *command]))
    else:
        os.execve(command[0], command, spark_environment(**variables))


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """What the user asks for."""
    parser = argparse.ArgumentParser(
        prog="submit", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("script", metavar="SCRIPT", help="the Python script that is the driver")
    parser.add_argument("arguments", metavar="ARGS", nargs=argparse.REMAINDER, help="its arguments")
    parser.add_argument("--master", metavar="URL", help="by default that of scripts/cluster")
    parser.add_argument(
        "--folder", type=Path, default=FOLDER, help="of scripts/cluster (%(default)s)"
    )
    parser.add_argument(
        "--for",
        dest="kind",
        choices=("standalone", *MASTERS),
        default="standalone",
        help="kind of cluster; for yarn and kubernetes the command is printed, to be completed",
    )
    parser.add_argument(
        "--host", help="address at which executors reach the driver; by default the one it has "
        "towards the master"
    )  # fmt: skip
    parser.add_argument("--conf", action="append", default=[], metavar="NAME=VALUE", help="Spark's")
    parser.add_argument(
        "--python", metavar="PATH", help="executors run this Python, which has all; pack nothing"
    )
    parser.add_argument(
        "--python-prefix", metavar="FOLDER", help="where Python lies on the executors' machines"
    )
    parser.add_argument(
        "--cache", type=Path, default=ARCHIVES, help="where archives are kept (%(default)s)"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the command; pack nothing")
    args = parser.parse_args(words)
    if not os.path.isfile(args.script):
        parser.error(f"SCRIPT: there is no file {args.script!r}")
    wrong = [word for word in args.conf if "=" not in word]
    if wrong:
        parser.error(f"--conf {wrong[0]}: write it as NAME=VALUE")
    return args


def configuration(args: argparse.Namespace, host: str | None) -> dict[str, str]:
    """Spark's settings by name; the user's own come last and win."""
    settings = dict(SETTINGS) if args.python else {**SETTINGS, **SETTINGS_OF_ARCHIVES}
    if host:
        settings["spark.driver.host"] = host
    if args.kind == "kubernetes":
        settings[IMAGE] = "IMAGE"
    return settings | dict(word.split("=", 1) for word in args.conf)


def packed(args: argparse.Namespace, show: bool) -> list[str]:
    """The options that send environment and packages along."""
    environment = _packing.environment_path(args.cache, args.python_prefix)
    packages = _packing.package_path(ROOT, args.cache)
    if not show:
        if not environment.exists():
            print(f"submit: packing {sys.prefix}, once, into {environment} …", file=sys.stderr)
        _packing.environment_archive(args.cache, args.python_prefix)
        _packing.package_archive(ROOT, args.cache)
    # Spark takes a path with a space for a name that ends in "#environment"; a URL it does not.
    return ["--archives", f"{environment.as_uri()}#environment", "--py-files", str(packages)]


if __name__ == "__main__":
    main()
