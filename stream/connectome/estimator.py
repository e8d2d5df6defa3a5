"""What all estimators of graphs share: they look only at units of which something can be said."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from stream.connectome.graph import Graph, spread
from stream.connectome.statistics import Statistics


@dataclass(frozen=True)
class Estimator(ABC):
    """Makes a graph of statistics.

    Parameters
    ----------
    alpha
        Rate of false discoveries among pairs.
    """

    alpha: float = 0.05

    def estimate(self, statistics: Statistics) -> Graph:
        """Return the graph of all units; what is constant or copied is left out, and named.

        Raises
        ------
        GraphError
            There are too few rows for so many units and delays, or no unit has varied.
        """
        units, left_out = statistics.usable()
        graph = self.among(statistics.restrict(units))
        return spread(graph, units, statistics.n_units, left_out)

    @abstractmethod
    def among(self, statistics: Statistics) -> Graph:
        """Return the graph of units of which each varies, and none is made up of others.

        Raises
        ------
        GraphError
            There are too few rows.
        """
