# SPDX-License-Identifier: Apache-2.0
"""The package as a whole: every public name is documented, with shapes, and typed; the stub is that of the module."""

import ast
import importlib
import importlib.util
import inspect
import os
import re

import pytest

import rewardhead
import rewardhead.report
from conftest import ROOT, python
from rewardhead import _core

SOURCE = ROOT / "host" / "python" / "rewardhead"
MODULES = ["rewardhead", "rewardhead.report", "rewardhead.torch"]


def public(module):
    """Name and object of each public function, class and method that is written here."""
    for name in getattr(module, "__all__", ["write_report", "main"]):
        value = getattr(module, name)
        yield f"{module.__name__}.{name}", value
        if inspect.isclass(value):
            for member, method in vars(value).items():
                if not member.startswith("_") and (callable(method) or isinstance(method, (classmethod, property))):
                    yield f"{module.__name__}.{name}.{member}", getattr(value, member)


@pytest.mark.parametrize("name", MODULES)
def test_every_public_name_is_documented(name):
    if name == "rewardhead.torch" and not importlib.util.find_spec("torch"):
        pytest.skip("PyTorch is not installed; pip install torch")
    module = importlib.import_module(name)
    assert module.__doc__
    names = 0
    for full, value in public(module):
        if full.endswith("__version__"):
            continue
        text = inspect.getdoc(value)
        assert text, f"{full} has no docstring"
        names += 1
        if inspect.isfunction(value) or inspect.ismethod(value):
            signature = inspect.signature(value)
            given = [p for p in signature.parameters.values() if p.name not in ("self", "cls")]
            assert all(p.annotation is not p.empty for p in given), f"{full} has a parameter without a type"
            assert signature.return_annotation is not signature.empty, f"{full} does not say what it returns"
            arrays = [p for p in given if re.search("Tensor|ArrayLike|NDArray", str(p.annotation))]
            if arrays:
                assert "[" in text or "`preference_loss`" in text, f"{full} does not say the shapes of its arrays"
    assert names > 1


def test_types():
    for name in ("mypy", "torch"):
        if not importlib.util.find_spec(name):
            pytest.skip(f"{name} is not installed; pip install {name}")
    done = python("-m", "mypy", "--no-incremental", "--cache-dir", os.devnull, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"no issues found in {len([*SOURCE.rglob('*.py'), *SOURCE.rglob('*.pyi')])} source files" in done.stdout


def test_the_stub_is_that_of_the_module():
    tree = ast.parse((SOURCE / "_core.pyi").read_text())
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    (head,) = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    constants = {node.target.id for node in tree.body if isinstance(node, ast.AnnAssign)}
    found = {name for name in dir(_core) if not name.startswith("__")} | {"__version__"}
    assert found == {*functions, head.name, *constants}
    methods = {node.name for node in head.body if isinstance(node, ast.FunctionDef)}
    assert {name for name in dir(_core.Head) if not name.startswith("_")} == methods - {"__init__"}
    for name, node in functions.items():
        # The parameters by name, as nanobind writes them into the first line of the docstring, where they have any.
        line = getattr(_core, name).__doc__.splitlines()[0]
        names = [argument.arg for argument in node.args.args + node.args.kwonlyargs]
        real = re.findall(r"(\w+): ", line)
        assert len(real) == len(names), f"{name}: {line}"
        if not all(argument == f"arg{i}" or argument == "arg" for i, argument in enumerate(real)):
            assert real == names, f"{name}: {line}"


def test_a_head_by_itself(tmp_path):
    head = rewardhead.Head(3, 2)
    assert repr(head) == "Head(input=3, hidden=2)"
    head.save(tmp_path / "m.safetensors")  # a path or its text
    assert rewardhead.Head.load(str(tmp_path / "m.safetensors")).hidden == 2
    assert rewardhead.Head.load(tmp_path / "m.safetensors").input == 3
