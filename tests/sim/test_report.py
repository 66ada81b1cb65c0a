"""The report says what the records say, in one file that needs nothing else."""

import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from report_page import Page
from report_runs import write_run

import runs
from sim.report import build as report
from sim.report.page import compose
from sim.report.words import number, size


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """A run with one compared run: folder, columns of both, what `build` returned, the parsed page."""
    folder = tmp_path_factory.mktemp("runs") / "quick"
    clip = {"event": "clip", "round": 1, "slot": 2, "norm": 12.5}
    refused = {"event": "rejected", "round": 2, "slot": 0, "user": "attacked", "field": "gradient"}
    base = write_run(folder, name="quick", compare=("equal",), regret=True, events=(clip,) * 30 + (refused,))
    rule = {"kind": "constant", "alpha": 1.0, "u_min": 1.0, "u_max": 3.3}
    equal = write_run(folder / "equal", name="equal", gain=0.2, aggregator=rule)
    paths = report.build([folder])
    return folder, (base, equal), paths, Page(paths.html.read_text())


def test_the_summary_is_recomputed_from_the_records(compared):
    _, runs, _, page = compared
    for column, ((rounds, slots), names) in enumerate((run, np.array(run[0]["user"])) for run in runs):
        utility = {user: np.mean(rounds["mean_utility"][names == user]) for user in ("clean", "attacked")}
        u = np.array(list(utility.values()))
        up = {user: slots["bytes_up"][np.array(slots["user"]) == user].sum() for user in utility}
        expected = {
            "mean fairness": number(np.mean(rounds["fairness"])),
            "mean validation fairness": number(np.mean(rounds["val_fairness"])),
            "mean utility per user": number(u.mean()),
            "worst user's utility": number(u.min()),
            "worst user": min(utility, key=lambda user: utility[user]),
            "Jain's index": number(u.sum() ** 2 / (2 * (u**2).sum())),
            "mean sum of weights": number(np.mean(rounds["sum_w"])),
            "bytes up per user": size(up["clean"])
            if size(up["clean"]) == size(up["attacked"])
            else f"{size(up['clean'])} to {size(up['attacked'])}",
            "wall time": "12.5 s",
            "slots per second": "416.6",
            "digest": "ab12ab12ab12",
        }
        assert {name: page.row(name)[column] for name in expected} == expected


def test_the_table_of_users_is_recomputed_from_the_records(compared):
    _, ((rounds, slots), _), _, page = compared
    mine = np.array(rounds["user"]) == "attacked"
    cells = next(cells for cells in page.rows if cells[:2] == ["attacked", "quick"])
    expected = [number(np.mean(rounds[name][mine])) for name in ("mean_utility", "mean_loss", "w_mean")]
    assert cells[2:5] == expected
    assert cells[5] == number(rounds["val_loss"][mine][-1])
    assert cells[-3:] == ["24", "0", str(int(slots["out_of_range"][np.array(slots["user"]) == "attacked"].sum()))]


def test_a_compared_run_is_found_and_named_by_its_folder(compared):
    folder, _, paths, _ = compared
    assert [row.run for row in paths.table] == ["quick", "equal"]
    assert [row.dir for row in paths.table] == [str(folder), str(folder / "equal")]
    assert {path.name for path in paths.pngs} >= {"fairness.png", "losses.png", "weights.png", "regret.png"}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths.pngs)
    assert all(path.parent == folder for path in (*paths.pngs, paths.html))


def test_the_page_needs_nothing_but_itself(compared):
    _, _, paths, page = compared
    text = paths.html.read_text()
    outside = re.sub(r'xmlns(:\w+)?="[^"]*"', "", text)
    assert "http:" not in outside
    assert "https:" not in outside
    assert not re.search(r"<(script|link|img|iframe|object)\b|@import|url\((?!#)", text)
    assert all(link.startswith("#") and link[1:] in page.ids for link in page.links)
    assert len(page.ids) == len(set(page.ids))


def test_the_page_is_for_every_reader(compared):
    _, _, paths, _ = compared
    text = paths.html.read_text()
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text
    assert text.count("<svg ") == text.count('role="img" aria-label="')
    assert text.count("<figure>") == text.count("<figcaption>") > 5
    assert "stroke: var(--run0)" in text
    assert not re.search(r"(?:fill|stroke): #(?!ffffff)[0-9a-f]{6}", text)


def test_events_are_counted_and_the_last_twenty_shown(compared):
    _, _, paths, page = compared
    text = paths.html.read_text()
    assert "30 × clip, 1 × rejected" in text  # noqa: RUF001
    assert "Last 20 of 31 events" in text
    assert sum(cells[:1] == ["clip"] for cells in page.rows) == 19
    assert "field gradient" in page.row("rejected")[0]
    assert "48 applied" in text


