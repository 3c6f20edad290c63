"""Poolings: one record a file. To add one of your own, make a subclass of `Pooling`."""

from nstyle.networks.poolings.average import Average
from nstyle.networks.poolings.base import Pooling
from nstyle.networks.poolings.blur import Blur
from nstyle.networks.poolings.each import Each
from nstyle.networks.poolings.gem import GeM
from nstyle.networks.poolings.l2 import L2
from nstyle.networks.poolings.lp import Lp
from nstyle.networks.poolings.maximum import Maximum
from nstyle.networks.poolings.mixed import Mixed
from nstyle.networks.poolings.soft import Soft
from nstyle.networks.poolings.stochastic import Stochastic
from nstyle.networks.poolings.stride import Stride

#: The poolings of this package, by name, but for the choice of one for each pool.
POOLINGS: dict[str, type[Pooling]] = {
    pooling.name: pooling
    for pooling in (Average, Maximum, L2, Lp, GeM, Mixed, Soft, Blur, Stride, Stochastic)
}

__all__ = [
    "L2",
    "POOLINGS",
    "Average",
    "Blur",
    "Each",
    "GeM",
    "Lp",
    "Maximum",
    "Mixed",
    "Pooling",
    "Soft",
    "Stochastic",
    "Stride",
]
