"""The layout that the project promises, read from its files."""

import ast
import inspect
import re
import tomllib
from pathlib import Path

import pytest

import fastmlp
from fastmlp import reference

ROOT = Path(__file__).parents[1]
PAGES = [
    page for page in (ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")))
    if "```python" in page.read_text()
]  # fmt: skip
STEMS = ["matmul", "relu", "softmax", "log", "matmul_relu", "log_softmax", "update"]
PLACES = [
    "fastmlp/reference/{}.py",
    "kernels/fastmlp_kernels/{}.py",
    "fastmlp/operations/{}.py",
    "tests/test_{}.py",
    "bench/bench_{}.py",
]
SOURCES = sorted(
    path for folder in ("fastmlp", "kernels", "bench") for path in ROOT.glob(f"{folder}/**/*.py")
)
# NumPy's calls whose bits depend on the machine.
BANNED = {
    *("matmul", "dot", "vdot", "inner", "outer", "tensordot", "einsum", "sum", "mean", "cumsum"),
    *("nansum", "prod", "average", "var", "std", "exp", "exp2", "expm1", "log", "log2", "log10"),
    *("log1p", "power", "add.reduce", "trapezoid", "linalg"),
}


def functions_called(source):
    """The calls of NumPy's functions and of arrays' methods, as (line, name)."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
            yield node.lineno, "matmul"
        if isinstance(node, ast.Attribute):
            owner = ast.unparse(node.value)
            if owner in ("np", "numpy") or isinstance(node.ctx, ast.Load):
                yield node.lineno, node.attr if owner != "elementary" else f"elementary.{node.attr}"
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("numpy"):
            yield from ((node.lineno, alias.name) for alias in node.names)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("stem", STEMS)
def test_every_operation_is_in_its_five_places(stem, place):
    assert (ROOT / place.format(stem)).is_file()


@pytest.mark.parametrize("path", sorted((ROOT / "kernels").glob("**/*.py")), ids=lambda p: p.stem)
def test_kernels_know_nothing_of_the_package(path):
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "" if node.level == 0 else "fastmlp_kernels"]
        assert not [name for name in names if name.split(".")[0] == "fastmlp"]


@pytest.mark.parametrize(
    "path", sorted((ROOT / "fastmlp/reference").glob("*.py")), ids=lambda p: p.stem
)
def test_the_reference_calls_nothing_whose_bits_depend_on_the_machine(path):
    found = [(line, name) for line, name in functions_called(path.read_text()) if name in BANNED]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "np.exp(x)",
        "x.sum(axis=1)",
        "a @ b",
        "from numpy import dot",
        "np.add.reduce(x) if 0 else np.linalg.norm(x)",
    ],
)
def test_the_test_above_can_fail(source):
    assert BANNED & {name for _, name in functions_called(source)}


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_modules_and_functions_are_short(path):
    source = path.read_text()
    assert len(source.splitlines()) < 400
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            # An argument of a public function costs a line and what the docstring says of it.
            docstring = ast.get_docstring(node, clean=False) or ""
            lines = node.end_lineno - node.lineno - docstring.count("\n")
            assert lines < 60, f"{node.name}, line {node.lineno}"


@pytest.mark.parametrize("folder", sorted({path.parent for path in SOURCES}), ids=lambda p: p.name)
def test_a_folder_has_few_modules(folder):
    modules = [path for path in SOURCES if path.parent == folder and path.stem != "__init__"]
    assert len(modules) <= 25


def public_names(module):
    return {
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }


@pytest.mark.parametrize("module", [fastmlp, reference])
def test_all_lists_every_public_name(module):
    assert set(module.__all__) <= {*dir(module)}
    assert all(hasattr(module, name) for name in module.__all__)  # which imports them
    assert set(module.__all__) == public_names(module)
    assert len(module.__all__) == len(set(module.__all__))


def parameters(function):
    """The parameters without their annotations: an MLP is that of its own module."""
    signature = inspect.signature(function)
    return [(p.name, p.kind, p.default) for p in signature.parameters.values()]


def test_the_reference_is_a_drop_in():
    assert fastmlp.__all__ == reference.__all__
    for name in fastmlp.__all__:
        ours, theirs = getattr(fastmlp, name), getattr(reference, name)
        assert parameters(ours) == parameters(theirs), name
        if inspect.isclass(ours):
            methods = {method for method in dir(ours) if not method.startswith("_")}
            assert methods == {method for method in dir(theirs) if not method.startswith("_")}
            for method in methods:
                ours_method, theirs_method = getattr(ours, method), getattr(theirs, method)
                if callable(ours_method):
                    assert parameters(ours_method) == parameters(theirs_method), name


@pytest.mark.parametrize("module", [fastmlp, reference])
def test_every_public_name_has_a_docstring(module):
    for name in module.__all__:
        value = getattr(module, name)
        assert inspect.getdoc(value), name
        if inspect.isclass(value):
            for method, function in inspect.getmembers(value, inspect.isfunction):
                assert method.startswith("_") or inspect.getdoc(function), f"{name}.{method}"


def test_pytest_does_not_collect_the_function_test():
    assert fastmlp.test.__test__ is reference.test.__test__ is False


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_pages_examples_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
        exec(block, names)


def test_the_first_page_is_short():
    assert (ROOT / "README.md").read_text().count("\n") < 150


def anchors(page):
    """The anchors of a page's headings, as GitHub and MkDocs make them."""
    for heading in re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE):
        yield re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-")


def test_links_between_pages_lead_somewhere():
    for page in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")):
        for link, anchor in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", page.read_text()):
            if "://" not in link:
                target = page.parent / link if link else page
                assert target.exists(), f"{page.name}: {link}"
                assert not anchor or anchor in {*anchors(target)}, f"{page.name}: {link}#{anchor}"


def test_the_package_says_one_version_and_the_pythons_that_it_is_for():
    version = fastmlp.__version__
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.M)[1] == version
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["dynamic"] == ["version"]
    pythons = re.findall(r"Python :: (3\.\d+)", "\n".join(project["classifiers"]))
    assert pythons == ["3.11", "3.12", "3.13", "3.14"]
    assert project["requires-python"] == f">={pythons[0]}"
