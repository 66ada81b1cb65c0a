"""Bad input that the scenario tree alone can see: one clear line each, at the exact line, all at once."""

from pathlib import Path

import pytest

from sim.scenario import ScenarioErrors, load

GOOD = """\
schema: 1
name: tiny
seed: 7
transport: memory
rounds: 4
slots: 9
users:
  - name: clean
    task: {kind: rainbow, digits: bundled}
    head:
      kind: linear
      step: 1e-1
  - name: attacked
    task:
      kind: rainbow
      digits: bundled
      batch: 5
    adversary: {kind: ping_pong, labels: nine_minus, block: sqrt, hostile: odd}
    front: none
    head: {kind: linear}
edge:
  encoder: {kind: lenet, width: 50}
  aggregator:
    kind: owo_fmtl
    alpha: 1.0
    u_min: 1.0
    u_max: 3.3
  primal: {step: 0.1, domain: none}
  meta: {rule: running_mean}
compare:
  - {name: equal, edge.aggregator: {kind: constant, weights: equal}}
"""
RAINBOW = "{kind: rainbow, digits: bundled}"


def errors(folder: Path, text: str, *sets: str) -> list[str]:
    file = folder / "s.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ScenarioErrors) as caught:
        load(file, sets)
    return [error.replace(str(file), "s.yaml") for error in caught.value.errors]


def line_of(text: str, mark: str) -> int:
    return text[: text.index(mark)].count("\n") + 1


