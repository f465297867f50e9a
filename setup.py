"""Two names for one folder.

Others install the science of `lib` and its loops as `label_memorization`: a top-level package called `lib` would clash
with their own. A clone, which is installed editable, has both that name and all of `lib`, as the paper's runs name it.
"""

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py
from setuptools.command.editable_wheel import editable_wheel

OF_THE_STUDY = {"__main__", "catalogue", "criteria", "files", "models", "parameters"}


class Science(build_py):
    """Leaves out what only the study needs, and what it needs for that."""

    def find_package_modules(self, package, package_dir):
        found = super().find_package_modules(package, package_dir)
        return [module for module in found if module[1] not in OF_THE_STUDY]


class Clone(editable_wheel):
    """Has `lib` too."""

    def finalize_options(self):
        self.distribution.packages += find_packages(include=["lib", "lib.*"])
        super().finalize_options()


setup(cmdclass={"build_py": Science, "editable_wheel": Clone})
