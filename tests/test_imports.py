"""Imports run one way, read from the source: a part knows the parts below it, never those above."""

import ast
import os
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "monju"

# the house from roof to cellar: a package knows itself and those below it
HOUSE = "app __main__ cli ui reporting benchmark training evaluation inference runs clustering presets models ensemble data config errors utils"
FLOOR = {part: floor for floor, part in enumerate(HOUSE.split())}
FILES = {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in PACKAGE.rglob("*.py")}
FILES = {name.removesuffix(".__init__"): path for name, path in FILES.items()}
if (REPOSITORY / "app.py").exists():
    FILES["app"] = REPOSITORY / "app.py"


def imports(path, lazy=True):
    """Full names of all that a file imports; with lazy=False only of what it imports as soon as it is imported itself."""
    found, nodes = set(), [ast.parse(path.read_text(encoding="utf-8"))]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write the import in full"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)) and not lazy:
            continue
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" and not lazy:
            continue
        nodes += ast.iter_child_nodes(node)
    return found


def parts(path, lazy=True):
    """Which of Monju's own files a file imports."""
    names = {name.removeprefix("monju.") for name in imports(path, lazy) if name.startswith("monju.")}
    return {name if name in FILES else name.rpartition(".")[0] for name in names} - {""}


def floor(name):
    part = name.split(".")[0]
    assert part in FLOOR, f"monju/{part} is new: give it a place in the house above"
    return FLOOR[part]


@pytest.mark.parametrize("name", sorted(set(FILES) - {"__init__"}))
def test_a_package_imports_only_from_the_floors_below(name):
    for other in parts(FILES[name]):
        assert floor(name) <= floor(other), f"{name} must not import {other}"


def test_the_method_imports_nothing_of_the_project_but_its_errors():
    for name in (name for name in FILES if name.startswith("ensemble.")):
        assert {other for other in parts(FILES[name]) if not other.startswith("ensemble")} <= {"errors"}, name


def test_no_file_imports_itself_in_a_circle():
    graph = {name: parts(path, lazy=False) - {name} for name, path in FILES.items()}
    assert list(TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle


def test_only_the_page_knows_gradio():
    knows = {name for name, path in FILES.items() if any(i.split(".")[0] == "gradio" for i in imports(path))}
    assert all(name == "app" or name.split(".")[0] == "ui" for name in knows), knows


def test_the_front_door_imports_nothing():
    assert imports(FILES["__init__"], lazy=False) == set()


def test_importing_any_part_changes_no_other_library():
    """Beside what the libraries that it imports do to each other."""
    theirs = sorted({name.split(".")[0] for path in FILES.values() for name in imports(path, lazy=False)} - {"monju", "spaces"})
    ours = sorted(f"monju.{name}" for name in FILES if name not in ("app", "__main__", "__init__"))
    code = f"""if True:
        import importlib, logging, warnings
        for name in {theirs} + ["peft", "umap", "gradio"]:
            importlib.import_module(name)
        import torch, transformers, huggingface_hub
        def state():
            return (transformers.logging.get_verbosity(), transformers.utils.logging.is_progress_bar_enabled(), logging.getLogger().level,
                    huggingface_hub.utils.are_progress_bars_disabled(), torch.get_num_threads(), torch.get_num_interop_threads(),
                    [str(found) for found in warnings.filters])
        before = state()
        for name in {ours}:
            importlib.import_module(name)
            assert state() == before, name
        from monju.utils.quiet import quiet
        quiet()
        assert state() != before
    """
    quiet_no_more = {key: value for key, value in os.environ.items() if key not in ("TRANSFORMERS_VERBOSITY", "HF_HUB_DISABLE_PROGRESS_BARS")}
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, env=quiet_no_more)
    assert done.returncode == 0, done.stderr


def test_importing_monju_is_light():
    heavy = ["torch", "gradio", "pandas", "sklearn", "transformers", "numpy", "scipy", "plotly"]
    code = f"import sys, monju; print([name for name in {heavy} if name in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_a_process_that_trains_or_reads_waits_for_no_library_that_it_may_not_need():
    """Seconds, at every start of a page's inference process, a job and each of its workers."""
    heavy = ["sklearn", "pandas", "scipy.stats", "scipy.optimize", "peft", "plotly", "gradio", "umap", "datasets"]
    code = f"import sys, monju.training.pipeline; print([name for name in {heavy} if name in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_the_public_names_come_when_they_are_asked_for():
    code = ("import sys, monju; assert 'torch' not in sys.modules; monju.Config, monju.MonjuError; assert 'torch' not in sys.modules\n"
            "found = {name: getattr(monju, name) for name in monju.__all__}; print(*(getattr(found[n], '__name__') for n in sorted(found)))")
    out = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["Config", "Monju", "MonjuError", "Reading", "load", "train"]
