#!/usr/bin/env python3
"""Run a script on a Spark cluster: pack the environment and call spark-submit.

    scripts/cluster start --workers 2
    scripts/submit scripts/quickstart.py --epochs 5

The driver runs here, in this environment. Executors receive the environment and the packages as
archives, which are made once. Their machines need the same base Python (--python-prefix if its
path differs), and the store must be a folder or a service that all of them can reach. Options of
this command come before SCRIPT.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import _packing
from _spark import BackendError, address_towards, spark_home, spark_variables
from _standalone import Cluster, ClusterError
from cluster import FOLDER

ROOT = Path(__file__).parent.parent
ARCHIVES = ROOT / "build" / "archives"

# An executor unpacks the environment before its first heartbeat; Spark waits this long.
SETTINGS_OF_ARCHIVES = {"spark.network.timeout": "600s"}
# Workers are tasks that last as long as the search: a speculative copy would be a second worker,
# and dynamic allocation must not remove an executor that runs one.
SETTINGS = {
    "spark.speculation": "false",
    "spark.dynamicAllocation.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
}
MASTERS = {"yarn": "yarn", "kubernetes": "k8s://https://HOST:PORT"}
IMAGE = "spark.kubernetes.container.image"


def main() -> None:
    """Replace this process with spark-submit, or print the command."""
    args = arguments()
    try:
        master = args.master or MASTERS.get(args.kind) or Cluster(args.folder).master()
        print_only = args.dry_run or args.kind != "standalone"
        local_address = None if args.host else address_towards(master)
        variables = variables_of_spark(args.kind, is_needed=not print_only)
        settings = configuration(args, args.host or local_address)
        archives = [] if args.python else pack(args, print_only)
    except (BackendError, ClusterError, _packing.PackingError, OSError) as error:
        sys.exit(f"submit: {error}")
    command = [os.path.join(spark_home(), "bin", "spark-submit"), "--master", master]
    command += ["--deploy-mode", "client"]
    for name, value in settings.items():
        command += ["--conf", f"{name}={value}"]
    command += [*archives, args.script, *args.arguments]
    variables["PYSPARK_PYTHON"] = args.python or "./environment/bin/python"
    variables["PYSPARK_DRIVER_PYTHON"] = sys.executable
    if local_address:
        # Otherwise the driver's web page listens on all addresses.
        variables["SPARK_LOCAL_IP"] = local_address
    if print_only:
        print(shlex.join(["env", *(f"{n}={v}" for n, v in variables.items()), *command]))
    else:
        os.execve(command[0], command, {**os.environ, **variables})


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(
        prog="submit", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("script", metavar="SCRIPT", help="the Python script of the driver")
    parser.add_argument("arguments", metavar="ARGS", nargs=argparse.REMAINDER, help="its arguments")
    parser.add_argument(
        "--master",
        metavar="URL",
        help="URL of the master; default: the one scripts/cluster started",
    )
    parser.add_argument(
        "--folder", type=Path, default=FOLDER, help="folder of scripts/cluster (%(default)s)"
    )
    parser.add_argument(
        "--for",
        dest="kind",
        choices=("standalone", *MASTERS),
        default="standalone",
        help="kind of cluster; for yarn and kubernetes, print the command for you to complete",
    )
    parser.add_argument(
        "--host",
        help="the driver's address for executors; default: the one on the route to the master",
    )
    parser.add_argument(
        "--conf", action="append", default=[], metavar="NAME=VALUE", help="a setting of Spark"
    )
    parser.add_argument(
        "--python",
        metavar="PATH",
        help="the executors' Python, with everything installed; pack nothing",
    )
    parser.add_argument(
        "--python-prefix", metavar="FOLDER", help="prefix of Python on the executors' machines"
    )
    parser.add_argument(
        "--cache", type=Path, default=ARCHIVES, help="folder of the archives (%(default)s)"
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
    """Return Spark's settings by name; the user's own come last and win."""
    settings = dict(SETTINGS) if args.python else {**SETTINGS, **SETTINGS_OF_ARCHIVES}
    if host:
        settings["spark.driver.host"] = host
    if args.kind == "kubernetes":
        settings[IMAGE] = "IMAGE"
    return settings | dict(word.split("=", 1) for word in args.conf)


def variables_of_spark(kind: str, *, is_needed: bool) -> dict[str, str]:
    """Return the variables that spark-submit needs; without a Java, none if they are not needed.

    A command for another cluster is completed elsewhere, where other paths hold.
    """
    if kind != "standalone":
        return {}
    try:
        return spark_variables()  # before the environment is packed
    except BackendError:
        if is_needed:
            raise
        return {}


def pack(args: argparse.Namespace, print_only: bool) -> list[str]:
    """Return the options that send environment and packages along."""
    environment = _packing.environment_path(args.cache, args.python_prefix)
    packages = _packing.package_path(ROOT, args.cache)
    if not print_only:
        if not environment.exists():
            print(f"submit: packing {sys.prefix}, once, into {environment} …", file=sys.stderr)
        _packing.environment_archive(args.cache, args.python_prefix)
        _packing.package_archive(ROOT, args.cache)
    # Spark misreads a path with a space and "#environment"; a URL it reads correctly.
    return ["--archives", f"{environment.as_uri()}#environment", "--py-files", str(packages)]


if __name__ == "__main__":
    main()
