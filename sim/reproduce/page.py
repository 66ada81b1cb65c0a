"""docs/results.md: the rows as tables, every figure with the command that rebuilds it."""

from collections import Counter
from collections.abc import Sequence

from sim.reproduce.experiment import Experiment
from sim.reproduce.rows import OWO_FMTL, QUICK, ROUTED_MTL, Row

_ARXIV = {OWO_FMTL: "2603.08717", ROUTED_MTL: "2502.10027"}
_VERDICTS = """- **reproduced**, **partly**, **not reproduced**: against what the paper says, or against an independent
  prototype where the paper prints no number ("prototype" in the column). The tolerance is in the last column;
  partly is up to twice as far, and for a range from half its low end to twice its high end.
- **met**, **not met**: a goal of our own, for what is in neither paper.
- **measured**: neither says a number. **no answer**: the rule could not solve for its weights.
- `ours` is the mean over seeds, `spread` their standard deviation."""


def results_page(rows: Sequence[Row], experiments: Sequence[Experiment]) -> str:
    """Markdown; pictures are below `images/`. Experiments without rows are left out."""
    parts = ["# Results", _intro(rows), _VERDICTS]
    for experiment in experiments:
        own = [row for row in rows if row.figure in experiment.figures]
        if own:
            parts += _section(experiment, own)
    return "\n\n".join(parts) + "\n"


def _intro(rows: Sequence[Row]) -> str:
    if any(row.verdict == QUICK for row in rows):
        return "**A quick run: small sizes, few seeds, not comparable with the paper.** Written by `equiran reproduce`."
    counts = Counter(row.verdict for row in rows)
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())
    return (
        "Written by `equiran reproduce` from its `table.csv` (`tests/reproduction/expected.csv`); "
        f"do not edit by hand. {_papers(rows)} {len(rows)} rows: {told}."
    )


def _papers(rows: Sequence[Row]) -> str:
    named = [f"{paper}, arXiv {number}" for paper, number in _ARXIV.items() if paper in {row.paper for row in rows}]
    return f"The paper is {named[0]}." if len(named) == 1 else f"The papers are {' and '.join(named)}."


def _section(experiment: Experiment, rows: Sequence[Row]) -> list[str]:
    seeds = max(row.seeds for row in rows)
    quick = " --quick" if any(row.verdict == QUICK for row in rows) else ""
    command = f"```sh\n.venv/bin/equiran reproduce {experiment.name} --seeds {seeds}{quick}\n```"
    parts = [f"## {experiment.title}", experiment.text]
    for key in experiment.pictures:
        parts += [f"![{key}](images/{key}.png)", command]
    return [*parts, table(rows)]


def table(rows: Sequence[Row]) -> str:
    """Rows as a Markdown table."""
    head = "| Figure | Scenario | Metric | Reported | Ours | Spread | Seeds | Verdict | Why |\n|" + "---|" * 9
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in _cells(row)) + " |" for row in rows]
    return "\n".join([head, *lines])


def _cells(row: Row) -> tuple[str, ...]:
    ours, spread = (_number(value) for value in (row.ours, row.spread))
    return (row.figure, row.scenario, row.metric, row.reported, ours, spread, str(row.seeds), row.verdict, row.why)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
