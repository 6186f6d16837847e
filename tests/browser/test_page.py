"""The page in a real browser, as `make browser` runs it: paint, encode, compare, download, open."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.browser

SHOTS = Path(os.environ.get("RCODEC_SHOTS", "out/browser"))
LONG_MS = 300_000


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    """Where the server works and where its temporary files go, both empty."""
    made = {name: tmp_path / name for name in ("work", "temporary", "other")}
    for folder in made.values():
        folder.mkdir()
    return made


@pytest.fixture
def server(folders: dict[str, Path]) -> Iterator[Any]:
    command = [sys.executable, "-m", "rcodec_jax.cli", "app", "--no-browser", "--max-mb", "2"]
    environment = os.environ | {"TMPDIR": str(folders["temporary"])}
    with subprocess.Popen(
        command, cwd=folders["work"], env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        line = process.stdout.readline()
        try:
            assert line.startswith("rcodec: http://127.0.0.1:"), line
            process.address = line.split()[1]
            yield process
        finally:
            process.kill()


@pytest.fixture
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    arguments = ["--no-sandbox", "--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=arguments)
        yield started
        started.close()


def test_the_page(server: Any, browser: Any, folders: dict[str, Path]) -> None:
    from PIL import Image
    from skimage.data import astronaut

    SHOTS.mkdir(parents=True, exist_ok=True)
    photo = folders["other"] / "astronaut.png"
    Image.fromarray(astronaut()).save(photo)
    asked: list[str] = []
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.on("request", lambda request: asked.append(request.url))
    tab = context.new_page()
    tab.set_default_timeout(LONG_MS)
    tab.goto(server.address)
    tab.locator("#editor canvas").first.wait_for()
    tab.wait_for_timeout(2000)

    # No photo: a sentence, no traceback.
    tab.get_by_role("button", name="Encode", exact=True).click()
    tab.get_by_text("expected a photo, got none").first.wait_for()

    tab.locator("#photo input[type=file]").set_input_files(photo)
    tab.get_by_text("512 x 512 pixels").wait_for()
    canvas = tab.locator("#editor canvas").first
    canvas.wait_for()
    tab.wait_for_timeout(3000)
    box = canvas.bounding_box()
    middle_x, middle_y = box["x"] + 0.45 * box["width"], box["y"] + 0.25 * box["height"]
    tab.mouse.move(middle_x - 40, middle_y - 50)
    tab.mouse.down()
    for step in range(6):
        tab.mouse.move(middle_x - 40 * (-1) ** step, middle_y - 50 + 20 * step, steps=6)
    tab.mouse.up()
    tab.wait_for_timeout(1500)
    tab.screenshot(path=SHOTS / "painted.png")

    tab.get_by_role("button", name="Encode", exact=True).click()
    tab.locator("#figures").get_by_text("JPEG").wait_for()
    figures = tab.locator("#figures").inner_text()
    assert "PSNR where it matters" in figures and "AVIF" in figures
    tab.wait_for_timeout(2000)
    tab.screenshot(path=SHOTS / "encoded.png", full_page=True)

    files = {}
    for name in ("rdc", "png"):
        with tab.expect_download() as waiting:
            tab.locator(f"#{name}").click()
        files[name] = folders["other"] / waiting.value.suggested_filename
        waiting.value.save_as(files[name])
    assert files["rdc"].name == "astronaut.rdc"
    assert 7_000 < files["rdc"].stat().st_size <= 8_000
    with Image.open(files["png"]) as image:
        assert image.size == (512, 512)

    # Another tab knows nothing of the first and opens its file.
    other = context.new_page()
    other.set_default_timeout(LONG_MS)
    other.goto(server.address)
    other.get_by_role("tab", name="Open a file").click()
    other.locator("#given input[type=file]").set_input_files(files["rdc"])
    other.locator("#found").get_by_text("512 x 512 pixels").wait_for()
    other.wait_for_timeout(1500)
    other.screenshot(path=SHOTS / "opened.png")
    broken = folders["other"] / "broken.rdc"
    broken.write_bytes(files["rdc"].read_bytes()[:-100])
    other.reload()
    other.get_by_role("tab", name="Open a file").click()
    other.locator("#given input[type=file]").set_input_files(broken)
    other.get_by_text("at byte").first.wait_for()

    outside = {url for url in asked if not url.startswith((server.address, "data:", "blob:"))}
    assert not outside, "nothing is asked of another host"
    context.close()

    assert any(folders["temporary"].iterdir())
    server.send_signal(signal.SIGTERM)
    assert server.wait(60) == 0
    assert not any(folders["temporary"].glob("rcodec-app-*")), "nothing stays on disk"
    assert not any(folders["work"].iterdir())
