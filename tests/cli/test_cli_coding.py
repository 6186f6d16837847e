"""encode and decode around a codec: options, pipes, overwriting, nothing half written."""

from __future__ import annotations

import io
import json
import os
import stat
import sys
import warnings

import numpy as np
import pytest
import skimage.data
from PIL import Image

from rcodec_jax.cli import files
from rcodec_jax.cli.main import main
from rcodec_jax.errors import RcodecError, UsageError


class Pipe(io.TextIOWrapper):
    """A standard stream that is a pipe."""

    def __init__(self, data: bytes = b"") -> None:
        self.raw_bytes = io.BytesIO(data)
        super().__init__(self.raw_bytes, encoding="utf-8")


def test_there_and_back(codec, photo, pixels, tmp_path, capsys):
    assert main(["encode", photo, str(tmp_path / "p.rdc"), "--bpp", "0.2"]) == 0
    assert main(["decode", str(tmp_path / "p.rdc"), str(tmp_path / "back.png"), "--steps", "4",
                 "--trajectory", "synchronous"]) == 0  # fmt: skip
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "back.png")), pixels)
    encode, decode = codec.calls
    assert (encode["bpp"], encode["quality"], encode["size_bytes"]) == (0.2, None, None)
    assert encode["importance"] is None and "roi_strength" not in encode
    assert (decode["steps"], decode["trajectory"]) == (4, "synchronous")
    out, err = capsys.readouterr()
    assert "50x37" in out and err == "rcodec: note: a note\n"


@pytest.mark.parametrize(
    "words, option, value",
    [
        (["--quality", "60"], "quality", 60.0),
        (["--bytes", "900"], "size_bytes", 900),
        (["--box", "1,2,30,20", "--roi-strength", "0.25"], "roi_strength", 0.25),
        (["--effort", "7"], "effort", 7),
        ([], "effort", None),
        (["--tune", "perceptual"], "tune", "perceptual"),
        (["--resampling", "2"], "resampling", 2),
        ([], "resampling", None),
    ],
)
def test_options_reach_the_codec(codec, photo, tmp_path, words, option, value):
    assert main(["encode", photo, str(tmp_path / "p.rdc"), *words]) == 0
    assert codec.calls[0][option] == value


@pytest.mark.parametrize(
    "words",
    [["--effort", "0"], ["--effort", "2.5"], ["--tune", "ssim"], ["--resampling", "3"]],
)
def test_wrong_choices_are_named(codec, photo, tmp_path, capsys, words):
    assert main(["encode", photo, str(tmp_path / "p.rdc"), *words]) == 2
    assert repr(words[1]) in capsys.readouterr().err
    assert not codec.calls


def test_model_is_passed_on(codec, photo, tmp_path):
    assert main(["encode", photo, str(tmp_path / "p.rdc"), "--model", "bundle"]) == 0
    assert (codec.model, codec.dtype) == ("bundle", "float32")
    for words in (["encode", photo, "p.rdc"], ["decode", str(tmp_path / "p.rdc"), "back.png"]):
        words[2] = str(tmp_path / words[2])
        codec.dtype = ""
        assert main([*words, "--dtype", "bfloat16", "--force"]) == 0
        assert codec.dtype == "bfloat16"


def test_metadata_are_kept_where_that_is_asked_for(codec, tmp_path):
    exif = Image.Exif()
    exif[315] = "me"
    Image.new("RGB", (9, 8)).save(tmp_path / "a.jpg", exif=exif)
    for words, kept in (([], {}), (["--keep-metadata"], {"artist": "me"})):
        words = [str(tmp_path / "a.jpg"), str(tmp_path / "a.rdc"), "--force", *words]
        assert main(["encode", *words]) == 0
        assert codec.calls[-1]["metadata"] == kept
    codec.said = {"artist": "me"}
    assert main(["decode", str(tmp_path / "a.rdc"), str(tmp_path / "b.jpg")]) == 0
    with Image.open(tmp_path / "b.jpg") as back:
        assert back.getexif()[315] == "me"


def test_boxes_join(codec, photo, tmp_path):
    words = ["--box", "0,0,10,5", "--box", "40,30,50,37"]
    assert main(["encode", photo, str(tmp_path / "p.rdc"), *words]) == 0
    expected = np.zeros((37, 50), np.float32)
    expected[:5, :10] = expected[30:, 40:] = 1
    np.testing.assert_array_equal(codec.calls[0]["importance"], expected)


