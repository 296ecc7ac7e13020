"""The promise: who runs a command is the machine's word, not that of the environment."""

import os

import pytest

from cli import options


def test_an_account_without_a_name_is_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that runs under any uid."""
    monkeypatch.setattr(os, "getuid", lambda: 54_321)
    monkeypatch.setenv("LOGNAME", "ann")
    assert options.operator() == "uid-54321"
