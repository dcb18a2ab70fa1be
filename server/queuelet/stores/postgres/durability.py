"""How durable the commits of a database are, by its settings."""

from __future__ import annotations

from dataclasses import dataclass

from queuelet.errors import StoreFailed

SETTINGS = """
    SELECT current_setting('fsync'), current_setting('full_page_writes'), current_setting('synchronous_commit'),
        current_setting('synchronous_standby_names'), current_setting('server_version_num')::int
"""

_WAITS_FOR_STANDBY = frozenset({"on", "remote_apply"})
"""The values of `synchronous_commit` with which a commit waits until a standby has written it to its disk."""

OLDEST = 140_000
"""The oldest version of PostgreSQL that is supported: 14."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Durability:
    """The settings of a database that decide what a commit survives."""

    fsync: str
    full_page_writes: str
    synchronous_commit: str
    standbys: str
    """`synchronous_standby_names`: empty if commits wait for no standby."""
    version: int
    """The version of PostgreSQL, such as 160004."""

    @property
    def is_replicated(self) -> bool:
        """Whether a commit waits until a standby has it, so that it survives the loss of the primary's machine."""
        return bool(self.standbys.strip()) and self.synchronous_commit in _WAITS_FOR_STANDBY

    def check(self, field: str = "--postgres") -> None:
        """Raise `StoreFailed` if a committed message may be lost when the database's machine crashes, or it is too old.

        Args:
            field: the flag that the database was given by.
        """
        if self.version < OLDEST:
            raise StoreFailed(
                f"{field}: PostgreSQL {self.version // 10_000} is too old; use {OLDEST // 10_000} or newer",
            )
        for name, value, wanted in (
            ("fsync", self.fsync, "on"),
            ("full_page_writes", self.full_page_writes, "on"),
        ):
            if value != wanted:
                raise StoreFailed(
                    f"{name}: {value} is not allowed, because messages would be lost when the database's machine "
                    f"crashes; set {name} = {wanted}"
                )
        if self.synchronous_commit == "off":
            raise StoreFailed(
                "synchronous_commit: off is not allowed, because messages would be lost when the database crashes; "
                "let the database's user set it, or set it to on"
            )
