"""The command line."""

from nstyle.cli.command import main as main
