"""Register the meta-architectures with detectron2 without importing it.

detectron2 imports PyTorch, which takes seconds that a camera's encoder has no use for. So they are
registered when :mod:`detectron2.modeling`, where its registry is, has been imported: at once if it
has been already, else by whoever imports it.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType

_HOST = "detectron2.modeling"
_META_ARCHITECTURES = "codec_det.meta_arch"


def register_with_detectron2() -> None:
    """Register now, or as soon as detectron2's registry is there."""
    if _HOST in sys.modules:
        import_module(_META_ARCHITECTURES)
    else:
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    """Has the host loaded as ever, and the meta-architectures after it."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != _HOST:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(name)
        if spec and spec.loader:
            execute = spec.loader.exec_module

            def execute_and_register(module: ModuleType) -> None:
                execute(module)
                import_module(_META_ARCHITECTURES)

            spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec
