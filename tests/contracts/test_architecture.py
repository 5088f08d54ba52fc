"""The house rules as tests: who may import whom, what stays free of torch, how large things may grow."""

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ("service", "worker", "gateway", "training", "cli")
HEAVY = ("torch", "monai", "matplotlib", "scipy", "highdicom", "sklearn", "nibabel")
TORCH_MODULES = ("networks", "diffusion", "imaging", "engine", "metrics", "bundles.load", "transforms")

PACKAGES = ("reacquire", *PROGRAMS)
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in SOURCES}


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Every module that a file imports, and whether it does so when it is itself imported."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inner = {
        node
        for parent in ast.walk(tree)
        if isinstance(parent, ast.FunctionDef | ast.AsyncFunctionDef)
        or (isinstance(parent, ast.If) and "TYPE_CHECKING" in ast.dump(parent.test))
        for node in ast.walk(parent)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node not in inner) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield (full if full in MODULES else node.module), node not in inner


GRAPH = {name: set(imports(path)) for name, path in MODULES.items()}


@pytest.mark.parametrize("package", PROGRAMS)
def test_programs_import_the_library_and_never_each_other(package):
    own = {name: edges for name, edges in GRAPH.items() if name.split(".")[0] == package}
    assert own, "the package is there"
    foreign = set(PROGRAMS) - {package}
    assert [(n, t) for n, edges in own.items() for t, _ in edges if t.split(".")[0] in foreign] == []


def test_the_library_imports_no_program():
    own = {name: edges for name, edges in GRAPH.items() if name.split(".")[0] == "reacquire"}
    assert [(n, t) for n, edges in own.items() for t, _ in edges if t.split(".")[0] in PROGRAMS] == []


def test_imports_at_module_level_form_no_circle():
    graph = {n: {t for t, eager in edges if eager and t in MODULES and t != n} for n, edges in GRAPH.items()}
    state: dict[str, int] = {}

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert state.get(name) != 1, f"import circle: {' -> '.join((*trail, name))}"
        if name in state:
            return
        state[name] = 1
        for target in sorted(graph[name]):
            if not name.startswith(f"{target}."):  # a module may import names of the package it is in
                visit(target, (*trail, name))
        state[name] = 2

    for name in graph:
        visit(name, ())


def test_torch_is_imported_only_where_it_belongs():
    guilty = []
    for name, edges in GRAPH.items():
        package, _, rest = name.partition(".")
        allowed = package != "reacquire" or rest.startswith(TORCH_MODULES)
        eager = {target.split(".")[0] for target, is_eager in edges if is_eager}
        if not allowed and eager & {"torch", "monai"}:
            guilty.append(name)
        if package in ("service", "cli", "worker", "gateway") and eager & set(HEAVY):
            guilty.append(name)
    assert guilty == []


@pytest.mark.parametrize(
    "statement",
    [
        "import reacquire",
        "import reacquire.jobs.store, reacquire.jobs.broker, reacquire.jobs.blobs",
        "import reacquire.dicom",
        "import service.__main__; from service.settings import ServiceSettings;"
        "from service.app import create_app; create_app(ServiceSettings()).openapi()",
        "import cli.main",
        "from typer.testing import CliRunner; import cli.main;"
        "assert CliRunner().invoke(cli.main.app, ['models', '--root', '/nonexistent']).exit_code == 0",
        "import worker.app, worker.__main__",
        "import gateway.scp, gateway.__main__",
    ],
)
def test_it_loads_nothing_heavy(statement, tmp_path):
    blobs = (tmp_path / "blobs").as_uri()
    code = f"{statement}\nimport sys\nprint(sorted(set(sys.modules) & set({HEAVY!r})))"
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "REACQUIRE_BLOB_URL": blobs},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (run.returncode, run.stdout.strip().splitlines()[-1:]) == (0, ["[]"]), run.stderr


def test_the_library_prints_nothing_and_reads_no_environment():
    guilty = []
    for name, path in MODULES.items():
        if not name.startswith("reacquire"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv", "basicConfig"):
                guilty.append((name, node.lineno))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("print", "input"):
                guilty.append((name, node.lineno))
    assert guilty == []


def test_nothing_is_unpickled():
    assert [n for n, edges in GRAPH.items() for t, _ in edges if t.split(".")[0] in ("pickle", "dill", "joblib")] == []


def test_modules_and_functions_stay_readable():
    long = []
    for name, path in MODULES.items():
        text = path.read_text(encoding="utf-8")
        if len(text.splitlines()) > 400:
            long.append(name)
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno - node.lineno >= 60:
                long.append(f"{name}.{node.name}")
    assert long == []


@pytest.mark.parametrize(
    "name", sorted(n for n, p in MODULES.items() if n.startswith("reacquire") and p.name == "__init__.py")
)
def test_public_names_are_those_of_all(name):
    package = importlib.import_module(name)
    assert hasattr(package, "__all__"), "a public package says what it offers"
    exported = list(package.__all__)
    assert len(exported) == len(set(exported))
    assert [n for n in exported if not hasattr(package, n) or (n.startswith("_") and n != "__version__")] == []
