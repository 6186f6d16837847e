"""A hub that is out of reach is said within seconds."""

from __future__ import annotations

import socket
import sys
import time
import types

import pytest

from rcodec_jax.errors import UsageError
from rcodec_jax.export import repository
from rcodec_jax.export.repository import Repository, check_reachable


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch) -> None:
    monkeypatch.setattr("urllib.request.getproxies", dict)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)


def test_silence_is_an_answer_within_five_seconds(monkeypatch) -> None:
    assert repository.ANSWER_S < 5
    monkeypatch.setattr(repository, "ANSWER_S", 0.1)

    def silent(*_: object) -> None:
        time.sleep(1)
        raise OSError("too late")

    monkeypatch.setattr(socket, "create_connection", silent)
    hub = types.SimpleNamespace(constants=types.SimpleNamespace(ENDPOINT="https://hub.invalid"))
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    began = time.monotonic()
    with pytest.raises(UsageError) as refusal:
        Repository("some/model")
    assert time.monotonic() - began < 1
    assert str(refusal.value) == (
        "some/model: expected a folder, or the hub within reach, got neither: hub.invalid: no "
        "answer within 0.1 s"
    )


def test_a_machine_that_answers_or_refuses(monkeypatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        check_reachable("some/model", address)
    with pytest.raises(UsageError, match=r"127\.0\.0\.1: .*refused"):
        check_reachable("some/model", address)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # then its own library looks into its cache
    check_reachable("some/model", address)
