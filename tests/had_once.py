"""What costs much at every use and is the same at each: had once a test process. What is tested stays as it was."""

import functools
import multiprocessing
import os
import shutil
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Hashable
from multiprocessing import spawn
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from backend.schema.tables import SCHEMA_VERSION, TABLES

LIVE_WORKER = "live worker"
_PLACES: list[tempfile.TemporaryDirectory] = []  # gone when the process ends


def copied(make: Callable[..., Path]) -> Callable[..., Path]:
    """`make(folder, …)` makes a study: of each name, of the same arguments, models and schema, once; then it is
    copied.
    """
    made: dict[Hashable, Path] = {}

    @functools.wraps(make)
    def make_or_copy(folder: Path, *arguments: Any, **named: Any) -> Path:
        schema = SCHEMA_VERSION, *((name, *table.columns) for name, table in TABLES.items())  # a test may add to it
        key = (schema, folder.name, *(getattr(one, "model_id", one) for one in arguments), *sorted(named.items()))
        if key not in made:
            _PLACES.append(place := tempfile.TemporaryDirectory())
            made[key] = make(Path(place.name) / folder.name, *arguments, **named)
        return Path(shutil.copytree(made[key], folder))

    return make_or_copy


def prepare() -> None:
    """Of the modules that the tests have imported."""
    if "streamlit.testing.v1" in sys.modules:
        _components()
        _runs_of_scripts()
        _as_we_configure()
        _scripts()
    if "plotly.basedatatypes" in sys.modules:  # the same few hundred names of properties, taken apart in each figure
        plotly = sys.modules["plotly.basedatatypes"]
        plotly._str_to_dict_path_full = functools.cache(plotly._str_to_dict_path_full)
    if "backend.store.packed" in sys.modules:  # squeezed as far as can be, a small pack takes a second
        sys.modules["backend.store.packed"]._LEVELS = {"zstd": 1, "brotli": 1}
    if "backend.cot.answers" in sys.modules:
        _judging_processes()
    if "backend.live.service" in sys.modules:
        _live_workers()


def _components() -> None:
    """Every AppTest asks all installed packages for components: a third of what a page costs."""
    from streamlit.components.v2 import manifest_scanner

    manifest_scanner.scan_component_manifests = functools.cache(manifest_scanner.scan_component_manifests)


def _runs_of_scripts() -> None:
    """An AppTest asks a thousand times a second whether its script has ended, and each time takes the interpreter from
    it: an eighth of what a page costs. It waits for the script's thread instead.
    """
    from streamlit.testing.v1 import local_script_runner

    ask = local_script_runner.require_widgets_deltas

    def wait(runner: local_script_runner.LocalScriptRunner, timeout: float = 3) -> None:
        runner._script_thread.join(timeout)
        if not runner.script_stopped():
            ask(runner, 0)  # which ends it and says so

    local_script_runner.require_widgets_deltas = wait


def _as_we_configure() -> None:
    """AppTest reads neither our config.toml, as tests leave the folder, nor the environment: by its defaults it counts
    every command for telemetry and rewrites every script.
    """
    from streamlit import config

    config.set_option("browser.gatherUsageStats", False)
    config.set_option("runner.magicEnabled", False)


def _scripts() -> None:
    """An AppTest compiles its page at every run, as it shares no code with the run before."""
    from streamlit.runtime.scriptrunner.script_cache import ScriptCache

    read, code = ScriptCache.get_bytecode, {}

    def bytecode(cache: ScriptCache, path: str) -> Any:
        stamp = path, os.stat(path).st_mtime_ns
        if stamp not in code:
            code[stamp] = read(cache, path)
        return code[stamp]

    ScriptCache.get_bytecode = bytecode


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


def _live_workers() -> None:
    """The worker of live pages is a copy of a process that has imported torch, as those of stages are: by its command,
    as tests/backend/live/test_service.py starts it, it imports torch for five seconds.
    """
    from backend.live import service

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "transformers"])
    prepared = spawn.get_preparation_data

    def without_main(name: str) -> dict[str, Any]:  # while an AppTest runs, __main__ is the dashboard
        data = prepared(name)
        return data if name != LIVE_WORKER else {key: data[key] for key in data if not key.startswith("init_main")}

    spawn.get_preparation_data = without_main

    class Forked:
        def __init__(self, command: list[str], *, cwd: Path, env: dict[str, str], **_: object) -> None:
            *_, descriptor, threads = command
            pipe = Connection(os.dup(int(descriptor)))
            self._process = context.Process(
                target=_live_worker, name=LIVE_WORKER, args=(pipe, int(threads), str(cwd), env)
            )
            self._process.start()
            pipe.close()
            self.pid, self.kill, self.wait = self._process.pid, self._process.kill, self._process.join

        def poll(self) -> int | None:
            return self._process.exitcode

    service.subprocess = SimpleNamespace(Popen=Forked, DEVNULL=None)


def _live_worker(pipe: Connection, threads: int, folder: str, environment: dict[str, str]) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    from backend.live.worker import main

    main(pipe, threads)
