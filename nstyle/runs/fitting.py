"""What fits the memory that a run may take: its solver, and the tiles it is evaluated by."""

from omegaconf import DictConfig

from nstyle.config import parse_memory
from nstyle.errors import NstyleError
from nstyle.networks import NETWORKS
from nstyle.objective import Structure
from nstyle.objective.memory import bytes_beside, evaluation_bytes, tile_for
from nstyle.objective.tiling import check_structure
from nstyle.process.machine import memory_limit
from nstyle.solvers import Solver

#: Edge of the tiles that leave room for the solver's history.
_USUAL_TILE = 256


#: Time of an evaluation by tiles over that of the whole picture, measured at 1024 px.
TILED_COST = 1.3


def fitting_solver(
    config: DictConfig, structure: Structure, shape: tuple[int, ...], asked: Solver
) -> Solver:
    """Returns the solver asked for, with as much memory of its own as there is room for.

    The room is what an evaluation by the tiles of `_USUAL_TILE` leaves: smaller ones for the sake
    of a longer history cost more time than it saves.
    """
    if config.memory is None:
        return asked
    ways = [None, config.tile or _USUAL_TILE] if _can_be_tiled(structure) else [None]
    room = parse_memory(config.memory) - min(
        evaluation_bytes(structure, shape, tile) for tile in ways
    )
    for solver in asked.ever_smaller():
        if bytes_beside(solver, shape) <= room:
            break
    return solver


def _can_be_tiled(structure: Structure) -> bool:
    try:
        check_structure(structure)
    except NstyleError:
        return False
    return True


def fitting_tile(
    config: DictConfig, structure: Structure, shape: tuple[int, ...], solver: Solver
) -> int | None:
    """Returns the edge of the tiles by which a size is evaluated; None evaluates it whole."""
    if config.tile is not None:
        check_structure(structure)
    if config.tile is not None or config.memory is None:
        return config.tile
    beside = bytes_beside(solver, shape)
    left = parse_memory(config.memory) - beside
    if left <= 0:
        raise NstyleError(
            f"memory: {config.memory} is too little: pictures and solver alone take"
            f" {beside / 2**30:.2f} GiB"
        )
    if evaluation_bytes(structure, shape, None) <= left:
        return None
    check_structure(structure)
    try:
        return tile_for(structure, shape, left)
    except NstyleError as error:
        raise NstyleError(f"{error}, the run's other {beside / 2**30:.2f} GiB apart") from error


def check_memory(config: DictConfig, shape: tuple[int, ...], beside: int) -> None:
    """Refuses a picture that the memory here does not hold whole, with what is beside it."""
    if config.memory is not None or config.tile is not None:
        return
    pixels = shape[0] * shape[1]
    have = memory_limit()
    need = NETWORKS[config.network].evaluation_bytes * pixels + beside
    if need > have:
        fits = int((have / need) ** 0.5 * max(shape[:2]))
        raise NstyleError(
            f"size: {shape[1]} x {shape[0]} pixels need about {need / 2**30:.0f} GiB of memory,"
            f" {have / 2**30:.1f} GiB are here (the largest long side that fits is {fits};"
            " memory=8GiB and the like evaluates larger ones by tiles)"
        )
