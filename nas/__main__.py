"""Entry point of ``python -m nas``, which runs the command ``cerebros-spark``."""

from nas.cli.main import run

if __name__ == "__main__":
    run()
