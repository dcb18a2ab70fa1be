"""The proxy of the tests from a shell: `python -m tools.proxy --help`."""

from __future__ import annotations

import sys

from tools import debian
from tools.proxy import PACKAGES, why_not

if __name__ == "__main__":
    sys.exit(debian.run("proxy", __doc__, PACKAGES, why_not))
