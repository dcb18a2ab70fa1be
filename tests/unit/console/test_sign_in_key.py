"""A key works once, and only the newest one."""

from __future__ import annotations

from queuelet.console.sign_in_key import SignInKey


def test_a_key_works_once() -> None:
    keys: list[str] = []
    sign_in = SignInKey(keys.append)
    sign_in.renew()
    assert sign_in.take(keys[-1])
    assert not sign_in.take(keys[-1])


def test_no_key_and_an_empty_one_never_work() -> None:
    keys: list[str] = []
    sign_in = SignInKey(keys.append)
    assert not sign_in.take("")
    sign_in.renew()
    assert sign_in.take(keys[-1])
    assert not sign_in.take("")


def test_a_new_key_replaces_the_one_before() -> None:
    keys: list[str] = []
    sign_in = SignInKey(keys.append)
    sign_in.renew()
    sign_in.renew()
    old, new = keys
    assert not sign_in.take(old)
    assert sign_in.take(new)
