"""The browser of the tests from a shell: `python -m tools.browser --help`."""

from __future__ import annotations

import sys

from tools import debian
from tools.browser import PACKAGES, why_not

if __name__ == "__main__":
    sys.exit(debian.run("browser", __doc__, PACKAGES, why_not))