# what is replaced, by what (`@` marks the line the error must name), the rest of the error
ROWS = [
    ("schema: 1", "@schema: 2", "schema: expected 1, got 2"),
    ("name: tiny", "@name: a/b", "name: must be letters"),
    ("seed: 7", "@seed: true", "seed: expected a whole number, got true"),
    ("seed: 7", "@seed: -1", "seed: must be at least 0, got -1"),
    ("seed: 7", "seed: 7\n@sede: 7", 'sede: unknown key; did you mean "seed"?'),
    ("seed: 7", "seed: 7\n@seed: 8", "seed: duplicate key; first given in line 3"),
    (
        "transport: memory",
        "@transport: grcp",
        "transport: expected memory | grpc | ray, got 'grcp'; did you mean \"grpc\"?",
    ),
    ("rounds: 4", "@rounds: 0", "rounds: must be at least 1, got 0"),
    ("rounds: 4", "@rounds: '4'", "rounds: expected a whole number, got '4'"),
    ("rounds: 4", "@rounds: 1_000", "rounds: expected a whole number, got '1_000'"),
    ("rounds: 4", "@rounds: 4.0", "rounds: expected a whole number, got 4.0"),
    ("slots: 9", "@slots: 0", "slots: must be at least 1, got 0"),
    ("slots: 9", "@slots: [9]", "slots: expected a whole number, got a list"),
    ("slots: 9", "slots: 9\nthreads: {@edge: 0}", "threads.edge: must be at least 1, got 0"),
    ("slots: 9", "slots: 9\n@hosts: all", "hosts: expected auto | per_user | a whole number, got 'all'"),
    ("slots: 9", "slots: 9\nradio: {@kind: raleigh}", "radio.kind: unknown kind 'raleigh'; did you mean \"rayleigh\"?"),
    ("slots: 9", "slots: 9\nradio: {kind: rayleigh, @p_total: 1}", 'radio.p_total: unknown key; did you mean "p_tot"?'),
    ("slots: 9", "slots: 9\nradio: {kind: rician, @k_factor: -1}", "radio.k_factor: must be at least 0, got -1"),
    (
        "slots: 9",
        "slots: 9\nradio: {kind: jakes, doppler: .1, bits: {@outputs: 0}}",
        "radio.bits.outputs: must be at least 1, got 0",
    ),
    (
        "slots: 9",
        "slots: 9\nradio: {kind: rayleigh, @power: sum_capacity}",
        "radio.power: sum_capacity gives some users no power, and they would be waited for without end",
    ),
    (
        "slots: 9",
        "slots: 9\ndeadline: 1\nradio: {kind: rayleigh, @compute: measured}",
        "radio.compute: measured times differ from run to run, and with a deadline so would the numbers",
    ),
    (
        "slots: 9",
        "slots: 9\nradio: {kind: rayleigh, @ring: {nearest_m: 9, farthest_m: 3}}",
        "radio.ring: nearest_m (9) must be below farthest_m (3)",
    ),
    ("slots: 9", "slots: 9\ndeadline: 1\n@on_user_failure: wait", "on_user_failure: wait needs a radio, whose clock"),
    ("slots: 9", "slots: 9\n@min_users: 0", "min_users: must be at least 1, got 0"),
    ("slots: 9", "slots: 9\n@min_users: 3", "min_users: 3, but this scenario has 2 users"),
    ("slots: 9", "slots: 9\nsecurity: {@kind: tls}", "security.kind: unknown kind 'tls'"),
    ("slots: 9", "slots: 9\nsecurity: {kind: token, @file: no/such}", "security.file: "),
    (
        "slots: 9",
        "slots: 9\nsecurity: {kind: token, @env: NO_SUCH}",
        "security.env: environment variable NO_SUCH is not set",
    ),
    ("slots: 9", "slots: 9\nsecurity: {kind: token, @env: a b}", "security.env: must be the name of an environment"),
    ("slots: 9", "slots: 9\n@on_user_failure: stale", "on_user_failure: stale is for users who miss a deadline"),
    ("slots: 9", "slots: 9\n@patience: 0", "patience: must be above 0, got 0"),
    ("slots: 9", "slots: 9\nrecord: {@slot: true}", 'record.slot: unknown key; did you mean "slots"?'),
    ("slots: 9", "slots: 9\nrecord: {@slots: no}", "record.slots: expected true or false, got 'no'"),
    ("step: 1e-1", "@step: -1e-1", "users.0.head.step: must be above 0, got -0.1"),
    ("step: 1e-1", "@step: 1e999", "users.0.head.step: must be finite, got inf"),
    ("step: 1e-1", "@stpe: 1e-1", 'users.0.head.stpe: unknown key; did you mean "step"?'),
    ("- name: attacked", "- @name: clean", "users.1.name: 'clean' is already the name of users.0"),
    ("batch: 5", "@batch: 0", "users.1.task.batch: must be at least 1, got 0"),
    (
        "batch: 5",
        "feedback: {@holdout: 0}",
        "users.1.task.feedback.holdout: must be at least 1, got 0",
    ),
    (
        "      kind: rainbow\n",
        "      @kind: ranbow\n",
        "users.1.task.kind: unknown kind 'ranbow'; did you mean \"rainbow\"?",
    ),
    (
        "    task:\n      kind: rainbow\n",
        "    @task:\n",
        "users.1.task.kind: is missing; one of kernel_regression | rainbow",
    ),
    (
        "      digits: bundled\n",
        "      @digits: minst\n",
        "users.1.task.digits: expected mnist | bundled, got 'minst'; did you mean",
    ),
    ("block: sqrt", "@block: 10", "users.1.adversary.block: a block of 10 is longer than the round, 9 slots"),
    ("block: sqrt", "@block: 0", "users.1.adversary.block: must be at least 1, got 0"),
    (
        "labels: nine_minus",
        "@labels: sign",
        "users.1.adversary.labels: sign flips real labels, and this task has classes",
    ),
    (
        "front: none",
        "@front: 3",
        "users.1.front: expected none | {kind: conv_pool, ..} | {kind: mlp, ..} | {kind: package.module:Class, ..}",
    ),
    (
        "kind: lenet",
        "@kind: transformer",
        "edge.encoder.kind: unknown kind 'transformer'; one of linear | mlp | lenet | package.module:Class",
    ),
    ("alpha: 1.0", "@alhpa: 1.0", 'edge.aggregator.alhpa: unknown key; did you mean "alpha"?'),
    (
        "alpha: 1.0",
        "@alpha: -0.5",
        "edge.aggregator.alpha: must be at least 0, got -0.5: a negative alpha would reward",
    ),
    (
        "alpha: 1.0",
        "@alpha: 10.5",
        "edge.aggregator.alpha: must be at most 10, got 10.5: beyond 10 it is max-min in all but name",
    ),
    ("alpha: 1.0", "@alpha: .nan", "edge.aggregator.alpha: must be finite, got nan"),
    ("alpha: 1.0", "@alpha: '1.0'", "edge.aggregator.alpha: expected a number, got '1.0'"),
    (
        "  aggregator:\n    kind: owo_fmtl\n    alpha: 1.0\n    u_min: 1.0",
        "  @aggregator:\n    kind: owo_fmtl\n    u_min: 3.3",
        "edge.aggregator: u_min (3.3) must be below u_max (3.3)",
    ),
    ("    u_max: 3.3\n", "", "edge.aggregator.u_max: is missing"),
    ("    u_max: 3.3\n", "    @u_mx: 3.3\n", 'edge.aggregator.u_mx: unknown key; did you mean "u_max"?'),
    ("u_min: 1.0", "@u_min: 0", "edge.aggregator.u_min: must be above 0, got 0"),
    (
        "kind: owo_fmtl",
        "kind: constant\n    @weights: [1.0]",
        "edge.aggregator.weights: 1 weights for 2 users; give one per user",
    ),
    ("kind: owo_fmtl", "kind: constant\n    @weights: [1.0, -1]", "edge.aggregator.weights.1: must be above 0, got -1"),
    ("step: 0.1, domain", "@step: 0, domain", "edge.primal.step: must be above 0, got 0"),
    ("step: 0.1, domain", "@step: guess, domain", "edge.primal.step: guess needs to know D: give edge.primal.domain"),
    (
        "step: 0.1, domain",
        "step: 0.1, @gradient: worst_case, domain",
        "edge.primal.gradient: worst_case is for step: theory and step: guess",
    ),
    (
        "step: 0.1, domain: none",
        "step: guess, @limit: inverse_smoothness, domain: {ball: 1}",
        "edge.primal.limit: inverse_smoothness needs a convex problem on a box",
    ),
    (
        "head: {kind: linear}",
        "head: {kind: linear}\n    presence: {@churn: 1}",
        "users.1.presence.churn: must be below 1",
    ),
    ("labels: nine_minus, block", "@factor: 2, labels: nine_minus, block", "users.1.adversary.factor: unknown key"),
    ("domain: none", "domain: {@box: -1}", "edge.primal.domain.box: must be above 0, got -1"),
    ("domain: none", "domain: {@ball: 0}", "edge.primal.domain.ball: must be above 0, got 0"),
    ("domain: none", "@domain: {}", "edge.primal.domain.box: is missing"),
    ("rule: running_mean", "@rule: {step: 1.5}", "edge.meta.rule.step: must be at most 1, got 1.5"),
    (
        "rule: running_mean",
        "@target: oracle",
        "edge.meta.target: oracle needs a convex problem on a box: give edge.primal.domain",
    ),
    (
        "rule: running_mean",
        "@target: oracle",
        "edge.meta.target: oracle needs a convex problem on a box: users.1.task must have the squared loss",
    ),
    (
        "  meta: {rule: running_mean}",
        "  @server_tasks: [{kind: routed_mtl}, {kind: routed_mtl}]",
        "edge.server_tasks.1: a run trains at most one; give it its own scenario",
    ),
    ("edge:\n", "edge: {}\n@old:\n", "old: unknown key; known here: schema, name"),
    ("name: equal,", "@name: checkpoints,", "compare.0.name: 'checkpoints' is a folder that the run itself writes"),
    ("name: equal,", "@name: ../x,", "compare.0.name: must be letters"),
    ("weights: equal", "@weights: [1, 2, 3]", "compare.equal.edge.aggregator.weights: 3 weights for 2 users"),
    (
        "edge.aggregator: {kind: constant",
        "@edge.agregator: {kind: constant",
        'compare.equal.edge.agregator: unknown key; did you mean "aggregator"?',
    ),
    (
        "edge.aggregator: {kind: constant, weights: equal}",
        "@slots: 0",
        "compare.equal.slots: must be at least 1, got 0",
    ),
    (
        "edge.aggregator: {kind: constant, weights: equal}",
        "@compare: []",
        "compare.equal.compare: a comparison cannot change this",
    ),
    (
        "edge.aggregator: {kind: constant, weights: equal}",
        "users.@clen.front: none",
        "compare.equal: users has no item 'clen' among its 2; did you mean \"clean\"?",
    ),
]


