"""`lab …`: the only package that knows the command line.

Heavy libraries are imported inside the commands that need them, so that `lab --help` and
reading saved runs stay fast and load no torch. Importing a module registers its commands, in this order.
"""

import sys

from lab.cli.common import app
from lab.errors import LabError

from lab.cli import house, vectors, sharing, comparing, geometry, calibrating, atlas  # noqa: F401  isort: skip
from lab.cli import steering, judging, watching, world, words, features, feature_cards, feature_jobs  # noqa: F401  isort: skip
from lab.cli import claims  # noqa: F401  isort: skip
from lab.cli import continuity  # noqa: F401  isort: skip


def main() -> None:
    """Entry point: a user's mistake is a message and exit status 2, never a traceback."""
    try:
        app()
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        sys.exit(2)
