"""What parsers say: near options, the right page of help, defaults as they are."""

from __future__ import annotations

import json

import pytest

from rcodec_jax.cli import arguments
from rcodec_jax.cli.main import main
from rcodec_jax.cli.parser import did_you_mean
from rcodec_jax.model.bundle import shipped_bundle
from rcodec_jax.regions.sources import SOURCES


@pytest.mark.parametrize(
    "words, message",
    [
        ("encode a b --qualty 5", "unknown option --qualty, did you mean --quality? {encode}"),
        ("encode a b --qualty=5", "unknown option --qualty, did you mean --quality? {encode}"),
        ("encode a b -q 5", "unknown option -q, did you mean --quality? {encode}"),
        ("encode a b --xyzzy", "unknown option --xyzzy {encode}"),
        ("bench codec --setps 3", "unknown option --setps, did you mean --steps? {bench codec}"),
        ("data pack a b --forse", "unknown option --forse, did you mean --force? {data pack}"),
        ("train a b", "expected no further argument, got 'b' {train}"),
        ("enode a b", "unknown command 'enode', did you mean encode? {}"),
        ("bench size", "unknown benchmark 'size', did you mean sizes? {bench}"),
        ("bench xyzzy", "unknown benchmark 'xyzzy', expected one of codec, sizes, "),
        (
            "encode a b --tune blanced",
            "--tune: expected mse, balanced or perceptual, got 'blanced', did you mean balanced? "
            "{encode}",
        ),
        ("freeze a --out b --bits 9", "argument --bits: expected 8 or 16, got 9 {freeze}"),
        ("encode", "are required: PICTURE OUTPUT {encode}"),
    ],
)
def test_a_slip_names_what_is_near_and_the_page_of_its_command(words, message, capsys):
    assert main(words.split()) == 2
    err = capsys.readouterr().err
    text, _, command = message.partition("{")
    page = f"(see '{' '.join(('rcodec', *command[:-1].split()))} --help')" if command else ""
    assert text + page in err and err.count("\n") == 1


def test_nothing_is_guessed_from_afar():
    assert did_you_mean("--xyzzy", ["--quality"]) == ""
    assert did_you_mean("-b", ["--bpp", "--bytes"]) == ", did you mean --bpp or --bytes?"


def help_of(command: str, capsys) -> str:
    assert main([*command.split(), "--help"]) == 0
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("command, source", [("encode", "PICTURE"), ("decode", "FILE")])
def test_usage_shows_the_output(command, source, capsys):
    told = help_of(command, capsys)
    assert f"usage: rcodec {command} [OPTIONS] {source} OUTPUT rcodec {command} [OPTIONS]" in told
    assert f"{source}... --out FOLDER" in told


def test_help_lists_all_sources_of_importance(capsys):
    told = help_of("encode", capsys)
    assert {name.partition(":")[0] for name in arguments.IMPORTANCE} == set(SOURCES)
    for name, text in arguments.IMPORTANCE.items():
        assert f"{name} {text}" in told


def test_help_has_the_steps_of_the_shipped_model(capsys):
    steps = json.loads((shipped_bundle() / "bundle.json").read_text())["model"]["steps"]
    assert f"{steps} for the shipped model" in help_of("decode", capsys)


def test_help_says_what_refinement_lacks_and_what_makes_it(capsys):
    told = help_of("encode", capsys)
    assert "for a bundle without training.safetensors, which 'rcodec freeze' writes" in told
