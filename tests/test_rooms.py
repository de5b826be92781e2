"""The house: imports go one way, heavy libraries load on use, files and functions are short."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# From left to right; a room knows those before it.
ROOMS = (
    *("__init__", "files", "registry", "arguments", "runs", "languages", "minienglish", "data"),
    *("objectives", "models", "alignment", "retrieval", "sizes", "trainer", "pretraining"),
    *("tasks", "figures", "results", "report", "doctor", "hub", "cli", "__main__"),
)
PACKAGE = sorted((ROOT / "hf_alignmlm").rglob("*.py"))
OUTSIDE = sorted([*(ROOT / "study").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")])
HEAVY = ("matplotlib", "scipy", "pandas", "sklearn", "spacy", "stanza", "torch", "transformers")


def imported(path):
    """Each (module, name) that a file imports from our package, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hf_alignmlm"):
            yield from ((node.module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            names = (alias.name for alias in node.names)
            yield from ((name, "") for name in names if name.startswith("hf_alignmlm"))


def room(module, name=""):
    """The room of a module: of `hf_alignmlm.data.sources` it is `data`."""
    parts = module.split(".")[1:]
    return parts[0] if parts else name if name in ROOMS else "__init__"


@pytest.mark.parametrize("path", PACKAGE, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_room_imports_from_those_left_of_it(path):
    here = path.relative_to(ROOT / "hf_alignmlm").with_suffix("").parts[0]
    wrong = [m for m, name in imported(path) if ROOMS.index(room(m, name)) > ROOMS.index(here)]
    assert not wrong, f"{here} imports {wrong}"


def test_every_room_is_on_the_list():
    names = {path.relative_to(ROOT / "hf_alignmlm").with_suffix("").parts[0] for path in PACKAGE}
    assert names == set(ROOMS)


@pytest.mark.parametrize("path", OUTSIDE, ids=lambda path: str(path.relative_to(ROOT)))
def test_study_and_benchmarks_use_public_names_only(path):
    private = [(m, n) for m, n in imported(path) if any(p.startswith("_") for p in (m[11:], n))]
    assert not [pair for pair in private if pair[1] != "__version__"]


@pytest.mark.parametrize("path", PACKAGE, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_package_knows_nothing_of_study_and_benchmarks(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    modules = [n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
    modules += [a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names]
    assert not {m.split(".")[0] for m in modules} & {"study", "benchmarks", "tests"}


@pytest.mark.parametrize(
    ("module", "allowed"),
    [
        ("hf_alignmlm", ()),
        ("hf_alignmlm.cli", ()),
        # The libraries that these stand on load pandas (datasets) and scipy (Trainer) themselves.
        ("hf_alignmlm.tasks", ("torch", "transformers", "pandas")),
        ("hf_alignmlm.tasks.finetuning", ("torch", "transformers", "pandas", "scipy")),
        ("hf_alignmlm.report", ("torch", "transformers", "pandas")),
        ("hf_alignmlm.hub.cards", ("torch", "transformers", "pandas", "scipy")),
    ],
)
def test_heavy_libraries_are_loaded_on_use(module, allowed):
    refused = sorted(set(HEAVY) - set(allowed))
    code = f"import sys, {module}; print(*(n for n in {refused} if n in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


SOURCES = [*PACKAGE, *OUTSIDE, *ROOT.glob("*.py")]


def test_functions_and_files_are_short():
    long = []
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        if len(text.splitlines()) > 300 and path.stem != "grammar":
            long.append(f"{path.relative_to(ROOT)}: {len(text.splitlines())} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or 0) - node.lineno + 1
                if length > 50:
                    long.append(f"{path.relative_to(ROOT)}, {node.name}: {length} lines")
    assert not long


def test_the_size_only_falls():
    """Size is a cost: whoever adds takes away elsewhere."""
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    outside = sum(lines[path] for path in OUTSIDE)
    assert sum(lines.values()) - outside <= 10740
    assert outside <= 1680
