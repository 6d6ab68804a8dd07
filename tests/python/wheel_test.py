# SPDX-License-Identifier: Apache-2.0
"""`pip install .`: a wheel that, with NumPy alone and away from the source, trains, scores and is the program."""

import os
import pathlib
import subprocess
import sys
import venv

import numpy as np

from conftest import ROOT, SAMPLE

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


def test_the_wheel(tmp_path):
    # The build folder is kept, so that only what has changed is compiled again. Unoptimised, except for the kernels,
    # whose options stand in the source.
    build = pathlib.Path(os.environ.get("REWARDHEAD_WHEEL_BUILD", ROOT / "build" / "wheel"))
    pip = [sys.executable, "-m", "pip", "wheel", ROOT, "--no-build-isolation", "--no-deps", "-w", tmp_path]
    run(*pip, f"-Cbuild-dir={build}", "-Ccmake.build-type=Debug", "-Ccmake.define.CMAKE_CXX_FLAGS_DEBUG=-O0")
    (wheel,) = tmp_path.glob("*.whl")

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
    for binary in [site / "rewardhead" / "rewardhead", *(site / "rewardhead").glob("_core*.so")]:
        needs = [line.split()[0] for line in run("ldd", binary).splitlines()]
        foreign = [
            name
            for name in needs
            if not name.startswith(("linux-vdso", "libstdc++", "libm.", "libgcc_s", "libc.")) and "ld-linux" not in name
        ]
        assert not foreign, f"{binary.name} needs {foreign}"
