"""What costs much at every use and is the same at each: had once a test process. What is tested stays as it was."""

import functools
import sys
from collections import defaultdict


def prepare() -> None:
    """Of the modules that the tests have imported."""
    if "streamlit.testing.v1" in sys.modules:
        _components()
    if "backend.store.packed" in sys.modules:  # squeezed as far as can be, a small pack takes a second
        sys.modules["backend.store.packed"]._LEVELS = {"zstd": 1, "brotli": 1}
    if "backend.cot.answers" in sys.modules:
        _judging_processes()


def _components() -> None:
    """Every AppTest asks all installed packages for components: a third of what a page costs."""
    from streamlit.components.v2 import manifest_scanner

    manifest_scanner.scan_component_manifests = functools.cache(manifest_scanner.scan_component_manifests)


def _judging_processes() -> None:
    """A judging process that is done judges for the next judge of its limits: each imports sympy for a second."""
    from backend.cot import answers

    at_leave = defaultdict(list)

    class Worker(answers._Worker):
        def __init__(self, *limits: float) -> None:
            super().__init__(*limits)
            self.limits = limits

        def end(self) -> None:
            if self.pair is not None or not self.process.is_alive():
                super().end()
                return
            self.pipe.send(("1", "1"))  # its verdict says that it is ready, as the first word of a new one does
            at_leave[self.limits].append(self)

    def worker(*limits: float) -> Worker:
        while at_leave[limits]:
            if (found := at_leave[limits].pop()).process.is_alive():
                return found
        return Worker(*limits)

    answers._Worker = worker
