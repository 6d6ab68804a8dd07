# SPDX-License-Identifier: Apache-2.0
"""`pip install .`: a wheel that, with NumPy alone and away from the source, trains, scores and is the program."""

import email
import importlib.util
import os
import pathlib
import subprocess
import sys
import tomllib
import venv
import zipfile

import numpy as np
import pytest

from conftest import ROOT, SAMPLE, python

PROGRAM = """
import sys
import numpy, rewardhead
assert not [name for name in ("sklearn", "torch", "scipy") if name in sys.modules]
x = numpy.load(sys.argv[1])
model = rewardhead.RewardModel(x, 8, epochs=2).fit([[0, 1], [2, 3]])
model.save("m.safetensors")
again = rewardhead.RewardModel.load("m.safetensors").predict(x[:2])
print(rewardhead.__file__, again.tolist() == model.predict(x[:2]).tolist())
"""


def run(*command, **options):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


# Kept, so that only what has changed is compiled again. An isolated build has its nanobind in a new folder each time.
BUILD = pathlib.Path(os.environ.get("REWARDHEAD_WHEEL_BUILD", ROOT / "build" / "wheel"))


@pytest.fixture(scope="module")
def isolated(tmp_path_factory):
    """Whether to build in an environment with nothing in it but what pyproject.toml says that building needs: at the
    first time, and where pip can get that."""
    if BUILD.exists():
        return False
    asked = ["-m", "pip", "install", "--dry-run", "--retries", "0", "--timeout", "15", "--ignore-installed"]
    done = python(*asked, "--target", tmp_path_factory.mktemp("target"), *PROJECT["build-system"]["requires"])
    return done.returncode == 0


@pytest.fixture(scope="module")
def wheel(tmp_path_factory, isolated):
    # Unoptimised, except for the kernels, whose options stand in the source.
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", ROOT, "--no-deps", "-w", folder]
    pip += [] if isolated else ["--no-build-isolation"]
    run(*pip, f"-Cbuild-dir={BUILD}", "-Ccmake.build-type=Debug", "-Ccmake.define.CMAKE_CXX_FLAGS_DEBUG=-O0")
    (wheel,) = folder.glob("*.whl")
    return wheel


def test_the_build_was_isolated(wheel, isolated):
    if not isolated:
        pytest.skip("an isolated build: that needs pip to get what building needs, and no build/wheel from before")


def test_what_the_wheel_requires(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        fields = email.message_from_bytes(archive.read(name))
        files = [name for name in archive.namelist() if ".dist-info/" not in name]
    plain = [entry for entry in fields.get_all("Requires-Dist") if "extra ==" not in entry]
    assert [entry.split(">")[0] for entry in plain] == ["numpy"]
    assert fields.get_all("Provides-Extra") == ["torch", "report", "data"]
    extras = [entry for entry in fields.get_all("Requires-Dist") if "extra ==" in entry]
    found = [(entry.split("extra ==")[1].strip(" \"'"), entry.split(";")[0].strip()) for entry in extras]
    assert found == [
        (extra, part) for extra, parts in PROJECT["project"]["optional-dependencies"].items() for part in parts
    ]
    assert fields["Name"] == "rewardhead" and fields["Requires-Python"] == ">=3.11"
    assert all(file.startswith("rewardhead/") for file in files)


def test_the_wheel(wheel, tmp_path):
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=False)
    site = environment / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    run(sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target", site, wheel)
    (site / "numpy").symlink_to(pathlib.Path(np.__file__).parent)  # all that it may need
    libraries = pathlib.Path(np.__file__).parent.parent / "numpy.libs"
    if libraries.exists():
        (site / "numpy.libs").symlink_to(libraries)

    python = environment / "bin" / "python"
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    out = run(python, "-c", PROGRAM, SAMPLE / "embeddings.npy", cwd=tmp_path, env=clean)
    assert out.split() == [str(site / "rewardhead" / "__init__.py"), "True"]
    assert (site / "rewardhead" / "py.typed").exists() and (site / "rewardhead" / "_core.pyi").exists()
    version = wheel.name.split("-")[1]
    assert run(python, "-m", "rewardhead", "--version", cwd=tmp_path, env=clean).strip() == version
    if importlib.util.find_spec("mypy"):  # its types are found, and used
        (tmp_path / "user.py").write_text("import rewardhead\nrewardhead.RewardModel([[0.0]], hidden='two')\n")
        mypy = [sys.executable, "-m", "mypy", "--no-incremental", "--cache-dir", os.devnull]
        command = [*mypy, "--python-executable", python, "user.py"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
        assert "Found 1 error" in done.stdout and '"hidden" to "RewardModel" has incompatible type "str"' in done.stdout
    for binary in [site / "rewardhead" / "rewardhead", *(site / "rewardhead").glob("_core*.so")]:
        needs = [line.split()[0] for line in run("ldd", binary).splitlines()]
        foreign = [
            name
            for name in needs
            if not name.startswith(("linux-vdso", "libstdc++", "libm.", "libgcc_s", "libc.")) and "ld-linux" not in name
        ]
        assert not foreign, f"{binary.name} needs {foreign}"
