"""Where points run: here, one after the other, or on the machines of a Ray cluster."""

from __future__ import annotations

import os
import socket
from importlib import import_module
from math import inf
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from ..errors import ConfigError
from . import launch
from .launch import Job, Outcome

# A machine's first task starts Python and loads PyTorch, from a file system that may be slow, and
# beside other work. One that is lost is known earlier.
START_SECONDS = 600


class Machines(Protocol):
    """What runs jobs. As a context manager, it stops those that run when it is left."""

    capacity: float
    """Jobs that may be submitted at a time."""
    verb: str
    """What happens to a job that is submitted."""

    def __enter__(self) -> Machines: ...

    def __exit__(self, *exception: Any) -> None: ...

    def room(self) -> int:
        """Jobs that run at a time."""

    def submit(self, name: str, job: Job) -> None:
        """Start a job, now or when there is room."""

    def next_ended(self) -> tuple[str, Outcome]:
        """Wait for a submitted job to end; returns its name too."""


class ThisMachine:
    """One job at a time, here."""

    capacity: float = 1
    verb = "started"

    def __init__(self) -> None:
        self._submitted: list[tuple[str, Job]] = []

    def room(self) -> int:
        return 1

    def __enter__(self) -> ThisMachine:
        return self

    def __exit__(self, *exception: Any) -> None:
        pass

    def submit(self, name: str, job: Job) -> None:
        self._submitted.append((name, job))

    def next_ended(self) -> tuple[str, Outcome]:
        name, job = self._submitted.pop()
        return name, launch.run(job)


class RayCluster:
    """Machines of a Ray cluster that share a file system; Ray keeps jobs waiting for room.

    Args:
        address: "local" for a cluster of this machine alone, for the time of the sweep; "auto" for
            the one that this machine is part of; HOST:PORT or ray://HOST:PORT for another.
        num_gpus: reserved for each job; None: one where there are any.

    Raises:
        ConfigError: without Ray, if the cluster cannot be reached, or if none of its machines has
            so many GPUs.
    """

    capacity: float = inf
    verb = "handed to Ray"

    def __init__(self, address: str, num_gpus: int | None) -> None:
        self._ray = _import_ray()
        self._running: dict[Any, str] = {}
        self._connect(address)
        self._gpus = self._choose_gpus(num_gpus)

    def _connect(self, address: str) -> None:
        quiet = {"log_to_driver": False, "logging_level": "ERROR"}
        # A cluster of one machine, for the time of the sweep, needs no web server.
        own = {"include_dashboard": False} if address == "local" else {}
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            _call(address)
            self._ray.init(address=address, **quiet, **own)
        except (OSError, RuntimeError, ValueError) as error:
            raise ConfigError(
                f"--address {address}: there is no Ray cluster to connect to ({_line(error)}); "
                "start one with `ray start --head` and, on the other machines, `ray start "
                "--address HOST:PORT`, or give --address local; to one that checks tokens, Ray "
                "shows its own if the environment has RAY_AUTH_MODE=token"
            ) from None

    def _choose_gpus(self, wanted: int | None) -> int:
        most = int(max(node["Resources"].get("GPU", 0) for node in self._nodes()))
        if wanted is None:
            return min(most, 1)
        if wanted > most:
            self._ray.shutdown()
            raise ConfigError(
                f"num_gpus is {wanted}, but the machines of the cluster have at most {most}: lower "
                "it, or start machines with more"
            )
        return wanted

    def _nodes(self) -> list[dict]:
        return [node for node in self._ray.nodes() if node["Alive"]]

    def __enter__(self) -> RayCluster:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # As by Ctrl-C in the task, which stops its process.
        tasks = list(self._running)
        for task in tasks:
            self._ray.cancel(task)
        if tasks:
            self._ray.wait(tasks, num_returns=len(tasks), timeout=launch.GRACE_SECONDS + 5)
        self._ray.shutdown()

    def room(self) -> int:
        resources = [node["Resources"] for node in self._nodes()]
        rooms = [
            min(each.get("CPU", 0), each.get("GPU", 0) / self._gpus if self._gpus else inf)
            for each in resources
        ]
        return sum(int(room) for room in rooms)

    def check_files(self, files: list[Path]) -> None:
        """Check that every machine sees the same files as this one.

        Raises:
            ConfigError: naming the machine and the first file that it does not see.
        """
        contents = {str(file.resolve()): file.read_bytes() for file in files}
        by_node = import_module("ray.util.scheduling_strategies").NodeAffinitySchedulingStrategy
        look = self._ray.remote(differing_file)
        for node in self._nodes():
            strategy = by_node(node["NodeID"], soft=False)
            there = look.options(num_cpus=0, scheduling_strategy=strategy)
            name = f"machine {node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
            try:
                file = self._ray.get(there.remote(contents), timeout=START_SECONDS)
            except self._ray.exceptions.GetTimeoutError:
                raise ConfigError(
                    f"{name} has not begun to work within {START_SECONDS} seconds: free it from "
                    "other work, or run the sweep without it"
                ) from None
            except self._ray.exceptions.RayError as error:
                raise ConfigError(
                    f"{name} cannot work on points ({_line(error)}): it needs the same codec_det "
                    "installed as this one"
                ) from None
            if file:
                raise ConfigError(
                    f"{name} does not see '{file}' as this one does: run the sweep from a folder, "
                    "and with an output_dir, on a file system that all machines share"
                )

    def submit(self, name: str, job: Job) -> None:
        # Retries are the sweep's, which looks first at what the lost run has left.
        task = self._ray.remote(launch.run).options(
            num_cpus=1, num_gpus=self._gpus, max_retries=0, name=name
        )
        # Ray gives each task one core; more threads than that would slow the others down.
        threads = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
        self._running[task.remote(job, threads)] = name

    def next_ended(self) -> tuple[str, Outcome]:
        (task, *_), _ = self._ray.wait(list(self._running), num_returns=1)
        name = self._running.pop(task)
        try:
            return name, self._ray.get(task)
        except self._ray.exceptions.RayError as error:
            return name, Outcome(None, reason=_line(error))


def _call(address: str) -> None:
    """See whether anyone is at HOST:PORT, for whom Ray would wait minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()


def differing_file(contents: dict[str, bytes]) -> str | None:
    """The first file, of these contents by path, that is not the same here."""
    for file, content in contents.items():
        if not Path(file).is_file() or Path(file).read_bytes() != content:
            return file
    return None


def _import_ray() -> Any:
    try:
        return import_module("ray")
    except ImportError:
        raise ConfigError(
            "--address needs Ray, which is not installed: pip install 'codec_det[sweep]', or leave "
            "out --address to run the points here, one after the other"
        ) from None


def _line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # Of what a task raised, the last line is the exception; before it comes its traceback.
    return (lines[-1] if lines and "Traceback" in str(error) else " ".join(lines[:1])) or type(
        error
    ).__name__
