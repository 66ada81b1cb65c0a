"""Tensors in fewer bytes: what is saved, and what it does to fairness, seed by seed beside whole tensors."""

import numpy as np

from sim.report.lines import Line, line_panel
from sim.report.style import Chart, run_colour
from sim.reproduce.drawing import Dot, dots_panel
from sim.reproduce.experiment import Experiment
from sim.reproduce.jobs import Job, Size, seeds
from sim.reproduce.rows import MEASURED, MET, NOT_MET, OURS, Row, row
from sim.reproduce.runs import Floats, Runs

_FILE = "radio/compressed.yaml"
_WHOLE = "whole"
_TOP = "{kind: top_k, share: 0.1}"
_FORGETFUL = "{kind: top_k, share: 0.1, error_feedback: false}"
CODINGS = {
    _WHOLE: "null",
    "float16": "float16",
    "bfloat16": "bfloat16",
    "int8": "int8",
    "top k": f"{{feedback: {_TOP}, acknowledgement: {_TOP}}}",
    "top k, forgetful": f"{{feedback: {_FORGETFUL}, acknowledgement: {_FORGETFUL}}}",
}
TIMES = {"float16": 2.0, "bfloat16": 2.0, "int8": 4.0}
"""How much fewer the bytes of a slot should be; messages have a few bytes beside their tensors."""
_ROOM = 0.02
_SCENARIO = "Rainbow digits, 8 users"


def jobs(size: Size) -> list[Job]:
    """Every coding over every seed."""
    return [job for coding in CODINGS for job in _of(coding, size)]


def _of(coding: str, size: Size) -> list[Job]:
    small = ("rounds=3", "slots=4") if size.quick else ()
    label = coding.replace(",", "").replace(" ", "_")
    return seeds(_FILE, label, (*small, f"compression={CODINGS[coding]}"), size.seeds)


def rows(runs: Runs, size: Size) -> list[Row]:
    """Bytes, fairness beside whole tensors, and virtual seconds."""
    fewer = [coding for coding in CODINGS if coding != _WHOLE]
    fairness = runs.summary(_of(_WHOLE, size), "val_fairness_mean")
    return [
        _measured("validation fairness, mean over rounds, whole", fairness),
        *(_bytes(runs, size, coding) for coding in fewer),
        *(_fairness(runs, size, coding, fairness) for coding in fewer),
        *(_seconds(runs, size, coding) for coding in fewer),
    ]


def _bytes(runs: Runs, size: Size, coding: str) -> Row:
    ratio = _sent(runs, size, _WHOLE) / _sent(runs, size, coding)
    metric = f"bytes of a slot, whole / sent, {coding}"
    if coding not in TIMES:
        return _measured(metric, ratio)
    verdict = MET if abs(ratio / TIMES[coding] - 1).max() <= _ROOM else NOT_MET
    return row("Compression", _SCENARIO, metric, f"goal: {TIMES[coding]:g}", ratio, verdict, "", OURS)


def _sent(runs: Runs, size: Size, coding: str) -> Floats:
    return np.array([runs.bytes_per_slot(job) for job in _of(coding, size)])


def _fairness(runs: Runs, size: Size, coding: str, whole: Floats) -> Row:
    difference = runs.summary(_of(coding, size), "val_fairness_mean") - whole
    signs = f"above whole in {int((difference > 0).sum())} of {len(difference)} seeds"
    return _measured(f"validation fairness beside whole, same seed, {coding}", difference, signs)


def _seconds(runs: Runs, size: Size, coding: str) -> Row:
    whole, fewer = (runs.summary(_of(name, size), "virtual_seconds") for name in (_WHOLE, coding))
    return _measured(f"virtual seconds of a run, whole / sent, {coding}", whole / fewer, f"{fewer.mean():.4g} s")


def _measured(metric: str, ours: Floats, why: str = "") -> Row:
    return row("Compression", _SCENARIO, metric, "-", ours, MEASURED, why, OURS)


def charts(runs: Runs, size: Size) -> list[Chart]:
    """Fairness as dots, and against virtual seconds."""
    dots = [Dot(coding, runs.summary(_of(coding, size), "val_fairness_mean"), coding == _WHOLE) for coding in CODINGS]
    lines = [
        Line(
            coding,
            run_colour(index),
            _mean(runs, size, coding, "virtual_seconds"),
            _mean(runs, size, coding, "val_fairness"),
        )
        for index, coding in enumerate(CODINGS)
    ]
    panels = (
        dots_panel("Validation fairness, mean over rounds", dots, higher_is_better=True),
        line_panel("Fairness against virtual seconds", lines, x_label="virtual s"),
    )
    caption = "Mean and range over seeds; curves are means over seeds. A slot's time on the air falls with its bytes."
    return [Chart("compression", "Tensors in fewer bytes", caption, panels)]


def _mean(runs: Runs, size: Size, coding: str, column: str) -> Floats:
    mean: Floats = np.mean([runs.shared(job, column) for job in _of(coding, size)], axis=0)
    return mean


COMPRESSION = Experiment(
    "compression",
    "Compression: tensors in fewer bytes",
    "The eight users of scenarios/radio/compressed.yaml, with the exact optimum of the mean delay as power. All four "
    "tensors of a slot in 16 or 8 bits, or the gradients of both ways thinned out to the tenth of their values that is "
    "largest. The same seed has the same data, channels and first models, but runs part after a few slots: differences "
    "are paired by seed, and their spread says how much of them is chance. With a tenth of the gradients 40 rounds are "
    "not enough to learn much.",
    ("Compression",),
    ("compression",),
    10,
    jobs,
    rows,
    charts,
)
