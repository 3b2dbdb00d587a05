"""Final step of a search: choice of an ensemble, and its comparison with baseline models."""

from __future__ import annotations

import logging
import threading
import time

import msgspec
import numpy as np

from cerebros_spark.core.errors import StoreError
from nas.ensemble.baselines import CONSTANT, describe_rank, predict_baselines
from nas.ensemble.ensemble import Ensemble
from nas.ensemble.rows import FoldRows
from nas.ensemble.scores import make_score
from nas.ensemble.usual_metrics import compute_usual_metrics, format_metrics
from nas.results.ensemble_choice import EnsembleRequest, choose_ensemble
from nas.search.context import SearchContext
from nas.search.time_limit import DEADLINE
from nas.trial.record import TrialRecord

logger = logging.getLogger(__name__)

# Seconds to wait for the baselines if the search has no time limit.
_MOST_SECONDS = 60.0


class Conclusion:
    """Choice of a search's ensemble, and computation of baseline models to compare it with.

    The baseline models are fitted in a background thread during training.
    """

    def __init__(self, context: SearchContext) -> None:
        self._context = context
        data = context.data
        self._rows = FoldRows(context.job.store, data.manifest, data.layout, context.config.folds)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._predictions: dict[str, list[np.ndarray]] = {}

    @property
    def _is_wanted(self) -> bool:
        return self._context.config.ensemble_size not in (None, 1)

    @property
    def _classes(self) -> int | None:
        """Number of classes of the only output, 0 for regression, or None if unsupported."""
        data = self._context.data
        # Neither simple models nor the usual metrics use weights.
        if len(data.targets) > 1 or data.manifest.weight is not None:
            return None
        (target,) = data.targets
        if target.num_classes is None:
            return 0 if target.width == 1 and target.mean else None
        return target.num_classes if target.label_shape == (1,) else None

    def begin(self) -> None:
        """Start fitting the baseline models in a background thread.

        Do nothing if no ensemble will be chosen, the data are not a raw table, or the outputs are
        unsupported.
        """
        data, rows = self._context.data, self._rows
        table, classes = data.manifest.table, self._classes
        if not self._is_wanted or table is None or classes is None:
            return
        fronts = [table.select(group).matrix for group in data.layout.inputs]

        def predict() -> None:
            for name, parts in predict_baselines(rows, fronts, classes or None, self._stop):
                self._predictions[name] = parts

        # A daemon, so that it does not keep an interrupted process alive.
        self._thread = threading.Thread(target=predict, name="cerebros-baselines", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Signal the baseline thread to stop before it fits its next model."""
        self._stop.set()

    def finish(self) -> Ensemble | None:
        """Choose the ensemble, record it in the journal, and return it.

        Returns:
            The ensemble; None if the search is configured without one, no trial has a score, or the
            choice fails with an error, which is logged.

        Raises:
            StoreError: If the store fails.
        """
        if not self._is_wanted:
            return None
        try:
            return self._choose()
        except StoreError:
            raise
        except Exception:
            logger.exception("cannot choose an ensemble: the best network predicts alone")
            return None

    def _choose(self) -> Ensemble | None:
        config, data = self._context.config, self._context.data
        records = self._context.session.table.records
        request = EnsembleRequest(
            rows=self._rows,
            objective=config.tuner.objective,
            size=config.ensemble_size or 1,
            is_regression=tuple(target.mean != () for target in data.targets),
            classes=self._classes,
            custom_objects=config.custom_objects,
            deadline=self._deadline,
        )
        ensemble = choose_ensemble(request, records)
        if ensemble is None:
            return None
        baselines, metrics = self._score_baselines(ensemble, records)
        ensemble = msgspec.structs.replace(
            ensemble, baselines=baselines, metrics={**ensemble.metrics, **metrics}
        )
        self._log(ensemble)
        self._context.journal.append("ensemble", **msgspec.to_builtins(ensemble))
        return ensemble

    @property
    def _deadline(self) -> float | None:
        config = self._context.config
        if config.max_seconds is None:
            return None
        return config.began + DEADLINE * config.max_seconds

    def _score_baselines(
        self, ensemble: Ensemble, records: tuple[TrialRecord, ...]
    ) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
        if self._thread is None:
            return {}, {}
        left = _MOST_SECONDS
        if self._deadline is not None:
            left = max(0.0, self._deadline - time.monotonic())
        self._thread.join(left)
        if self._thread.is_alive():
            logger.info("some simple models are not scored, because they take too long")
        predictions = {
            name: np.concatenate(parts[: ensemble.folds])
            for name, parts in self._predictions.items()
        }
        context = self._context
        labels = self._rows.get_labels(ensemble.folds)
        objective = context.config.tuner.objective
        program = next(record.program for record in records if record.program)
        score = make_score(program, labels, objective, context.config.custom_objects)
        sign = 1.0 if objective.direction == "min" else -1.0
        classes = self._classes or None
        metrics = {
            name: compute_usual_metrics(labels[0], values, classes)
            for name, values in predictions.items()
        }
        # Constants differ by fold, which is no order of the rows.
        metrics.get(CONSTANT, {}).pop("auc", None)
        return {name: sign * score([values]) for name, values in predictions.items()}, metrics

    def _log(self, ensemble: Ensemble) -> None:
        objective = self._context.config.tuner.objective
        simple = "".join(f", {name} {score:.6g}" for name, score in ensemble.baselines.items())
        logger.info(
            "%s on %d held-out rows: ensemble of %d %.6g, best configuration %.6g%s",
            objective.name,
            ensemble.rows,
            len(ensemble.members),
            ensemble.score,
            ensemble.best_score,
            simple,
        )
        sign = 1.0 if objective.direction == "min" else -1.0
        if ensemble.metrics:
            logger.info("ensemble: %s", format_metrics(ensemble.metrics["ensemble"]))
        words = describe_rank(ensemble.baselines, ensemble.score, sign)
        if words is not None:
            logger.warning(words)