@pytest.mark.parametrize("words", [["--gaze", "10,20"], ["--saliency"]])
def test_other_regions_give_a_map(codec, photo, tmp_path, words):
    assert main(["encode", photo, str(tmp_path / "p.rdc"), *words]) == 0
    importance = codec.calls[0]["importance"]
    assert importance.shape == (37, 50)
    assert importance.min() >= 0 and importance.max() <= 1


def test_faces_are_said_and_shown(codec, photo, tmp_path, capsys):
    portrait, shown = str(tmp_path / "portrait.png"), tmp_path / "map.png"
    Image.fromarray(skimage.data.astronaut()).save(portrait)
    words = ["--faces", "--show-importance", str(shown)]
    assert main(["encode", portrait, str(tmp_path / "p.rdc"), *words]) == 0
    told = capsys.readouterr().err
    assert "faces: 1 found" in told and f"importance map written to {shown}" in told
    importance = codec.calls[0]["importance"]
    assert 0.02 < importance.mean() < 0.25 and importance[120, 220] == 1
    np.testing.assert_array_equal(np.asarray(Image.open(shown)), importance * 255)
    # what was shown says the same as a mask, and nothing is overwritten without a word
    assert main(["encode", portrait, str(tmp_path / "q.rdc"), "--roi", str(shown)]) == 0
    np.testing.assert_array_equal(codec.calls[1]["importance"], importance)
    assert main(["encode", portrait, str(tmp_path / "r.rdc"), *words]) == 2
    assert "--force" in capsys.readouterr().err

    nowhere = tmp_path / "none.png"
    words = ["--faces", "--show-importance", str(nowhere)]
    assert main(["encode", photo, str(tmp_path / "n.rdc"), *words]) == 0
    assert codec.calls[-1]["importance"] is None and not nowhere.exists()
    said = capsys.readouterr().err
    assert "faces: none found" in said and "no map is written" in said


def test_importance_is_shown_of_a_region_of_one_picture(photo, tmp_path, capsys):
    mask, target = str(tmp_path / "mask.png"), str(tmp_path / "p.rdc")
    Image.fromarray(np.full((37, 50), 255, np.uint8)).save(mask)
    one, several = ["encode", photo, target], ["encode", photo, "--out", str(tmp_path / "o")]
    for words, shown, said in (
        (one, "map.png", "--show-importance: only valid with a region"),
        ([*several, "--saliency"], "map.png", "expected a single picture, got --out"),
        ([*one, "--saliency"], "-", "expected a file name with extension .png, got '-'"),
        ([*one, "--saliency"], "map.jpg", "expected a file name with extension .png"),
        ([*one, "--saliency", "--force"], photo, photo),
        ([*one, "--roi", mask, "--force"], mask, mask),
        ([*one, "--saliency"], target, target),
    ):
        shown = str(tmp_path / shown) if shown == "map.png" else shown
        assert main([*words, "--show-importance", shown]) == 2, shown
        assert said in capsys.readouterr().err
    assert not os.path.exists(target)


def test_mask_and_one_of_its_labels(codec, photo, tmp_path):
    labels = np.zeros((37, 50), np.uint8)
    labels[:10], labels[20:] = 1, 2
    mask = str(tmp_path / "mask.png")
    Image.fromarray(labels).save(mask)
    assert main(["encode", photo, str(tmp_path / "p.rdc"), "--roi", mask, "--roi-id", "2"]) == 0
    np.testing.assert_array_equal(codec.calls[0]["importance"], labels == 2)


def test_background_of_a_transparent_picture(codec, tmp_path, capsys):
    picture = str(tmp_path / "clear.png")
    Image.new("RGBA", (9, 8)).save(picture)
    for words, colour in (
        ([], (255, 255, 255)),
        (["--background", "#102030"], (16, 32, 48)),
        (["--background", "red"], (255, 0, 0)),
    ):
        assert main(["encode", picture, str(tmp_path / "p.rdc"), "--force", *words]) == 0
        assert (codec.calls[-1]["image"] == colour).all()
        assert "transparent pixels were laid on" in capsys.readouterr().err
    assert main(["encode", picture, str(tmp_path / "q.rdc"), "--background", "reddish"]) == 2
    assert "expected a colour such as white or #ffffff, got 'reddish'" in capsys.readouterr().err