def test_equal_records_give_equal_pages(compared):
    folder, _, paths, _ = compared
    first = [paths.html.read_bytes(), *(path.read_bytes() for path in paths.pngs)]
    again = report.build([folder])
    assert [again.html.read_bytes(), *(path.read_bytes() for path in again.pngs)] == first


def test_the_command_and_the_versions_are_shown(compared):
    folder, _, paths, _ = compared
    text = paths.html.read_text()
    assert f"equiran run {folder}/scenario.yaml --transport memory" in text
    assert "torch 2.13.0" in text
    assert "ab12" * 16 in text


def test_table_gives_plain_json(compared):
    folder, ((rounds, _), _), _, _ = compared
    rows = json.loads(json.dumps(report.table([folder]), allow_nan=False))
    assert rows[0]["fairness"] == pytest.approx(np.mean(rounds["fairness"]))
    assert rows[0]["regret"] == pytest.approx(np.mean(rounds["regret"]))
    assert rows[1]["regret"] is None
    assert rows[0]["bytes"]["clean"] == {"up": 24 * 144_200, "down": 24 * 5_300}


def test_a_run_given_twice_is_drawn_once(compared):
    folder, *_ = compared
    assert [row["run"] for row in report.table([folder, folder / "equal"])] == ["quick", "equal"]


def test_runs_of_unlike_measures_are_not_ranked_by_fairness(tmp_path):
    """And what differs between them is named, in the sentence and below the title."""
    other = {"kind": "owo_fmtl", "alpha": 2.0, "u_min": 1.0, "u_max": 3.3}
    write_run(tmp_path / "one", name="one")
    write_run(tmp_path / "two", name="two", gain=0.2, aggregator=other)
    page = Page(report.build([tmp_path / "one", tmp_path / "two"]).html.read_text())
    said = " ".join(page.words)
    assert "Fairness is not one measure here, as alpha, u_min, u_max or the users differ: it is not ranked." in said
    assert "Highest mean fairness" not in said
    assert "Highest utility of the worst user" in said


def test_findings_name_the_leader_and_warn_of_unequal_steps(compared):
    _, runs, paths, page = compared
    fairness = [np.mean(rounds["fairness"]) for rounds, _ in runs]
    leader, other = ("quick", "equal") if fairness[0] > fairness[1] else ("equal", "quick")
    said = f"Highest mean fairness: {leader} with {number(max(fairness))}, then {other} with {number(min(fairness))}."
    assert said in page.words
    sums = [np.mean(rounds["sum_w"]) for rounds, _ in runs]
    assert any("sums of weights differ" in words for words in page.words) == (max(sums) > 1.02 * min(sums))
    assert "one run of one seed" in paths.html.read_text()


def test_runs_that_differ_in_more_than_the_method_say_so(tmp_path):
    write_run(tmp_path / "one", name="one", seed=1)
    write_run(tmp_path / "two", name="two", seed=2, gain=0.2)
    assert "The runs differ in seed: compare them with care." in compose([tmp_path / "one", tmp_path / "two"]).html


def test_runs_of_other_lengths_and_unfinished_ones_are_shown_and_not_ranked(tmp_path):
    for name, gain, rounds in (("one", 1.0, 3), ("two", 0.5, 3), ("long", 0.1, 4), ("stopped", 0.1, 3)):
        write_run(tmp_path / name, name=name, gain=gain, rounds=rounds)
    path = tmp_path / "stopped" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"status": "stopped"}))
    made = compose([tmp_path / name for name in ("one", "two", "long", "stopped")])
    said = " ".join(Page(made.html).words)
    assert "The runs differ in rounds: compare them with care." in said
    assert "3 to 4 rounds of" in said
    assert "Bold: the highest of its line among finished runs as long as the first" in said
    for sentence in re.findall(r"Highest [^.]*\d\.\d+[^.]*\.\d+", said):
        assert "long" not in sentence
        assert "stopped" not in sentence
    marked = re.findall(r"<tr><th scope=\"row\">mean utility per user</th>(.*?)</tr>", made.html)[0].split("</td>")
    assert [cell.startswith('<td class="best"') for cell in marked[:4]].index(True) in (0, 1)
    assert {line["verdict"] for line in made.comparison if line["group"] == "long"} == {"another length"}
    assert all(line["difference"] is None for line in made.comparison if line["group"] == "long")


