"""What runs take of this machine: threads, the compile cache, memory, time."""

import functools
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import jax
import jax.numpy as jnp
import threadpoolctl

from nstyle.errors import NstyleError
from nstyle.files import cache_dir
from nstyle.process import huge_pages
from nstyle.runs.planning import Plan
from nstyle.solvers import STEP_PROGRAM

#: Pixels from which a run says beforehand what it will take.
_LARGE_PIXELS = 1024 * 768


#: Seconds from which a program was compiled, not loaded from the cache, and left memory behind.
_LONG_COMPILATION = 0.05

#: Operations of the network in the time of one in a large matrix product.
_NETWORK_SHARE = 0.7


def effort(planned: Plan) -> Iterator[str]:
    """Yields what a large run will take, measuring how fast this machine is."""
    height, width = planned.sizes[-1].shape[:2]
    if height * width < _LARGE_PIXELS:
        return
    minutes = planned.operations / _operations_per_second() / 60
    by_tiles = "" if planned.sizes[-1].tile is None else f" by tiles of {planned.sizes[-1].tile}"
    yield (
        f"{width} x {height} pixels{by_tiles}: about {planned.memory / 2**30:.1f} GiB of memory and"
        f" {minutes:.0f} minutes, if all steps are made"
    )


@functools.cache
def _operations_per_second() -> float:
    """Returns how fast networks are here, from the time of a matrix product."""
    side = 2048
    matrix = jnp.ones((side, side))
    product = jax.jit(jnp.dot)
    product(matrix, matrix).block_until_ready()
    began = time.perf_counter()
    product(matrix, matrix).block_until_ready()
    return _NETWORK_SHARE * 2 * side**3 / (time.perf_counter() - began)


def limit_threads(threads: int | None) -> None:
    """Limits what JAX, if it has not started yet, uses of the cores; linear algebra has one.

    Raises:
      NstyleError: JAX has started with another number.
    """
    linear_algebra_by_one()
    if threads is None:
        return
    if _Threads.limit not in (None, threads):
        raise NstyleError(
            f"threads: {threads} after {_Threads.limit} in one process; give runs of one number to"
            " one command"
        )
    os.environ["PJRT_NPROC"] = str(threads)
    _Threads.limit = threads


def linear_algebra_by_one() -> threadpoolctl.threadpool_limits:
    """Gives linear algebra one thread; as a context manager for a while.

    Its matrices have 512 rows at most: alone two threads are 10 to 20 % faster than one, but beside
    another busy process, where they wait for each other, they take 3 to 20 times as long.
    """
    import scipy.linalg  # noqa: F401  whose library JAX takes for it

    return threadpoolctl.threadpool_limits(1)


class _Threads:
    """The limit of this process, once it is set."""

    limit: int | None = None


def keep_compiled() -> None:
    """Keeps compiled programs in the user's cache, unless JAX was told where to keep them.

    Raises:
      NstyleError: JAX was told to use devices that are not here.
    """
    try:
        jax.devices()
    except (AssertionError, RuntimeError) as error:
        raise NstyleError(
            f"JAX_PLATFORMS: there are no devices of {jax.config.jax_platforms!r} here, or JAX is"  # type: ignore[attr-defined]
            " installed without them; cpu is always there"
        ) from error
    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
        jax.config.update("jax_compilation_cache_dir", str(cache_dir() / "compiled"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


class Compilations:
    """How often this process compiled the step, or loaded it from the cache on disk.

    What the compiler leaves of its memory is given back. To look for it takes 8 ms, so not after
    the many small programs, which are loaded at every start.
    """

    count = 0

    @classmethod
    def listen(cls) -> None:
        """Begins to count; once for a process."""

        def heard(event: str, duration_secs: float, **what: str | int) -> None:
            if event == "/jax/core/compile/backend_compile_duration":
                cls.count += what.get("fun_name") == STEP_PROGRAM
                if duration_secs > _LONG_COMPILATION:
                    huge_pages.give_back()

        jax.monitoring.register_event_duration_secs_listener(heard)

    @classmethod
    def take(cls) -> int:
        """Returns how many there were since the last call."""
        count, cls.count = cls.count, 0
        return count


Compilations.listen()


@contextmanager
def memory_errors() -> Iterator[None]:
    """Raises NstyleError where an allocation fails."""
    try:
        yield
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise NstyleError(
            "there is not enough memory: take a smaller size, or memory=4GiB and the like, which"
            " evaluates by tiles"
        ) from error
