"""Serves the page until it is told to end, and leaves nothing behind."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rcodec_jax.app import handlers, page
from rcodec_jax.codec.codec import Codec
from rcodec_jax.errors import UsageError

MISSING = (
    'the page needs Gradio: expected it to be installed, got nothing: pip install "rcodec-jax[app]"'
)

POLICY = (
    "default-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; "
    "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; worker-src 'self' blob:"
)
"""What a browser may load: everything from here and nothing from elsewhere."""


class _Guarded:
    """Adds the policy to every answer of an ASGI application."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def guarded(message: Any) -> None:
            if message["type"] == "http.response.start":
                headers = [
                    *message.get("headers", ()),
                    (b"content-security-policy", POLICY.encode()),
                ]
                message = message | {"headers": headers}
            await send(message)

        await self._app(scope, receive, guarded)


def prepare(folder: Path) -> None:
    """Sets what Gradio reads from the environment when it is imported; it asks no other host."""
    os.environ |= {
        "GRADIO_TEMP_DIR": str(folder / "uploads"),
        "GRADIO_ANALYTICS_ENABLED": "False",
        "GRADIO_SHARE": "False",
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }


def serve(
    codec: Callable[[], Codec],
    draw: handlers.Draw,
    *,
    host: str,
    port: int | None,
    max_bytes: int,
    max_pixels: int,
    model: str | None,
    browser: bool,
    ready: Callable[[str], None],
) -> None:
    """Serves the page until SIGINT, SIGTERM or SIGHUP.

    Args:
      codec: loads the codec, once Gradio is known to be there.
      draw: makes heat maps.
      host, port: to listen on; port None: the first free one from 7860.
      max_bytes, max_pixels: of what is uploaded.
      model: folder of the codec's bundle, None for the one that ships.
      browser: whether to open the page in the user's browser.
      ready: called with the address once it is served.

    Raises:
      UsageError: Gradio is not installed, or the port is taken.
    """
    if importlib.util.find_spec("gradio") is None:
        raise UsageError(MISSING)
    folder = Path(tempfile.mkdtemp(prefix="rcodec-app-"))
    end = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    hangup = getattr(signal, "SIGHUP", None)  # a terminal was closed; not on Windows
    if hangup is not None and signal.getsignal(hangup) != signal.SIG_IGN:  # as nohup has it
        before[hangup] = signal.getsignal(hangup)
    for number in before:
        signal.signal(number, lambda *_: end.set())
    served = None
    try:
        prepare(folder)
        from starlette.middleware import Middleware

        made = folder / "made"
        made.mkdir()
        served = page.build(codec(), draw, made, max_pixels=max_pixels, model=model)
        try:
            _, address, _ = served.launch(
                **_options(host, port, made, max_bytes, browser),
                app_kwargs={"middleware": [Middleware(_Guarded)]},
            )
        except OSError as error:
            raise UsageError(f"cannot listen on {host}, port {port}: {error}") from error
        ready(address)
        while not end.wait(0.5):  # a wait without end would not see signals everywhere
            pass
    finally:
        if served is not None:
            served.close(verbose=False)
        shutil.rmtree(folder, ignore_errors=True)
        for number, handler in before.items():
            signal.signal(number, handler)


def _options(
    host: str, port: int | None, made: Path, max_bytes: int, browser: bool
) -> dict[str, Any]:
    import gradio as gr

    fonts = ["system-ui", "sans-serif"]
    return {
        "server_name": host,
        "server_port": port,
        "share": False,
        "inbrowser": browser,
        "prevent_thread_lock": True,
        "quiet": True,
        "show_error": True,
        "allowed_paths": [str(made)],
        "max_file_size": max_bytes,
        "state_session_capacity": 16,
        "enable_monitoring": False,
        "ssr_mode": False,
        "pwa": False,
        "mcp_server": False,
        "run_history": False,
        "footer_links": [],
        "css": page.CSS,
        "theme": gr.themes.Default(font=fonts, font_mono=["ui-monospace", "monospace"]),
    }
