"""How far people agree: chance-corrected coefficients with intervals; by item, class, worker and pair of workers."""

from __future__ import annotations

from voxpop.consolidation.agreement.coefficients import (
    COEFFICIENTS,
    LEVELS,
    AgreementError,
    Coefficient,
    Level,
    agreement,
)
from voxpop.consolidation.agreement.details import (
    WorkerPairs,
    class_alpha,
    cohen_kappa,
    item_agreement,
    worker_agreement,
    worker_pairs,
)

__all__ = [
    "COEFFICIENTS",
    "LEVELS",
    "AgreementError",
    "Coefficient",
    "Level",
    "WorkerPairs",
    "agreement",
    "class_alpha",
    "cohen_kappa",
    "item_agreement",
    "worker_agreement",
    "worker_pairs",
]
