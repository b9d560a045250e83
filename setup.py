"""Package metadata and loose bounds. Tested versions are pinned in requirements.txt.

Without extras, what a camera needs. detectron2 is needed to train and to detect, but no package
index has it: run tools/install_detectron2.py (or the official build) once. `make test` and `make
demo` do all of it.
"""

from pathlib import Path

from setuptools import find_packages, setup

README = Path(__file__).parent / "README.md"

# docs/install.md says what each is for.
EXTRAS = {
    "train": [
        "compressai>=1.2.8",
        "faster-coco-eval>=1.6.8",
        "fvcore>=0.1.5",
        # Headless, because servers have no libGL.
        "opencv-python-headless>=4.5",
        "pycocotools>=2.0.6",
        "setuptools<82",  # detectron2's model zoo imports pkg_resources
        "tabulate>=0.9",
        "torch>=2.4",
        "torchvision>=0.19",
    ],
    "onnx": ["onnx>=1.16", "onnxscript>=0.1"],
    "reports": ["bjontegaard>=1.3", "jinja2>=3.1", "matplotlib>=3.5", "plotly>=6"],
    "conventional": ["imageio-ffmpeg>=0.8.0"],
    "sweep": ["ray>=2.40"],
}
# The tools are programs, not modules of the package; they and what they share stay together.
TOOLS = tuple(
    f"codec_det_tools{room}" for room in ("", ".benchmarks", ".checks", ".files", ".streams")
)
CHECKS = ["mypy>=1.10", "playwright>=1.40", "pytest>=8", "pytest-xdist>=3.5", "ruff>=0.9"]

setup(
    name="codec_det",
    version="0.1.0",
    description="Learned image codecs (CompressAI) in front of detectron2 detectors",
    long_description=README.read_text(encoding="utf-8") if README.is_file() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    # Up to 3.12: CompressAI publishes no wheels beyond, and building it needs a C++ compiler.
    python_requires=">=3.10,<3.13",
    packages=[*find_packages(include=["codec_det", "codec_det.*"]), *TOOLS],
    package_dir={"codec_det_tools": "tools"},
    package_data={"codec_det": ["py.typed", "weights/*.pth", "report/assets/*"]},
    entry_points={"console_scripts": ["codec-det = codec_det_tools.__main__:main"]},
    install_requires=[
        # On Linux for x86 alone; elsewhere codec_det/bitstream/python_coder.py does the same.
        "constriction>=0.4; platform_system != 'Linux' or platform_machine == 'x86_64'",
        "numpy>=1.24",
        "onnxruntime>=1.18",
        "Pillow>=9",
        "safetensors>=0.4",
        "tqdm>=4.29",
    ],
    extras_require={
        **EXTRAS,
        "all": [line for lines in EXTRAS.values() for line in lines],
        "dev": CHECKS,
    },
)
