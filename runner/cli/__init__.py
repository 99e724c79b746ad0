"""The command line: the only place that prints and exits. Each command is imported when it is called."""

from __future__ import annotations


def main() -> None:
    """`runner`, as installed."""
    from runner.cli.root import root

    root.main()