@pytest.mark.parametrize(("old", "new", "expected"), ROWS, ids=[row[2][:50] for row in ROWS])
def test_a_bad_value_is_one_line_at_its_line(tmp_path: Path, old: str, new: str, expected: str) -> None:
    marked = GOOD.replace(old, new, 1)
    assert marked != GOOD
    line = line_of(marked, "@") if "@" in marked else line_of(marked, "  aggregator:")
    found = errors(tmp_path, marked.replace("@", ""))
    assert [e for e in found if e.startswith(f"s.yaml:{line}: {expected}")], found


@pytest.mark.parametrize(
    ("users", "expected"),
    [
        ("[]", "users: must hold at least one user"),
        ("{count: 0, template: {}}", "users.count: must be at least 1, got 0"),
        (
            f"{{count: 1000000000, template: {{task: {RAINBOW}, head: {{kind: linear}}}}}}",
            "users.count: must be at most 100000, got 1000000000: more users than one machine can hold",
        ),
        ("{count: 3, template: {task: {kind: rainbow, digits: x}}}", "users.template.head: is missing"),
        (
            "{count: 3, template: {task: {kind: rainbow, digits: x}}}",
            "users.template.task.digits: expected mnist | bundled",
        ),
        ("three", "users: expected a list | {count: .., template: ..}, got 'three'"),
        (
            "[{task: {kind: arrays, path: no.npz, loss: squared}, name: a, head: {kind: identity}}]",
            "users.0.task.path: no such file",
        ),
        (
            "[{task: {kind: arrays, path: no.csv, loss: squared}, name: a, head: {kind: identity}}]",
            "users.0.task.path: ",
        ),
        (
            "[{task: {kind: arrays, path: $HOME/no.npz, loss: squared}, name: a, head: {kind: identity}}]",
            "users.0.task.path: no such file",
        ),
        (
            "[{task: {kind: arrays, path: !include other.yaml, loss: squared}, name: a, head: {kind: identity}}]",
            "tag !include is not allowed",
        ),
    ],
)
def test_bad_users(tmp_path: Path, users: str, expected: str) -> None:
    start, end = GOOD.index("users:"), GOOD.index("edge:")
    found = errors(tmp_path, f"{GOOD[:start]}users: {users}\n{GOOD[end:]}")
    assert [e for e in found if e.startswith(f"s.yaml:7: {expected}")], found