def test_a_cut_picture_needs_a_word(codec, photo, tmp_path, capsys):
    cut = tmp_path / "cut.png"
    with open(photo, "rb") as stream:
        cut.write_bytes(stream.read()[:-300])
    assert main(["encode", str(cut), str(tmp_path / "p.rdc")]) == 2
    assert "--allow-truncated" in capsys.readouterr().err
    assert main(["encode", str(cut), str(tmp_path / "p.rdc"), "--allow-truncated"]) == 0
    assert "damaged PNG" in capsys.readouterr().err
    assert codec.calls[0]["image"].shape == (37, 50, 3)


@pytest.mark.parametrize(
    "command, name, expected",
    [("encode", "out.rdc", "a picture"), ("decode", "out.png", "an rcodec file")],
)
def test_nothing_on_standard_input(codec, tmp_path, monkeypatch, capsys, command, name, expected):
    monkeypatch.setattr(sys, "stdin", Pipe())
    assert main([command, "-", str(tmp_path / name)]) == 2
    said = f"rcodec: error: standard input: expected {expected}, got nothing\n"
    assert capsys.readouterr().err == said


def test_what_comes_through_a_pipe_is_called_so(codec, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", Pipe(b"no picture"))
    assert main(["encode", "-", str(tmp_path / "out.rdc")]) == 2
    assert "standard input: not an image" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--box", "-5,-5,10,10"], ["--box=-5,-5,10,10"]])
def test_a_box_may_begin_outside(codec, photo, tmp_path, words):
    for order in (
        [photo, str(tmp_path / "p.rdc"), *words],
        [*words, photo, str(tmp_path / "q.rdc")],
    ):
        assert main(["encode", *order]) == 0
        expected = np.zeros((37, 50), np.float32)
        expected[:10, :10] = 1
        np.testing.assert_array_equal(codec.calls[-1]["importance"], expected)


def test_a_gaze_outside_is_named(codec, photo, tmp_path, capsys):
    assert main(["encode", photo, str(tmp_path / "p.rdc"), "--gaze", "-3,4"]) == 2
    assert "expected a gaze point x,y inside the 50x37 image, got -3,4" in capsys.readouterr().err


def test_options_may_stand_among_paths(codec, photo, tmp_path):
    target = str(tmp_path / "p.rdc")
    for words in (
        ["encode", photo, "--bpp", "0.2", target],
        ["encode", "--bpp", "0.2", photo, target],
        ["decode", target, "--steps", "3", str(tmp_path / "a.png")],
        ["decode", "--steps", "3", target, "--json", str(tmp_path / "b.png")],
    ):
        assert main([*words, "--force"]) == 0
    assert [call.get("bpp", call.get("steps")) for call in codec.calls] == [0.2, 0.2, 3, 3]


def test_json_figures(codec, photo, tmp_path, capsys):
    target = tmp_path / "p.rdc"
    assert main(["encode", photo, str(target), "--json"]) == 0
    out, err = capsys.readouterr()
    figures = json.loads(out)
    assert err == ""
    assert figures["bytes"] == target.stat().st_size
    assert figures["bpp"] == pytest.approx(figures["bytes"] * 8 / (37 * 50))
    assert figures["notes"] == ["a note"]
    assert main(["decode", str(target), str(tmp_path / "b.png"), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["width_px"] == 50
    assert figures["steps"] == codec.bundle.config.steps, "the number that the default stands for"
    assert codec.calls[-1]["steps"] == figures["steps"]


def test_pipes_carry_bytes_alone(codec, photo, pixels, tmp_path, monkeypatch):
    with open(photo, "rb") as stream:
        monkeypatch.setattr(sys, "stdin", Pipe(stream.read()))
    encoded = Pipe()
    monkeypatch.setattr(sys, "stdout", encoded)
    assert main(["encode", "-", "-"]) == 0
    monkeypatch.setattr(sys, "stdin", Pipe(encoded.raw_bytes.getvalue()))
    decoded = Pipe()
    monkeypatch.setattr(sys, "stdout", decoded)
    assert main(["decode", "-", "-"]) == 0
    back = Image.open(io.BytesIO(decoded.raw_bytes.getvalue()))
    assert back.format == "PNG"
    np.testing.assert_array_equal(np.asarray(back), pixels)


def test_a_format_needs_a_name_that_has_it(codec, photo, tmp_path, monkeypatch, capsys):
    """Or `decode photo.rdc photo` would write a PNG that nothing says is one."""
    coded, target = str(tmp_path / "p.rdc"), tmp_path / "back"
    assert main(["encode", photo, coded]) == 0
    capsys.readouterr()
    assert main(["decode", coded, str(target)]) == 2
    assert f"{target}: expected a file name with extension" in capsys.readouterr().err
    assert not target.exists() and len(codec.calls) == 1
    assert main(["decode", coded, str(target), "--format", "webp"]) == 0
    with Image.open(target) as back:
        assert back.format == "WEBP"
    assert main(["decode", coded, f"{target}.png", "--format", "png"]) == 2
    assert "--format: not valid for" in capsys.readouterr().err
    assert main(["decode", coded, os.devnull]) == 0
    for words, kind in (([], "PNG"), (["--format", "jpg"], "JPEG")):
        piped = Pipe()
        monkeypatch.setattr(sys, "stdout", piped)
        assert main(["decode", coded, "-", *words]) == 0
        assert Image.open(io.BytesIO(piped.raw_bytes.getvalue())).format == kind


def test_overwriting_needs_force(codec, photo, tmp_path, capsys):
    target = tmp_path / "p.rdc"
    target.write_bytes(b"precious")
    assert main(["encode", photo, str(target)]) == 2
    assert target.read_bytes() == b"precious"
    assert "--force" in capsys.readouterr().err
    assert main(["encode", photo, str(target), "--force"]) == 0
    assert target.read_bytes() != b"precious"


def test_input_is_never_overwritten(codec, photo, capsys):
    assert main(["encode", photo, photo, "--force"]) == 2
    assert "other than the input" in capsys.readouterr().err


def test_failed_work_leaves_nothing(codec, photo, tmp_path, monkeypatch, capsys):
    def fail(*_, **__):
        raise RcodecError("below the range:\nexpected at least 10 bytes, got 3")

    monkeypatch.setattr(codec, "encode_detailed", fail)
    before = sorted(os.listdir(tmp_path))
    assert main(["encode", photo, str(tmp_path / "p.rdc")]) == 2
    assert sorted(set(os.listdir(tmp_path)) - {"cache"}) == before
    assert capsys.readouterr().err == (
        "rcodec: error: below the range: expected at least 10 bytes, got 3\n"
    )


def test_damaged_file_is_one_line(codec, tmp_path, capsys):
    (tmp_path / "p.rdc").write_bytes(b"damaged")
    assert main(["decode", str(tmp_path / "p.rdc"), str(tmp_path / "b.png")]) == 2
    assert not (tmp_path / "b.png").exists()
    assert capsys.readouterr().err.count("\n") == 1


def test_warnings_take_one_line_each(codec, photo, tmp_path, monkeypatch, capsys):
    real = codec.encode_detailed

    def warn(*args, **options):
        warnings.warn("another float part", UserWarning, stacklevel=1)
        warnings.warn("noise of a library", DeprecationWarning, stacklevel=1)
        return real(*args, **options)

    monkeypatch.setattr(codec, "encode_detailed", warn)
    assert main(["encode", photo, str(tmp_path / "p.rdc")]) == 0
    assert capsys.readouterr().err.splitlines()[0] == "rcodec: warning: another float part"


def test_output_permissions_follow_the_users_mask(tmp_path):
    mask = os.umask(0o027)
    try:
        files.write_output(str(tmp_path / "new"), b"x")
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640


def test_a_device_is_written_without_force():
    files.check_output(os.devnull, force=False)
    files.write_output(os.devnull, b"x")


@pytest.mark.parametrize("name", ["", "missing/p.rdc"])
def test_output_that_cannot_be(tmp_path, name):
    with pytest.raises(UsageError, match="expected"):
        files.check_output(str(tmp_path / name), force=True)


def test_folder_that_holds_something_needs_force(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="--force"):
        files.check_folder(str(tmp_path), force=False)
    files.check_folder(str(tmp_path), force=True)
    with pytest.raises(UsageError, match="got a file"):
        files.check_folder(str(tmp_path / "file"), force=True)
