"""A real ZooKeeper server with Apache Curator as its client, for tests: both from their published jars.

`python -m tools.zookeeper fetch` downloads the jars, `python -m tools.zookeeper check` says whether there is a JDK to
run them, and `python -m tools.zookeeper packages` prints the Debian package of one.
"""

from tools.zookeeper.errors import ZooKeeperError
from tools.zookeeper.jars import jars
from tools.zookeeper.machine import why_not
from tools.zookeeper.process import Curator

__all__ = ["Curator", "ZooKeeperError", "jars", "why_not"]