def test_all_errors_come_at_once_in_file_order(tmp_path: Path) -> None:
    text = GOOD.replace("rounds: 4", "rounds: 0").replace("alpha: 1.0", "alhpa: 1").replace("width: 50", "widht: 50")
    found = errors(tmp_path, text.replace("name: attacked", "name: clean") + "slots: 3\n")
    assert [int(error.split(":")[1]) for error in found] == [5, 13, 22, 25, 32]


def test_an_error_of_the_base_is_not_repeated_by_its_comparisons(tmp_path: Path) -> None:
    assert len(errors(tmp_path, GOOD.replace("rounds: 4", "rounds: 0"))) == 1


def test_what_is_wrong_below_a_misspelt_key_is_told_too_and_nothing_that_follows_from_it(tmp_path: Path) -> None:
    text = (
        GOOD.replace("  aggregator:\n", "  agregator:\n")
        .replace("    u_min:", "    umin:")
        .replace("- name: clean", "- nam: clean")
    )
    text += "  - {name: scaled, edge.aggregator.scale: mean}\n"
    assert errors(tmp_path, text) == [
        's.yaml:8: users.0.nam: unknown key; did you mean "name"?',
        's.yaml:23: edge.agregator: unknown key; did you mean "aggregator"?',
        's.yaml:26: edge.aggregator.umin: unknown key; did you mean "u_min"?',
    ]


def test_duplicate_comparison_names(tmp_path: Path) -> None:
    found = errors(tmp_path, GOOD + "  - {name: Equal, slots: 4}\n")
    assert found == ["s.yaml:32: compare.1.name: 'Equal' is already the name of a comparison"]


def test_what_a_comparison_breaks_elsewhere_is_placed_in_its_entry(tmp_path: Path) -> None:
    text = GOOD.replace("block: sqrt", "block: 9") + "  - name: short\n    slots: 4\n"
    assert errors(tmp_path, text) == [
        "s.yaml:32: compare.short.users.1.adversary.block: a block of 9 is longer than the round, 4 slots"
    ]


def test_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ScenarioErrors) as caught:
        load(tmp_path / "none.yaml")
    assert caught.value.errors == [f"{tmp_path / 'none.yaml'}: cannot be read: No such file or directory"]
