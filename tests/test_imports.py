"""The layers of the package, enforced by reading its imports: they point downwards only."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import rcodec_jax

ROOT = Path(rcodec_jax.__file__).parent
PACKAGE = ROOT.name
MAX_LINES = 400

LEAVES = {"errors", "files", "levels", "limits", "passes", "progress", "versions"}
"""Modules that import nothing of the package but one another, open to everyone."""

ALLOWED: dict[str, set[str]] = {
    layer: set(others.split())
    for layer, others in {
        "": "",  # the package itself names `codec`, and imports it when asked for
        "errors": "",
        "files": "",
        "levels": "",
        "limits": "",
        "passes": "",
        "progress": "",
        "versions": "",
        "config": "",
        "entropy": "",
        "bitstream": "",
        "ops": "",
        "data": "",
        "scale": "",
        "checkpoint": "",
        "metrics": "",
        "regions": "",
        "nn": "ops",
        "diffusion": "",
        "model": "checkpoint config diffusion entropy nn ops regions",
        "codec": "bitstream data diffusion entropy model nn ops regions",
        "train": "checkpoint config data diffusion metrics model nn ops regions scale",
        "evaluate": "data entropy metrics regions",  # it is handed a codec
        "export": "config diffusion metrics model ops",
        "pillow": "bitstream codec data",  # a plug-in of Pillow, which users import
        # It times the real step; train knows nothing of it.
        "bench": "codec config data entropy metrics model nn regions scale train",
        "ablate": "config data entropy evaluate metrics model ops regions train",
        "app": "bitstream codec data entropy evaluate metrics model regions",
        "assets": "",
        "cli": "ablate app bench bitstream codec config data entropy evaluate export metrics model "
        "regions scale train",
    }.items()
}
"""What each package may import of the others, besides itself and the leaves."""

INSIDE = {
    "data": {"pictures": "", "storage": "", "sources": "pictures storage", "loading": "sources"},
    "entropy": {"coder": "", "distributions": "coder", "integer": "bands coder distributions"},
    "train": {"step": "", "plan": "step", "input": "step", "loop": "input plan step"},
}
"""What the packages inside a package may import of their neighbours. Modules that lie beside them
may import all of them, and are imported by none."""

WITHOUT_JAX = {
    "",
    "errors",
    "files",
    "levels",
    "limits",
    "passes",
    "progress",
    "versions",
    "config",
    "entropy",
    "bitstream",
    "regions",
    "data",
}
THIRD_PARTY: dict[str, set[str]] = {
    "errors": set(),
    "files": set(),
    "levels": {"numpy"},
    "limits": set(),
    "passes": {"numpy"},
    "progress": set(),
    "versions": set(),
    "config": set(),
    "bitstream": {"numpy"},
    "entropy": {"numpy", "threadpoolctl"},
    "regions": {"numpy", "cv2"},
}
"""Packages whose every import outside the standard library is listed."""

ONLY_IN = {
    "orbax": {"checkpoint"},
    "grain": {"data"},
    "tensorflow_datasets": {"data"},
    "array_record": {"data"},
    "huggingface_hub": {"export"},  # models by their id
    "transformers": {"export"},  # the text encoder, once, for the empty prompt
    "pillow_jxl": {"evaluate", "data"},  # JPEG XL as a peer, and read where it is installed
    "pillow_heif": {"data"},
    "threadpoolctl": {"entropy"},
    "cv2": {"regions", "bench"},  # detectors of faces; a reader of JPEG to compare with
    "jinja2": {"evaluate"},  # pages
    "gradio": {"app"},
    "starlette": {"app"},  # comes with Gradio
    "imageio_ffmpeg": {"evaluate"},  # HEVC, and regions of x265 and SVT-AV1
}
OPTIONAL = {
    "gradio",
    "starlette",
    "cv2",
    "imageio_ffmpeg",
    "jinja2",
    "huggingface_hub",
    "transformers",
    "pillow_heif",
    "pillow_jxl",
}
"""Packages of extras, imported by the function that needs them."""

NOWHERE = {"torch", "tensorflow", "torchvision", "diffusers"}
SCRIPTS = {"bench/torchpeer.py": {"torch", "diffusers"}}
"""Files that are no part of the package but run by another interpreter, for a comparison, and what
that has besides the standard library."""

FILES = sorted(ROOT.rglob("*.py"))
MODULES = [path.relative_to(ROOT).as_posix() for path in FILES]


def _layer(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return "" if parts == ("__init__",) else parts[0]


def _nodes_below(tree: ast.AST, kinds: tuple[type[ast.AST], ...]) -> set[int]:
    tops = [node for node in ast.walk(tree) if isinstance(node, kinds)]
    return {id(node) for top in tops for node in ast.walk(top)}


def _for_types(tree: ast.AST) -> set[int]:
    tops = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    ]
    return {id(node) for top in tops for node in ast.walk(top)}


def _imports(path: Path) -> Iterator[tuple[str, int, str]]:
    """Every imported module, its line, and when: 'at import', 'in a function' or 'for types'."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    deferred = _nodes_below(tree, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
    for_types = _for_types(tree)
    package = (PACKAGE, *path.relative_to(ROOT).parent.parts)
    for node in ast.walk(tree):
        when = "in a function" if id(node) in deferred else "at import"
        when = "for types" if id(node) in for_types else when
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno, when
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                kept = package[: len(package) - node.level + 1]
                base = ".".join([*kept, base] if base else kept)
            if base == PACKAGE:  # `from rcodec_jax import errors` names the module itself
                for alias in node.names:
                    yield f"{base}.{alias.name}", node.lineno, when
            else:
                yield base, node.lineno, when