def test_the_use_of_a_gradient_cap_is_counted(tmp_path):
    rounds, _ = write_run(tmp_path / "run", rounds=3)
    rounds["capped"] = pa.array(np.repeat([4, 0, 1], 2), pa.int32())
    pq.write_table(pa.table(rounds), tmp_path / "run" / "rounds.parquet")
    assert report.table([tmp_path / "run"])[0]["capped"] is None
    path = tmp_path / "run" / "scenario.yaml"
    path.write_text(path.read_text().replace("domain: none", "cap: 2.0", 1))
    assert Page(compose([tmp_path / "run"]).html).row("slots with a capped gradient") == ["5"]


def test_the_error_of_a_failed_run_is_shown(tmp_path):
    write_run(tmp_path / "run", rounds=2)
    path = tmp_path / "run" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"status": "failed", "error": "user clean: gone"}))
    page = Page(compose([tmp_path / "run"]).html)
    assert page.row("status") == ["failed"]
    assert page.row("error") == ["user clean: gone"]


def test_two_runs_of_one_name_are_told_apart(tmp_path):
    write_run(tmp_path / "one", name="same")
    write_run(tmp_path / "two", name="same")
    assert [row["run"] for row in report.table([tmp_path / "one", tmp_path / "two"])] == ["one", "two"]


def test_what_is_not_recorded_is_left_out_in_one_line(tmp_path):
    write_run(tmp_path / "run", validation=False)
    page = compose([tmp_path / "run"])
    text = page.html
    assert "Not drawn, because the records do not hold it: validation and regret." in text
    assert {"validation", "regret"}.isdisjoint(chart.key for chart in page.charts)
    assert "mean regret" not in text
    assert "nan" not in text.lower().replace("nanum", "")


def test_without_slots_the_rounds_are_still_drawn(tmp_path):
    write_run(tmp_path / "run")
    (tmp_path / "run" / "slots.parquet").unlink()
    text = compose([tmp_path / "run"]).html
    assert "the course of a round (slots)" in text
    assert ">Losses</h2>" in text


def test_many_users_become_bands_and_extremes(tmp_path):
    users = tuple(f"user{index:02}" for index in range(64))
    rounds, _ = write_run(tmp_path / "run", users=users, rounds=5)
    text = compose([tmp_path / "run"]).html
    page = Page(text)
    utility = rounds["mean_utility"].reshape(5, 64).mean(0)
    ranked = [users[index] for index in np.argsort(utility)]
    shown = [cells for cells in page.rows if len(cells) > 5 and (cells[1] in users or cells[1] == "all users")]
    assert [cells[1] for cells in shown] == [*ranked[:5], *ranked[-5:], "all users"]
    assert shown[-1][2] == number(utility.mean())
    assert shown[-1][-3] == str(64 * 5 * 4)
    assert f"worst {ranked[0]}" in page.words
    assert f"best {ranked[-1]}" in page.words
    assert len(text) < 600_000


def test_a_long_run_makes_a_page_below_three_megabytes(tmp_path):
    write_run(tmp_path / "run", rounds=168, slots=31, compare=("a", "b"))
    write_run(tmp_path / "run" / "a", name="a", rounds=168, slots=31, gain=0.5)
    write_run(tmp_path / "run" / "b", name="b", rounds=168, slots=31, gain=2.0)
    html = compose([tmp_path / "run"]).html
    assert len(html.encode()) < 3_000_000
    assert "centred means over 9 rounds" in html


def test_names_are_text_never_markup(tmp_path):
    write_run(tmp_path / "run", name="<b>$x$", users=("<i>&", "$y$"))
    text = compose([tmp_path / "run"]).html
    assert "<b>" not in text
    assert "<i>" not in text
    assert "$y$" in text


def test_matplotlib_is_left_as_it_was(tmp_path):
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    write_run(tmp_path / "run", rounds=2)
    report.build([tmp_path / "run"])
    assert dict(mpl.rcParams) == before


def test_without_a_directory_there_is_nothing_to_report():
    with pytest.raises(ValueError, match="at least one run directory"):
        report.build([])


def test_a_run_on_the_air_says_so(tmp_path: Path) -> None:
    """Radio, deadline and compression as facts; virtual time and missed slots as measures; none of them without."""
    radio = {"kind": "rayleigh", "loss_db": [0.0, 0.0, 6.0], "user_power": [1.0, 1.0, 0.4]}
    tree = runs.digits(many=3, rounds=2, slots=3, radio=radio, deadline=0.35, compression="float16")
    on_air = runs.run(tmp_path / "air", tree).folder
    plain = runs.run(tmp_path / "plain", runs.digits(many=2)).folder
    page = report.build([on_air]).html.read_text(encoding="utf-8")
    for words in ("virtual time", "slots missed at the deadline", "0.35 s, drop", "rayleigh, ", ">float16<"):
        assert words in page, words
    without = report.build([plain]).html.read_text(encoding="utf-8")
    assert "virtual time" not in without
    assert "slots missed" not in without
