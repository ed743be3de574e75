"""Blocks on the workers of a Dask scheduler. They need this code and a network, and no disk that they share.

Every block is a future of our own whose key names it, so that whatever Dask does with it - retry, move, compute twice -
gives the same block; results travel as bytes and the parent stores them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from distributed import Client, Future, KilledWorker, LocalCluster, wait
from distributed.security import Security

from sim.errors import WorkersLost
from sim.run.blocks import Block
from sim.run.identity import listed, processor, software
from sim.run.journal import Journal
from sim.run.packed import Packed, compute
from sim.run.quarantine import Quarantine
from sim.scenario.load import Scenario

PER_THREAD = 3
"""Blocks with the scheduler for each thread of its workers: enough that none waits, few enough that it stays quick."""
LOOK_SECONDS, NOBODY_SECONDS, CONNECT_SECONDS = 2.0, 60.0, 10.0


@dataclass(frozen=True)
class Tls:
    """Files that make the connection private: the authority's certificate, our certificate and our key."""

    ca: Path
    cert: Path
    key: Path


def is_private(address: str) -> bool:
    """Whether nobody on the way can read or forge what is sent: TLS, or this machine alone.

    >>> [is_private(a) for a in ("tls://cluster:8786", "tcp://127.0.0.1:8786", "tcp://10.0.0.7:8786")]
    [True, True, False]
    """
    url = urlsplit(address)
    if url.scheme == "tls" or url.hostname == "localhost":
        return True
    try:
        return ip_address(url.hostname or "").is_loopback
    except ValueError:
        return False


class Dask:
    """The scheduler at an address, or, for `local`, one of our own with as many worker processes as asked for."""

    def __init__(
        self,
        address: str,
        workers: int,
        tls: Tls | None = None,
        work: Callable[[Scenario, Block], Packed] = compute,
    ) -> None:
        self.address = address
        self.work = work
        self.workers = workers
        self._tls = tls
        self._open = ExitStack()

    def blocks(self, scenario: Scenario, blocks: list[Block], journal: Journal) -> Iterator[Packed]:
        """The blocks as they are finished.

        A block that ends worker after worker (Dask's allowed-failures) is left out. Raises WorkersLost, after all other
        blocks, if there is such a block; at once, if the scheduler is lost, nobody works for it, or its workers run
        other versions than this process.
        """
        logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what a user should hear, we say
        client = self._connect()
        given = client.submit(_given, scenario, key=f"nexttrial-{_run_id(scenario)}", pure=False)
        _check(client.run(software), self.address)
        crew, quarantine = _Crew(client, self.address, journal), Quarantine(journal)
        waiting, at_work = iter(blocks), dict[Future[Any], Block]()
        while True:
            for block in _up_to(waiting, PER_THREAD * crew.n_thread() - len(at_work)):
                key = f"nexttrial-{_run_id(scenario)}-{block.name}"
                at_work[client.submit(self.work, given, block, key=key, pure=False)] = block
            if not at_work:
                break
            for future in self._finished(at_work, crew):
                block = at_work.pop(future)
                packed = self._result(future, block, quarantine)
                if packed is not None:
                    crew.look_at(packed)
                    yield packed
        quarantine.report()

    def close(self, *, at_once: bool = False) -> None:
        """Leave the scheduler; one of our own ends with its workers."""
        self._open.close()

    def _connect(self) -> Client:
        security = None
        if self._tls is not None:
            security = Security(
                tls_ca_file=str(self._tls.ca), tls_client_cert=str(self._tls.cert),
                tls_client_key=str(self._tls.key), require_encryption=True,
            )  # fmt: skip
        target: Any = self.address
        if self.address == "local":
            target = self._enter(
                LocalCluster(n_workers=self.workers, threads_per_worker=1, dashboard_address=None, silence_logs="ERROR")
            )
        try:
            client: Client = self._enter(
                Client(target, security=security, timeout=CONNECT_SECONDS, set_as_default=False)
            )
            return client
        except OSError as error:
            raise WorkersLost(
                f"no Dask scheduler at {self.address} ({error}). Is it running, and is the address the one it printed?"
            ) from None

    def _enter(self, resource: AbstractContextManager[Any]) -> Any:
        return self._open.enter_context(resource)

    def _finished(self, at_work: dict[Future[Any], Block], crew: _Crew) -> list[Future[Any]]:
        """Futures that are done; waits for the first of them."""
        while True:
            try:
                crew.count()
                with crew.client.as_current():
                    done = wait(list(at_work), timeout=LOOK_SECONDS, return_when="FIRST_COMPLETED").done
            except TimeoutError:
                continue
            except (OSError, CancelledError) as error:
                raise self._lost(error) from None
            return [future for future in at_work if future in done]

    def _result(self, future: Future[Any], block: Block, quarantine: Quarantine) -> Packed | None:
        """What a block came to; None if it is given up."""
        if future.cancelled():
            raise self._lost(None)
        error = future.exception()
        if isinstance(error, KilledWorker):
            quarantine.give_up(block)
            return None
        if error is not None:
            raise error
        packed: Packed = future.result()
        future.release()
        return packed

    def _lost(self, error: Exception | None) -> WorkersLost:
        why = f" ({type(error).__name__})" if error else ""
        return WorkersLost(
            f"the Dask scheduler at {self.address} is lost{why}. Every block that came back is stored: start it again, "
            "or leave --dask out, and give the same command again."
        )


