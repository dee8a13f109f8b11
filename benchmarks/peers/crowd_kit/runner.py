"""crowd-kit's side of the benchmarks: one task, any of its methods on one table of votes. See ``peers/serve.py``."""

from __future__ import annotations

import time
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd  # type: ignore[import-untyped]
from crowdkit.aggregation import (  # type: ignore[import-not-found]
    GLAD,
    MACE,
    DawidSkene,
    MajorityVote,
    OneCoinDawidSkene,
)
from crowdkit.aggregation.classification import (  # type: ignore[import-not-found]
    dawid_skene as dawid_skene_module,
)

CLASSES = {
    "majority": MajorityVote,
    "dawid_skene": DawidSkene,
    "one_coin": OneCoinDawidSkene,
    "mace": MACE,
    "glad": GLAD,
}
# How each does exactly so many iterations from one start.
EXACTLY: dict[str, Any] = {
    "majority": lambda _: {},
    "dawid_skene": lambda n_iter: {"n_iter": n_iter, "tol": -np.inf},
    "one_coin": lambda n_iter: {"n_iter": n_iter, "tol": -np.inf},
    "mace": lambda n_iter: {"n_iter": n_iter, "n_restarts": 1},
    "glad": lambda n_iter: {"n_iter": n_iter, "tol": -np.inf},
}


def versions() -> dict[str, str]:
    return {name: version(name) for name in ("crowd-kit", "pandas", "numpy", "scikit-learn", "scipy")}


def fit(options: dict[str, Any], clock: Any) -> dict[str, Any]:
    """Fit one method.

    Options: ``votes``, an .npz file of ``item``, ``worker`` and ``label``; ``method``; ``iterations``, None
    for crowd-kit's defaults; ``as_strings``; ``out``, an .npz file for ``items``, ``classes``, ``posterior`` and
    ``labels``, or None.
    """
    with np.load(options["votes"]) as file:
        columns: dict[str, Any] = {name: file[name] for name in ("item", "worker", "label")}
    if options["as_strings"]:  # a string object for each cell, as a reader of a file makes them
        columns = {name: [f"{name}{code}" for code in column.tolist()] for name, column in columns.items()}
    frame = pd.DataFrame({"task": columns["item"], "worker": columns["worker"], "label": columns["label"]}, copy=True)
    name, iterations = options["method"], options["iterations"]
    parameters = {} if iterations is None else EXACTLY[name](iterations)
    method = CLASSES[name](**parameters, **({"silent": True} if name == "glad" else {}))
    first_guess = _time_first_guess()
    with clock:
        method.fit(frame)
    if options["out"] is not None:
        found = method.probas_.sort_index().sort_index(axis=1)
        np.savez(
            options["out"],
            items=np.array(found.index.tolist()),
            classes=np.array(found.columns.tolist()),
            posterior=found.to_numpy(np.float64),
            labels=np.array(method.labels_.sort_index().tolist()),
        )
    # What its expectation-maximisation takes without the vote shares that it starts from.
    return {"n": len(frame) * (iterations or 1), "em_seconds": clock.seconds - first_guess.seconds}


def _time_first_guess() -> Any:
    """Have Dawid-Skene's first guess, a majority vote, timed."""

    class TimedMajorityVote(MajorityVote):  # type: ignore[misc]
        seconds = 0.0

        def fit_predict_proba(self, *arguments: Any, **named: Any) -> Any:
            since = time.perf_counter()
            found = super().fit_predict_proba(*arguments, **named)
            TimedMajorityVote.seconds += time.perf_counter() - since
            return found

    dawid_skene_module.MajorityVote = TimedMajorityVote
    return TimedMajorityVote


TASKS = {"fit": fit}
