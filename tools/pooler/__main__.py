"""The pooler of the tests from a shell: `python -m tools.pooler --help`."""

from __future__ import annotations

import sys

from tools import debian
from tools.pooler import PACKAGES, why_not

if __name__ == "__main__":
    sys.exit(debian.run("pooler", __doc__, PACKAGES, why_not))
