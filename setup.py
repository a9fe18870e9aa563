"""Package map and one call of CMake; everything else is in pyproject.toml and CMakeLists.txt."""

import os
import subprocess
import sys
from pathlib import Path

import setuptools
from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent

if int(setuptools.__version__.split(".")[0]) < 77:
    # --no-build-isolation does not enforce build-system.requires.
    raise SystemExit(f"sylvester needs setuptools >= 77 to build, found {setuptools.__version__}")


class CMakeBuild(build_ext):
    """Builds libsylvester.so with CMake and Ninja and puts it into the package."""

    def run(self) -> None:
        environment = dict(os.environ)
        # cmake and ninja installed by pip are on PATH only when the virtual environment is activated.
        environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment["PATH"]])
        # A wheel built in the tree must not redirect the output folder that an editable build has cached.
        build = ROOT / "build" if self.editable_mode else Path(self.build_temp).resolve()
        package = ROOT / "python" / "sylvester" if self.editable_mode else Path(self.build_lib) / "sylvester"
        package.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            [
                "cmake", "-S", str(ROOT), "-B", str(build), "-G", "Ninja",
                f"-DPython_EXECUTABLE={sys.executable}", f"-DSYLVESTER_OUTPUT={package.resolve()}",
            ],
            check=True, env=environment,
        )  # fmt: skip
        subprocess.run(["cmake", "--build", str(build)], check=True, env=environment)

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
