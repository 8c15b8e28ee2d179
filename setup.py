"""The metadata of tfreg; the tools' settings are in pyproject.toml."""

import pathlib
import re

import setuptools

ROOT = pathlib.Path(__file__).parent
README = ROOT / "README.md"
PACKAGE = (ROOT / "tfreg" / "__init__.py").read_text(encoding="utf-8")
(VERSION,) = re.findall(r'^__version__ = "(.+)"$', PACKAGE, re.M)

# 2.16 is the first TensorFlow with Keras 3, which the documented numbers are compared
# with. .ci/matrix tests the versions from there on.
TENSORFLOW = "tensorflow{extra}>=2.16,<2.22"

EXAMPLES = ["matplotlib", "mlxtend"]
SWEEP = ["matplotlib", "scipy"]

PORT = ["libcst"]
PYTHON2 = [*PORT, "fissix"]

setuptools.setup(
    name="tfreg",
    version=VERSION,
    description=(
        "Regularized training in low-level TensorFlow 2: contrib's penalties and "
        "collections, a tf.function loop, replicas."
    ),
    long_description=README.read_text(encoding="utf-8") if README.is_file() else "",
    long_description_content_type="text/markdown",
    license_expression="Apache-2.0",
    keywords=["tensorflow", "regularization", "weight decay", "tf.contrib", "training"],
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    python_requires=">=3.10",
    packages=setuptools.find_packages(include=["tfreg", "tfreg.*"]),
    package_data={"tfreg": ["py.typed"]},
    entry_points={"console_scripts": ["tfreg = tfreg.cli.commands:main"]},
    zip_safe=False,
    install_requires=[
        TENSORFLOW.format(extra=""),
        "absl-py",
        "numpy",
        "rich",
        "tensorboard",  # TensorFlow stopped depending on it
    ],
    extras_require={
        "examples": EXAMPLES,
        "sweep": SWEEP,
        "gpu": [TENSORFLOW.format(extra="[and-cuda]")],
        "port": PORT,
        "python2": PYTHON2,
        "test": [
            *EXAMPLES,
            *PYTHON2,
            *SWEEP,
            "build",
            "dm-sonnet",
            "hypothesis",
            "hypothesmith",
            "import-linter>=2",
            "mypy",
            "pdoc",
            "pytest>=8",
            "pytest-xdist",
            "pyyaml",
            "ruff~=0.17.6",  # another minor version formats otherwise
            "scikit-learn",
            "selenium",
            "tf_slim",
        ],
    },
)