def test_every_package_has_its_rule() -> None:
    layers = {_layer(path) for path in FILES}
    assert layers <= set(ALLOWED), f"no import rule for {sorted(layers - set(ALLOWED))}"


def _neighbours(path: Path) -> Iterator[tuple[str, int]]:
    """The packages and modules of this one that a file imports, and the lines."""
    for name, line, _ in _imports(path):
        parts = name.split(".")
        if parts[0] == PACKAGE and len(parts) > 1 and parts[1] != "__version__":
            yield parts[1], line


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_downwards(module: str) -> None:
    path = ROOT / module
    layer = _layer(path)
    may = ALLOWED[layer] | LEAVES | {layer}
    for name, line in _neighbours(path):
        assert name in may, f"{module}:{line}: {layer or PACKAGE} must not import {name}"


@pytest.mark.parametrize("package", sorted(INSIDE))
def test_imports_inside_a_package_point_downwards(package: str) -> None:
    rooms = INSIDE[package]
    assert set(rooms) == {path.parent.name for path in (ROOT / package).glob("*/__init__.py")}
    used: dict[str, set[str]] = {room: set() for room in rooms}
    for path in (ROOT / package).glob("*/*.py"):
        for name, _, _ in _imports(path):
            parts = name.split(".")
            if parts[:2] == [PACKAGE, package]:
                assert len(parts) > 2, f"{path} imports {name}, whose names come from below"
                used[path.parent.name] |= {parts[2]} - {path.parent.name}
    assert used == {room: set(others.split()) for room, others in rooms.items()}


def test_every_permission_is_used() -> None:
    used: dict[str, set[str]] = {layer: set() for layer in ALLOWED}
    for path in FILES:
        used[_layer(path)] |= {name for name, _ in _neighbours(path)}
    unused = {layer: may - used[layer] for layer, may in ALLOWED.items() if may - used[layer]}
    assert not unused, f"take these permissions away: {unused}"


@pytest.mark.parametrize("module", MODULES)
def test_third_party_imports(module: str) -> None:
    path = ROOT / module
    layer = _layer(path)
    for name, line, when in _imports(path):
        root = name.split(".")[0]
        where = f"{module}:{line}: {name}"
        assert root not in OPTIONAL or when == "in a function", f"{where} may not be installed"
        assert root not in NOWHERE - SCRIPTS.get(module, set()), (
            f"{where} is no dependency of this package"
        )
        assert layer in ONLY_IN.get(root, {layer}), f"{where} belongs to {ONLY_IN[root]}"
        if layer in WITHOUT_JAX:
            assert root not in {"jax", "jaxlib", "flax", "optax"}, f"{where}: {layer} runs alone"
        if layer in THIRD_PARTY and root != PACKAGE:
            known = root in sys.stdlib_module_names or root in THIRD_PARTY[layer]
            assert known, f"{where} is more than {layer} may use"


def test_scripts_for_other_interpreters_stand_alone() -> None:
    for script, libraries in SCRIPTS.items():
        roots = {name.split(".")[0] for name, _, _ in _imports(ROOT / script)}
        assert roots <= {*sys.stdlib_module_names, *libraries}
    modules = {f"{PACKAGE}.{script[:-3].replace('/', '.')}" for script in SCRIPTS}
    for path in FILES:
        assert not modules & {name for name, _, _ in _imports(path)}, f"{path} imports a script"


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("cli/")])
def test_heavy_imports_of_the_command_line_are_inside_functions(module: str) -> None:
    light = {"errors", "levels", "cli", "__version__", *WITHOUT_JAX} - {"data"}
    for name, line, when in _imports(ROOT / module):
        parts = name.split(".")
        if when != "at import" or parts[0] in {*sys.stdlib_module_names, "numpy"}:
            continue
        fine = parts[0] == PACKAGE and (len(parts) == 1 or parts[1] in light)
        assert fine, f"{module}:{line}: import {name} inside the function that needs it"


@pytest.mark.parametrize("module", MODULES)
def test_files_are_short(module: str) -> None:
    lines = (ROOT / module).read_text(encoding="utf-8").count("\n")
    assert lines <= MAX_LINES, f"{module} has {lines} lines, at most {MAX_LINES} are readable"


@pytest.mark.parametrize("module", [name for name in MODULES if not name.startswith("cli/")])
def test_no_import_for_types_only_hides_a_cycle(module: str) -> None:
    # The command line is free to: it is on top, nothing imports it, and it defers for speed.
    for name, line, when in _imports(ROOT / module):
        assert when != "for types", f"{module}:{line}: import {name} in earnest or not at all"


def _loaded_by(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sorted(m.split('.')[0] for m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_package_is_light() -> None:
    loaded = _loaded_by(f"import {PACKAGE}; {PACKAGE}.__version__; dir({PACKAGE})")
    assert not loaded & {"jax", "flax", "numpy", "PIL", "grain", "orbax"}


def test_starting_the_command_is_light() -> None:
    loaded = _loaded_by(f"import {PACKAGE}.cli.main")
    assert not loaded & {"jax", "flax", "numpy", "PIL", "grain", "orbax", "matplotlib"}


def test_the_entropy_path_runs_without_jax() -> None:
    loaded = _loaded_by(f"import {PACKAGE}.codec.symbols, {PACKAGE}.codec.verify")
    assert not loaded & {"jax", "jaxlib", "flax", "PIL", "scipy"}


def test_unknown_attribute_of_the_package() -> None:
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        _ = rcodec_jax.lod
