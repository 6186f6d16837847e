"""What the command does before it works: light imports, the environment, exit codes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from rcodec_jax.cli import environment
from rcodec_jax.cli.main import COMMANDS, main
from rcodec_jax.errors import UsageError

PROBE = """
import sys
from rcodec_jax.cli.main import main
code = main(sys.argv[2:])
heavy = [name for name in sys.argv[1].split(",") if name in sys.modules]
sys.exit(f"imported {heavy}" if heavy else code)
"""


def run(*words: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, timeout=60, **options
    )


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["encode", "--help"]])
def test_help_and_version_import_nothing_heavy(words):
    result = run("-c", PROBE, "jax,numpy,PIL", *words)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(("usage: rcodec", "rcodec "))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name, capsys):
    assert main([name, "--help"]) == 0
    assert f"usage: rcodec {name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["nonsense"],
        ["encode"],
        ["encode", "a.png", "b.rdc", "--quality", "101"],
        ["encode", "a.png", "b.rdc", "--quality", "nan"],
        ["encode", "a.png", "b.rdc", "--bpp", "0"],
        ["encode", "a.png", "b.rdc", "--bytes", "1.5"],
        ["encode", "a.png", "b.rdc", "--bpp", "1", "--bytes", "9"],
        ["encode", "a.png", "b.rdc", "--box", "1,2,3"],
        ["encode", "a.png", "b.rdc", "--gaze", "1,inf"],
        ["encode", "a.png", "b.rdc", "--roi-id", "3"],
        ["encode", "a.png", "b.rdc", "--roi-strength", "0.5"],
        ["encode", "a.png", "b.rdc", "--roi", "-"],
        ["encode", "missing.png", "b.rdc"],
        ["encode", "a.png"],
        ["encode", "a.png", "b.png", "c.png"],
        ["encode", ".", "b.rdc"],
        ["encode", ".", "--out", "new"],
        ["encode", "-", "--out", "new"],
        ["encode", "a.png", "b.rdc", "--resume"],
        ["encode", "a.png", "b.rdc", "--workers", "2"],
        ["decode", ".", "--out", "new", "--format", "xyz"],
        ["decode", "a.rdc", "b.png", "--format", "jpg"],
        ["info", "a.rdc", "b.rdc", "--bits-map", "map.png"],
        ["decode", "missing.rdc", "b.png"],
        ["decode", "missing.rdc", "b.xyz"],
        ["decode", "a.rdc", "b.png", "--steps", "51"],
        ["decode", "a.rdc", "b.png", "--device", "abacus"],
        ["info", "missing.rdc"],
        ["info", "a.rdc", "--bits-map", "map.jpg"],
        ["train", "missing.py", "--data", ".", "--workdir", "run"],
        ["freeze", "missing", "--out", "bundle"],
        ["eval", "missing", "--out", "report"],
        ["eval", ".", "--out", "report", "--rates", ".1,,.2"],
        ["demo", "--picture", "a.png"],
        ["bench", "codec", "--repeats", "0"],
        ["bench"],
    ],
)
def test_bad_input_takes_one_line_and_code_2(words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("rcodec: error: ") and err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir() if path.name != "cache"] == []


def test_a_folder_with_nothing_of_ours_names_all_that_info_takes(tmp_path, capsys):
    assert main(["info", str(tmp_path)]) == 2
    assert ".rdc, or a run, checkpoint, bundle, weights or data, got none" in (
        capsys.readouterr().err
    )


def test_a_picture_is_no_name_for_a_coded_file(tmp_path, capsys):
    """Or it would be found out much later, by another program."""
    assert main(["encode", "a.png", str(tmp_path / "small.JPG")]) == 2
    assert "small.JPG: expected the name of a coded file, such as photo.rdc" in (
        capsys.readouterr().err
    )


def test_error_says_what_was_expected_and_given(capsys):
    main(["encode", "a.png", "b.rdc", "--bpp", "many"])
    assert "--bpp: expected a number of bits per pixel above 0, got 'many'" in (
        capsys.readouterr().err
    )


def test_interrupt_has_its_code(monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("rcodec_jax.cli.files.check_output", interrupted)
    assert main(["encode", "a.png", "b.rdc"]) == 130
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.skipif(os.name != "posix", reason="pipes of POSIX")
def test_reader_that_went_away_is_no_error():
    read, write = os.pipe()
    os.close(read)
    result = subprocess.run(
        [sys.executable, "-m", "rcodec_jax.cli", "--version"],
        stdout=write, stderr=subprocess.PIPE, text=True, timeout=60,
    )  # fmt: skip
    os.close(write)
    assert result.returncode == 141
    assert result.stderr == ""


def test_threads_reach_every_pool():
    environ: dict[str, str] = {}
    environment.prepare(threads=3, environ=environ)
    assert environ == dict.fromkeys(environment.THREAD_VARIABLES, "3")


def test_threads_are_set_before_numpy_is_imported():
    probe = (
        "import os, sys\n"
        "class Spy:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'numpy':\n"
        "            print('threads', os.environ.get('OPENBLAS_NUM_THREADS'))\n"
        "sys.meta_path.insert(0, Spy())\n"
        "from rcodec_jax.cli.main import main\n"
        "main(['encode', 'missing.png', 'out.rdc', '--threads', '1'])\n"
    )
    assert run("-c", probe).stdout.splitlines()[0] == "threads 1"


def test_device_names_a_platform():
    environ: dict[str, str] = {}
    environment.prepare(device="gpu", environ=environ)
    assert environ == {"JAX_PLATFORMS": "cuda"}
    with pytest.raises(UsageError, match="abacus"):
        environment.set_device("abacus", environ)


def test_missing_device_is_one_line(tmp_path):
    words = ["-m", "rcodec_jax.cli", "encode", "a.png", str(tmp_path / "b"), "--device", "rocm"]
    result = run(*words)
    assert result.returncode == 2
    assert result.stderr.startswith("rcodec: error: --device: expected an available device")
    assert result.stderr.count("\n") == 1


def test_cache_goes_to_the_users_folder(tmp_path):
    assert environment.cache_folder({"RCODEC_CACHE_DIR": "/a"}).as_posix() == "/a"
    assert environment.cache_folder({"XDG_CACHE_HOME": "/b"}).as_posix() == "/b/rcodec"
    assert environment.cache_folder({}).as_posix().endswith("/.cache/rcodec")
    environ = {"RCODEC_CACHE_DIR": str(tmp_path)}
    assert environment.set_compilation_cache(environ) == tmp_path / "jax"
    assert environ["JAX_COMPILATION_CACHE_DIR"] == str(tmp_path / "jax")


def test_cache_that_cannot_be_written_is_off(tmp_path):
    (tmp_path / "file").write_text("")
    environ = {"RCODEC_CACHE_DIR": str(tmp_path / "file")}
    assert environment.set_compilation_cache(environ) is None
    assert "JAX_COMPILATION_CACHE_DIR" not in environ


def test_cache_that_the_user_chose_stays():
    environ = {"JAX_COMPILATION_CACHE_DIR": "/mine", "RCODEC_CACHE_DIR": "/other"}
    environment.set_compilation_cache(environ)
    assert environ["JAX_COMPILATION_CACHE_DIR"] == "/mine"


def test_libtpu_is_quiet_where_there_is_no_tpu(tmp_path, monkeypatch):
    """Five lines of errors otherwise, seen with the extra 'tpu' on CPU machines."""
    assert not environment._has_tpu(tmp_path)
    for name in ("accel0", "vfio"):
        (tmp_path / name).touch()
        assert environment._has_tpu(tmp_path)
        (tmp_path / name).unlink()
    for here in (False, True):
        monkeypatch.setattr(environment, "_has_tpu", lambda here=here: here)
        environ = {"TPU_WORKER_HOSTNAMES": "mine", "RCODEC_CACHE_DIR": str(tmp_path)}
        environment.prepare(uses_jax=True, environ=environ)
        assert ("TPU_SKIP_MDS_QUERY" in environ) != here, "a pod's own settings stay"
        assert environ["TPU_WORKER_HOSTNAMES"] == "mine"


def test_jax_uses_the_threads_device_and_cache(tmp_path):
    probe = (
        "from rcodec_jax.cli import environment\n"
        "environment.prepare(threads=1, device='cpu', cpu_devices=3, uses_jax=True)\n"
        "import jax\n"
        "jax.jit(lambda x: x * 2 + 1)(jax.numpy.ones(7)).block_until_ready()\n"
        "print(jax.device_count(), jax.devices()[0].platform)\n"
    )
    environ = {key: value for key, value in os.environ.items() if not key.startswith("JAX")}
    environ.pop("XLA_FLAGS", None)
    result = run("-c", probe, env={**environ, "RCODEC_CACHE_DIR": str(tmp_path)})
    assert result.stdout.split() == ["3", "cpu"]
    assert any((tmp_path / "jax").iterdir())


def test_a_process_joins_the_others_before_it_asks_for_devices(monkeypatch):
    """JAX refuses the other order."""
    import jax

    from rcodec_jax import scale

    calls = []
    monkeypatch.setattr(scale, "initialize_from_environment", lambda: calls.append("join"))
    monkeypatch.setattr(jax, "devices", lambda: calls.append("devices"))
    environment.require_device("tpu", joins=True)
    assert calls == ["join", "devices"]
    environment.require_device("tpu")
    assert calls == ["join", "devices", "devices"]


@pytest.mark.parametrize(
    ("system", "before", "restarts"),
    [
        ("always [madvise] never", {}, True),
        ("[always] madvise never", {}, False),
        ("always madvise [never]", {}, False),
        (None, {}, False),
        ("always [madvise] never", {"GLIBC_TUNABLES": "glibc.malloc.check=1"}, False),
        ("always [madvise] never", {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}, False),
    ],
)
def test_training_asks_for_huge_pages_once(monkeypatch, tmp_path, system, before, restarts):
    place = tmp_path / "enabled"
    if system is not None:
        place.write_text(system)
    started = []
    environ = dict(before)
    monkeypatch.setattr(os, "environ", environ)
    monkeypatch.setattr(os, "execv", lambda *words: started.append(words))
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "rcodec_jax.cli", "train", "a b"])
    environment.restart_with_huge_pages(place)
    again = [sys.executable, "-m", "rcodec_jax.cli", "train", "a b"]
    assert started == ([(sys.executable, again)] if restarts else [])
    assert environ == ({"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"} if restarts else before)


def test_a_restart_that_fails_is_none(monkeypatch, tmp_path):
    def refuse(*words):
        raise PermissionError(words[0])

    (tmp_path / "enabled").write_text("[madvise]")
    monkeypatch.setattr(os, "environ", {})
    monkeypatch.setattr(os, "execv", refuse)
    environment.restart_with_huge_pages(tmp_path / "enabled")


@pytest.mark.parametrize(
    "environ, asked",
    [({}, [(-8, 1)]), ({"MALLOC_ARENA_MAX": "4"}, []), ({"GLIBC_TUNABLES": "x=1"}, [])],
)
def test_threads_share_a_heap_unless_the_user_has_settings(monkeypatch, environ, asked):
    calls = []

    class Library:
        def __init__(self, name):
            assert name is None

        def mallopt(self, *given):
            calls.append(given)

    monkeypatch.setattr(environment.ctypes, "CDLL", Library)
    environment.share_heap(environ)
    assert calls == asked


def test_another_c_library_has_no_such_setting(monkeypatch):
    monkeypatch.setattr(environment.ctypes, "CDLL", lambda name: object())
    environment.share_heap({})