class _Crew:
    """Who works for a scheduler: says who is gone, and ends the run if nobody is left."""

    def __init__(self, client: Client, address: str, journal: Journal) -> None:
        self.client = client
        self.address = address
        self.journal = journal
        self.known: dict[str, int] = {}
        self.last_seen, self.last_look = time.monotonic(), 0.0
        self.other_cpu: set[str] = set()

    def n_thread(self) -> int:
        """Threads of all workers, at least 1."""
        return max(sum(self.known.values()), 1) if self.known else max(sum(self.client.ncores().values()), 1)

    def count(self) -> None:
        """Look who is there. Raises WorkersLost if nobody has been for a minute."""
        now = time.monotonic()
        if now - self.last_look < LOOK_SECONDS:
            return
        self.last_look = now
        info = self.client.scheduler_info(n_workers=-1)["workers"]
        there = {address: int(worker["nthreads"]) for address, worker in info.items()}
        for gone in sorted(set(self.known) - set(there)):
            self.journal.note("worker lost", f"worker {gone} is gone; its blocks go to others", worker=gone)
        for new in sorted(set(there) - set(self.known)) if self.known else ():
            self.journal.note("worker came", f"worker {new} joined", worker=new)
        self.known = there
        if there:
            self.last_seen = now
        elif now - self.last_seen > NOBODY_SECONDS:
            raise WorkersLost(
                f"the Dask scheduler at {self.address} has had no workers for {NOBODY_SECONDS:.0f} s. Every block that "
                "came back is stored: start workers and give the same command again."
            )

    def look_at(self, packed: Packed) -> None:
        """Refuse what another version made; say once if another kind of processor did."""
        _check({"a worker": packed.software}, self.address)
        if packed.cpu != processor() and packed.cpu not in self.other_cpu:
            self.other_cpu.add(packed.cpu)
            self.journal.note(
                "other processor",
                f"warning: workers have another processor ({packed.cpu}): last digits may differ, decisions do not",
            )


def _given(scenario: Scenario) -> Scenario:
    """The scenario as a task, so that it is there again if the worker that held it is lost."""
    return scenario


def _run_id(scenario: Scenario) -> str:
    return scenario.fingerprint[:16]


def _check(found: dict[str, dict[str, str]], address: str) -> None:
    """Raises WorkersLost if a worker runs other code or versions than this process."""
    ours = software()
    for worker, theirs in found.items():
        other = [name for name in ours if theirs.get(name) != ours[name]]
        changed = [f"{name}: {theirs.get(name)} there, {ours[name]} here" for name in other]
        if changed:
            raise WorkersLost(
                f"{worker} of {address} runs other versions than this process, and its numbers may differ:"
                f"{listed(changed)}\nInstall the same on every worker."
            )


def _up_to(blocks: Iterator[Block], n: int) -> Iterator[Block]:
    for _ in range(n):
        block = next(blocks, None)
        if block is None:
            return
        yield block
