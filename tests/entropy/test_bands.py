"""Work on bands of rows: every row once, BLAS on one thread meanwhile, errors told."""

from __future__ import annotations

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from rcodec_jax.entropy.bands import in_bands


def blas_threads() -> set[int]:
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


@pytest.fixture(autouse=True)
def two_of_each(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    with threadpool_limits(2, "blas"):
        yield


def test_every_row_once_and_blas_on_one_thread() -> None:
    rows, seen = np.zeros(10, int), set()

    def work(top: int, bottom: int) -> None:
        rows[top:bottom] += 1
        seen.update(blas_threads())

    in_bands(work, 10, 3)
    assert (rows == 1).all()
    assert seen == {1}
    assert blas_threads() == {2}


def test_errors_are_raised_and_the_limit_lifted() -> None:
    def work(top: int, bottom: int) -> None:
        raise ValueError(f"{top}..{bottom}")

    with pytest.raises(ValueError, match=r"0\.\.3"):
        in_bands(work, 10, 3)
    assert blas_threads() == {2}
