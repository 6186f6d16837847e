"""How the page looks, and which handler each of its parts calls. Needs Gradio."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rcodec_jax.app import handlers
from rcodec_jax.codec.codec import Codec
from rcodec_jax.errors import RcodecError
from rcodec_jax.model.ends import BALANCED, FIDELITY, REALISM

KEPT_S = 3600
"""Files of a page are kept that long; so are results of a tab that was closed."""

CODING = "coding"
CSS = ".gradio-container {max-width: 1280px !important} #photo {min-height: 90px}"


def build(
    codec: Codec, draw: handlers.Draw, folder: Path, *, max_pixels: int, model: str | None
) -> Any:
    """The page, a `gradio.Blocks` whose work waits in one queue.

    Args:
      codec: that all tabs share; one picture is coded at a time.
      draw: makes heat maps.
      folder: for files that can be downloaded; old ones are removed from it.
      max_pixels: of a picture.
      model: folder of the codec's bundle, None for the one that ships.
    """
    import gradio as gr

    def showing_errors(work: Callable[..., Any]) -> Callable[..., Any]:
        """The same, whose errors reach the user as plain text."""

        @functools.wraps(work)
        def wrapped(*arguments: Any) -> Any:
            try:
                return work(*arguments)
            except (RcodecError, OSError, MemoryError) as error:
                raise gr.Error(str(error) or "not enough memory", print_exception=False) from None
            except Exception as error:
                traceback.print_exc(file=sys.stderr)
                text = f"a fault in rcodec: {type(error).__name__}: {error}"
                raise gr.Error(text, print_exception=False) from None

        return wrapped

    def files(made: handlers.Made) -> tuple[str, str]:
        """Paths of the file and its PNG, to be downloaded."""
        sweep(folder)
        place = Path(tempfile.mkdtemp(dir=folder))
        stem = Path(made.name).stem or "photo"
        (place / f"{stem}.rdc").write_bytes(made.data)
        (place / f"{stem}.png").write_bytes(handlers.png_of(made.decoded))
        return str(place / f"{stem}.rdc"), str(place / f"{stem}.png")

    def bits(made: handlers.Made) -> Any:
        return handlers.shown(draw(made.cell_bits, *made.decoded.shape[:2]))

    @showing_errors
    def photo_given(path: str | None) -> Any:
        if path is None:
            return None, ""
        pixels, notes = handlers.read_photo(path, max_pixels)
        small = handlers.shown(pixels)
        height, width = pixels.shape[:2]
        words = "; ".join((f"{width} x {height} pixels", *notes))
        return {"background": small, "layers": [], "composite": small}, words

    @showing_errors
    def encode(
        path: str | None, editor: Any, matters: str, amount: float, unit: str, strength: float,
        effort: int, realism: float,
    ) -> Any:  # fmt: skip
        if path is None:
            raise RcodecError("expected a photo, got none: drop one first")
        pixels, _ = handlers.read_photo(path, max_pixels)
        painted = handlers.paint_of((editor or {}).get("layers") or [])
        made = handlers.encode(
            codec,
            pixels,
            handlers.importance_of(matters, pixels, painted),
            size_bytes=handlers.size_of(amount, unit, pixels),
            strength=strength,
            effort=effort,
            realism=realism,
        )
        made = dataclasses.replace(made, name=path)
        pair = handlers.shown(pixels), handlers.shown(made.decoded)
        importance = handlers.shown(handlers.grey(made.importance, pixels))
        return made, pair, handlers.table(made), bits(made), importance, *files(made)

    @showing_errors
    def compare(made: handlers.Made | None) -> Any:
        if made is None:
            return (None,) * (2 + len(handlers.RIVALS))
        found = [handlers.rival(name, made.original, len(made.data)) for name in handlers.RIVALS]
        made = dataclasses.replace(made, rivals=tuple(one for one in found if one is not None))
        pictures = [None if one is None else handlers.shown(one.pixels) for one in found]
        return made, handlers.table(made), *pictures

    @showing_errors
    def again(made: handlers.Made | None, realism: float) -> Any:
        if made is None:
            return (gr.skip(),) * 5
        made = handlers.decode_again(codec, made, realism)
        pair = handlers.shown(made.original), handlers.shown(made.decoded)
        return made, pair, handlers.table(made), *files(made)

    @showing_errors
    def opened(path: str | None, realism: float) -> Any:
        if path is None:
            return None, None, "", None
        data = Path(path).read_bytes()
        made = handlers.open_file(codec, data, realism=realism, max_pixels=max_pixels, model=model)
        made = dataclasses.replace(made, name=path)
        words = handlers.file_in_words(made)
        return handlers.shown(made.decoded), bits(made), words, files(made)[1]

    least = 0 if FIDELITY in codec.bundle.params else BALANCED
    most = 1 if REALISM in codec.bundle.params else BALANCED
    picture = functools.partial(
        gr.Image,
        interactive=False,
        format="png",
        height=300,
        buttons=["download", "fullscreen"],
    )
    realism_of = functools.partial(
        gr.Slider, least, most, BALANCED, step=0.05, label="Realism at decoding",
        visible=least < most, info="0: least error; 1: more detail, part of it made up",
    )  # fmt: skip
    page = gr.Blocks(title="rcodec", analytics_enabled=False, delete_cache=(600, KEPT_S))
    with page:
        gr.Markdown("# rcodec\nA photo becomes a small file, and the bits go where you say.")
        made = gr.State(None, time_to_live=KEPT_S)
        with gr.Tab("Encode a photo"):
            with gr.Row():
                with gr.Column(scale=3):
                    photo = gr.File(label="Photo: drop it here", elem_id="photo", height=110)
                    about = gr.Markdown()
                    editor = gr.ImageEditor(
                        label="Paint what matters",
                        elem_id="editor",
                        sources=(),
                        transforms=(),
                        layers=False,
                        format="png",
                        height=520,
                        brush=gr.Brush(
                            default_size=40,
                            colors=[("#ffd400", handlers.BRUSH_OPACITY)],
                            color_mode="fixed",
                        ),
                        buttons=[],
                    )
                with gr.Column(scale=2):
                    matters = gr.Radio(
                        list(handlers.MATTERS), value=handlers.PAINTED, label="What matters"
                    )
                    with gr.Row():
                        amount = gr.Number(8, label="Size of the file", minimum=0, min_width=100)
                        unit = gr.Radio(
                            list(handlers.UNITS), value=handlers.KILOBYTES, label="in",
                            min_width=120,
                        )  # fmt: skip
                    strength = gr.Slider(
                        0, 1, 0.5, step=0.05, label="Strength", info="how much the rest pays for it"
                    )
                    effort = gr.Slider(
                        1, 9, 1, step=1, label="Effort", info="time for a better file"
                    )
                    realism = realism_of()
                    button = gr.Button("Encode", variant="primary", elem_id="encode")
                    with gr.Row():
                        rdc = gr.DownloadButton("Download .rdc", elem_id="rdc")
                        png = gr.DownloadButton("Download PNG", elem_id="png")
            figures = gr.Markdown(elem_id="figures")
            slider = gr.ImageSlider(
                label="Original | decoded", format="png", interactive=False, elem_id="slider",
                max_height=640,
            )  # fmt: skip
            with gr.Row():
                heat = picture(label="Where the bits went", elem_id="heat")
                map_shown = picture(label="What mattered")
            with gr.Row():
                peers = [picture(label=f"{n.upper()} of the same size") for n in handlers.RIVALS]
        with gr.Tab("Open a file"):
            given = gr.File(label="An .rdc file: drop it here", elem_id="given", height=110)
            realism_opened = realism_of()
            found = gr.Markdown(elem_id="found")
            with gr.Row():
                seen = picture(label="Decoded", elem_id="seen", height=480)
                heat_opened = picture(label="Where its bits went", height=480)
            png_opened = gr.DownloadButton("Download PNG")
        light = {"concurrency_limit": 2, "concurrency_id": "reading", "api_visibility": "private"}
        heavy = {"concurrency_limit": 1, "concurrency_id": CODING, "api_visibility": "private"}
        photo.change(photo_given, photo, [editor, about], **light)
        chosen = [photo, editor, matters, amount, unit, strength, effort, realism]
        button.click(
            encode, chosen, [made, slider, figures, heat, map_shown, rdc, png], **heavy
        ).success(compare, made, [made, figures, *peers], **heavy)
        realism.release(again, [made, realism], [made, slider, figures, rdc, png], **heavy)
        shown = [seen, heat_opened, found, png_opened]
        given.change(opened, [given, realism_opened], shown, **heavy)
        realism_opened.release(opened, [given, realism_opened], shown, **heavy)
    return page.queue(max_size=32, default_concurrency_limit=1)


def sweep(folder: Path, age_s: float = KEPT_S) -> None:
    """Removes what was made for downloads longer ago than `age_s` seconds."""
    for place in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another tab was faster
            if time.time() - place.stat().st_mtime > age_s:
                shutil.rmtree(place)
