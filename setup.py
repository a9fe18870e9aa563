"""Package map and one call of CMake; everything else is in pyproject.toml and CMakeLists.txt."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import setuptools
from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
LIBRARY = "libsylvester.so"

if int(setuptools.__version__.split(".")[0]) < 77:
    # --no-build-isolation does not enforce build-system.requires.
    raise SystemExit(f"sylvester needs setuptools >= 77 to build, found {setuptools.__version__}")


class CMakeBuild(build_ext):
    """Builds libsylvester.so with CMake and Ninja and puts it into the package."""

    def run(self) -> None:
        environment = dict(os.environ)
        # cmake and ninja installed by pip are on PATH only when the virtual environment is activated.
        environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment["PATH"]])
        # One build folder and one output for editable installs and wheels alike, so that neither redirects the other.
        build, package = ROOT / "build", ROOT / "python" / "sylvester"
        subprocess.run(
            [
                "cmake", "-S", str(ROOT), "-B", str(build), "-G", "Ninja",
                f"-DPython_EXECUTABLE={sys.executable}", f"-DSYLVESTER_OUTPUT={package}",
            ],
            check=True, env=environment,
        )  # fmt: skip
        subprocess.run(["cmake", "--build", str(build)], check=True, env=environment)
        if not self.editable_mode:
            shutil.copy(package / LIBRARY, Path(self.build_lib) / "sylvester" / LIBRARY)

    def get_source_files(self) -> list[str]:
        return []


setup(
    package_dir={
        "sylvester": "python/sylvester",
        "sylvester.kernels": "kernels",
        "sylvester.benchmarks": "benchmarks",
    },
    packages=[*find_packages("python"), "sylvester.kernels", "sylvester.benchmarks"],
    ext_modules=[Extension("sylvester.libsylvester", sources=[])],
    cmdclass={"build_ext": CMakeBuild},
)
