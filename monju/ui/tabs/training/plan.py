"""The plan that follows the form by itself: what would be trained, and how long it would take here."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from monju.config import Config
from monju.errors import MonjuError
from monju.training.estimate import Estimation
from monju.training.job_manager import JobManager
from monju.ui.components import progress
from monju.ui.i18n import translator
from monju.ui.tabs.training.source import placed

PAUSE = 0.7  # seconds without a change before it is measured
KEPT = 64  # plans and speeds that are remembered
SIZES = (300, 1000, 3000)  # sentences to choose from, beside all


class AutoPlan:
    """Plans, each for one page at a time: whoever changes the form again ends what is being measured.

    `speeds` are {settings without the sample: (fixed, each)} of `measure`, in seconds.
    """

    def __init__(self, jobs: JobManager) -> None:
        self.jobs = jobs
        self.plans: dict[str, dict] = {}
        self.speeds: dict[str, tuple[float, float]] = {}
        # by the page's session: of which settings, and what measures them once it has begun
        self._running: dict[str, tuple[str, Estimation | None]] = {}
        self._lock = threading.Lock()

    def leave(self, session: str, config: Config | None = None) -> None:
        """End what is measured for a page, unless it is of these settings."""
        with self._lock:
            measured, estimation = self._running.get(session, ("", None))
            if config is not None and measured == key(config, True):
                return
            self._running.pop(session, None)
            if estimation:
                estimation.end()

    def follow(self, request: gr.Request, settings: dict[str, Any] | None) -> Iterator[Any]:
        """Yield the panel's values for settings, as more becomes known."""
        t, session = translator.asked(request), request.session_hash or ""
        if settings is None:
            return
        config = Config.from_json(settings)
        if (plan := self.plans.get(key(config, True))) is not None:
            yield progress.plan(plan, t)
            return
        if self.jobs.running():
            yield progress.unmeasured(config, self.seconds(config), t)
            return
        yield progress.planning(config, self.seconds(config), t)
        mine = key(config, True), None
        self.leave(session)
        self._running[session] = mine
        time.sleep(PAUSE)
        with self._lock:
            if self._running.get(session) != mine:  # changed again, or started
                return
            estimation = Estimation(placed(config, self.jobs.folder))
            self._running[session] = mine[0], estimation
        try:
            plan = {}
            for part in estimation:
                plan |= part
                if "seconds" in plan:
                    remember(self.plans, key(config, True), plan)
                    remember(self.speeds, key(config), (plan["fixed"], plan["each"]))
                yield progress.plan(plan, t)
        except MonjuError as error:
            if self._is_current(session, estimation):
                yield progress.trouble(error, t)
            elif self.jobs.running():  # it was started meanwhile
                yield progress.unmeasured(config, self.seconds(config), t)
        finally:
            estimation.end()
            with self._lock:
                if self._running.get(session, ("", None))[1] is estimation:
                    del self._running[session]

    def _is_current(self, session: str, estimation: Estimation) -> bool:
        with self._lock:
            return self._running.get(session, ("", None))[1] is estimation

    def seconds(self, config: Config) -> Callable[[int], float] | None:
        """Return how long a number of sentences would take with these settings; None where not measured."""
        speed = self.speeds.get(key(config))
        return None if speed is None else lambda n: speed[0] + speed[1] * n

    def sizes(self, config: Config, total: int | None, t: translator.Translator) -> dict[str, Any]:
        """Return the choices of sizes, each with the time it takes as far as that is known, and the value."""
        seconds = self.seconds(config)
        counts = sorted({n for n in (*SIZES, config.sample) if n and not (total and n >= total)})
        value = 0 if config.sample is None or total and config.sample >= total else config.sample

        def named(n: int) -> str:
            name = f"{n:,}" if n else t("t_all", n=f"{total:,}") if total else t("t_all_unknown")
            n = n or total or 0
            return f"{name} · {progress.about(seconds(n), t)}" if seconds and n else str(name)

        return gr.update(choices=[(named(n), n) for n in (*counts, 0)], value=value)


def key(config: Config, sample: bool = False) -> str:
    """Return a name of the settings, with their sample or without."""
    values = config.to_json()
    return repr(values if sample else {name: value for name, value in values.items() if name != "sample"})


def remember(kept: dict[str, Any], name: str, value: Any) -> None:
    """Keep a value, and the last KEPT in all."""
    kept.pop(name, None)
    kept[name] = value
    while len(kept) > KEPT:
        kept.pop(next(iter(kept)))
