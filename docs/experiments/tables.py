"""Tables: docs/study.json's numbers → the tables in docs/study.md, between their marks.

Knows nothing of models or data; `written` gives the same page from the same numbers.
"""

from collections.abc import Callable
from statistics import mean, stdev
from typing import Any

import numpy as np

from monju.evaluation.metrics import holm

Found = dict[str, Any]
MAIN, OUT_OF_FOLD = "inverse-distance p=8", "out of fold"
# experiment → (setting, layout, gate), its control's setting, what was expected
PRIMARY = {
    "E3": (("E3", "k=3 m=2", MAIN), "E3 control", "+2"),
    "E1": (("E1", "k=3 m=1", MAIN), "random subsets", "+0.5 to +2"),
    "E4": (("E4", "k=3 m=1", MAIN), "E4 control", "+4 to +6"),
    "E2": (("E2", "k=3 m=1", MAIN), "E2 control", "+5 to +10"),
    "E6": (("E6 rank 16", "k=3 m=1", MAIN), "permuted", "0 to +1"),
    "E5": (("E5", "k=3 m=1", OUT_OF_FOLD), "E5 control", "+1 to +2"),
}
SEEDS = (0, 1, 2)
RUNGS = ("linear head", "rank 1", "rank 16", "last two layers", "full")
RIVALS = ("random", "equal cost", "baseline", "one head")
FUSIONS = ("logits", "probabilities")


def gate_row(numbers: Found, gate: str, mix: str = "logits") -> Found | None:
    """Return a gate's row of one layout and seed; None where it was not tried."""
    return next((row for row in numbers["gates"] if (row["gate"], row["fusion"]) == (gate, mix)), None)


def seeds_of(found: Found, setting: str, layout: str) -> list[Found]:
    """Return the numbers of a layout, one a seed; none where it was not made."""
    return found["settings"].get(setting, {}).get(layout, [])


def every_layout(found: Found) -> list[tuple[str, str, list[Found]]]:
    """Return (setting, layout, numbers by seed) of all that was made."""
    return [(setting, layout, numbers) for setting, layouts in found["settings"].items()
            for layout, numbers in layouts.items()]


def corrected(found: Found) -> dict[str, dict[int, float]]:
    """Return {experiment: {seed: p}}, Holm over the six within a seed; what was not made counts as p = 1."""
    p_values = {seed: {} for seed in SEEDS}
    for name, ((setting, layout, gate), _, _) in PRIMARY.items():
        by_seed = {numbers["seed"]: gate_row(numbers, gate)["p_value"] for numbers in seeds_of(found, setting, layout)}
        for seed in SEEDS:
            p_values[seed][name] = by_seed.get(seed, 1.0)
    holms = {seed: dict(zip(of, holm(np.array(list(of.values()))))) for seed, of in p_values.items()}
    return {name: {seed: float(holms[seed][name]) for seed in SEEDS} for name in PRIMARY}


# How numbers are written


def place(*names: str) -> str:
    """Return names as the page writes them: "E1, k = 3, m = 1"."""
    return ", ".join(names).replace(" m=", ", m=").replace("=", " = ")


def points(value: float) -> str:
    """Return a difference of accuracies in points, with its sign."""
    return f"{100 * value:+.2f}"


def p_text(p: float) -> str:
    """Return a p-value: two digits, a power of ten where it is small.

    Examples
    --------
    >>> p_text(0.0421), p_text(3.2e-11), p_text(1.0)
    ('.042', '3e-11', '1')
    """
    if p < 1e-99:
        return "<1e-99"
    if p < 1e-3:
        return f"{p:.0e}".replace("e-0", "e-")
    return "1" if p >= 0.995 else f"{p:.2g}".removeprefix("0")


def each(values: list[Any], write: Callable[[Any], str]) -> str:
    """Return one value a seed."""
    return " / ".join(write(value) for value in values)


def spread(values: list[float], sign: bool = False) -> str:
    """Return mean ± standard deviation over seeds, in points or per cent."""
    text = f"{100 * mean(values):{'+.2f' if sign else '.2f'}}"
    return text + (f" ± {100 * stdev(values):.2f}" if len(values) > 1 else "")


def with_interval(of: list[Found], key: str = "interval") -> str:
    """Return the mean accuracy over seeds, and the half width of a seed's 95 % interval, its mean."""
    half = mean((one[key][1] - one[key][0]) / 2 for one in of)
    return f"{100 * mean(one['accuracy'] for one in of):.2f} ± {100 * half:.1f}"


def drawn(head: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)]
    return "\n".join(lines).replace("| ---", "|---").replace("--- |", "---|")


# The tables


def answers(found: Found) -> str:
    """The six primary tests."""
    rows, p_holm = [], corrected(found)
    for name, ((setting, layout, gate), _, expected) in PRIMARY.items():
        made = seeds_of(found, setting, layout)
        if not made:
            rows.append([name, gate.replace("=", " = "), expected, "not made", "", "", "", ""])
            continue
        of = [gate_row(numbers, gate) for numbers in made]
        held = [p_holm[name][numbers["seed"]] for numbers in made]
        sure = len(made) == len(SEEDS) and max(held) < 0.05 and min(row["difference"] for row in of) > 0
        rows.append([name, gate.replace("=", " = "), expected, each([row["difference"] for row in of], points),
                     each(of, lambda row: f"{row['rescued']}:{row['broken']}"),
                     each([row["p_value"] for row in of], p_text), each(held, p_text),
                     "confirmed" if sure else "not confirmed"])
    return drawn(["", "gate", "expected", "gain of seeds 0 / 1 / 2, points", "rescued:broken", "p", "p, Holm", ""], rows)


def controls(found: Found) -> str:
    """Each primary test beside its controls."""
    rows = []
    for name, ((setting, layout, gate), control, _) in PRIMARY.items():
        made = seeds_of(found, setting, layout)
        if not made:
            continue
        own = [gate_row(numbers, gate)["difference"] for numbers in made]
        permuted = [gate_row(numbers, "permuted")["difference"] for numbers in made]
        random = [numbers["random_gate"]["logits"] for numbers in made if "random_gate" in numbers]
        of = [gate_row(numbers, gate) for numbers in seeds_of(found, control, layout)]
        rows.append([name, each(own, points), each(permuted, points),
                     each([row["difference"] for row in random], points) or "–",
                     f"{each([row['difference'] for row in of], points)} (p {each([row['p_value'] for row in of], p_text)})"
                     if of else "–"])
    return drawn(["", "gate − equal weights", "α of another sentence", "inverse-distance p = 8 on random subsets", "the experiment's own control"], rows)


def accuracies(found: Found) -> str:
    """Accuracy of everything in the primary layouts, with intervals, fusion of logits."""
    rows = []
    for setting, layout, made in every_layout(found):
        if not made[0]["rivals"] or setting.startswith("E6"):
            continue
        gate = next((gate for (own, at, gate), _, _ in PRIMARY.values() if (own, at) == (setting, layout)), MAIN)
        of = [gate_row(numbers, gate) for numbers in made]
        rows.append([place(setting, layout), f"{100 * mean(numbers['mean_expert'] for numbers in made):.2f}",
                     with_interval([numbers["uniform"]["logits"] for numbers in made]), with_interval(of, "accuracy_interval"),
                     *(with_interval([numbers["rivals"][rival] for numbers in made]) for rival in RIVALS)])
    return drawn(["", "mean expert", "equal weights", "gate", "random subsets", "equal cost", "baseline", "one head"], rows)


def against(found: Found) -> str:
    """The gate of p = 8 against every rival, a difference and a p a seed."""
    rows = []
    for setting, layout, made in every_layout(found):
        if made[0]["against"]:
            rows.append([place(setting, layout), *(
                f"{each([n['against'][rival]['difference'] for n in made], points)} (p {each([n['against'][rival]['p_value'] for n in made], p_text)})"
                if rival in made[0]["against"] else "–" for rival in RIVALS)])
    return drawn(["inverse-distance p = 8 −", "random subsets", "equal cost", "baseline", "one head"], rows)


def every_gate(found: Found) -> str:
    """All gates under both fusions: the mean gain, and in how many seeds p < 0.05."""
    names = ["distance p=1", "distance p=8", "distance p=32", MAIN, "inverse-distance p=32", "membership T=0.1", "nearest", OUT_OF_FOLD]
    rows = []
    for mix in FUSIONS:
        for setting, layout, made in every_layout(found):
            cells = [place(setting, layout), mix, f"{100 * mean(n['uniform'][mix]['accuracy'] for n in made):.2f}"]
            for name in names:
                of = [row for n in made if (row := gate_row(n, name, mix))]
                sure = sum(row["p_value"] < 0.05 for row in of)
                cells.append(f"{points(mean(row['difference'] for row in of))} ({sure})" if of else "–")
            rows.append(cells)
    return drawn(["", "fusion", "equal weights", *(name.replace("=", " = ") for name in names)], rows)


def meter(found: Found) -> str:
    """Gap, leverage, agreement: what predicts a gain, and the gain."""
    rows = []
    for setting, layout, made in every_layout(found):
        of = [gate_row(n, MAIN) for n in made]
        wrong = [n["error_correlation"] for n in made if n["error_correlation"] is not None]
        rows.append([place(setting, layout), f"{100 * mean(n['gap']['difference'] for n in made):+.1f}",
                     f"{mean(n['mean_alpha_distance'] for n in made):.3f}",
                     f"{mean(row['could_flip'] for row in of):.1%}", f"{mean(row['changed'] / n['n'] for row, n in zip(of, made)):.1%}",
                     f"{mean(n['agreement'] for n in made):.1%}", f"{mean(wrong):.2f}" if wrong else "–",
                     spread([row["difference"] for row in of], sign=True)])
    return drawn(["inverse-distance p = 8", "gap, points", "‖α − 1/n‖", "could turn", "turned", "experts agree", "errors correlate", "gain, points"], rows)


def aim(found: Found) -> str:
    """The highest aim: chosen on the tuning split, against every rival."""
    rows = []
    for setting, made in found["aim"].items():
        for one in made:
            rows.append([setting, str(one["seed"]), place(one["layout"], one["gate"]), with_interval([one]), *(
                f"{points(one['against'][rival]['difference'])} ({p_text(one['against'][rival]['p_value'])})" for rival in RIVALS)])
    return drawn(["", "seed", "chosen on the tuning split", "accuracy", "− random subsets (p)", "− equal cost", "− baseline", "− one head"], rows)


def priors(found: Found) -> str:
    """E4: how much of the gain plain prior correction gives."""
    rows = []
    for layout in ("k=3 m=1", "k=3 m=2"):
        made = seeds_of(found, "E4", layout)
        for which, title in (("experts", "equal weights, log priors mixed by α"), ("one head", "one head, its prior replaced by the mixed one")):
            of = [n["priors"][which] for n in made if which in n["priors"]]
            if of:
                rows.append([place(layout), title, f"{100 * mean(one['accuracy'] for one in of):.2f}",
                             each([one["against_uniform"]["difference"] for one in of], points),
                             f"{each([one['gate_against_it']['difference'] for one in of], points)} (p {each([one['gate_against_it']['p_value'] for one in of], p_text)})"])
    return drawn(["E4", "", "accuracy", "− equal weights, seeds 0 / 1 / 2", "gate − it"], rows)


def floors(found: Found) -> str:
    """E3 at other values of an absent intent's log-probability."""
    rows = []
    for setting in ("E3", "E3 control"):
        for layout, made in found["settings"].get(setting, {}).items():
            at = {-7.0: [gate_row(n, MAIN) for n in made]} | {float(floor): [n["floors"][floor] for n in made] for floor in made[0]["floors"]}
            rows.append([place(setting, layout), *(f"{each([row['difference'] for row in at[floor]], points)}" for floor in (-5.0, -7.0, -10.0))])
    return drawn(["gain of p = 8, points", "−5", "−7", "−10"], rows)


def ladder(found: Found) -> str:
    """E6: rung by rung."""
    rows = []
    for rung in RUNGS:
        made = seeds_of(found, f"E6 {rung}", "k=3 m=1")
        if made:
            of, lost = [gate_row(n, MAIN) for n in made], [gate_row(n, "permuted")["difference"] for n in made]
            rows.append([rung, each([n["gap"]["difference"] for n in made], points), f"{mean(n['agreement'] for n in made):.1%}",
                         with_interval([n["uniform"]["logits"] for n in made]), each([row["difference"] for row in of], points),
                         each([row["p_value"] for row in of], p_text), each(lost, points)])
    return drawn(["", "gap", "experts agree", "equal weights", "gain of p = 8", "p", "permuted α"], rows)


TABLES = {"answers": answers, "controls": controls, "accuracies": accuracies, "against": against, "gates": every_gate,
          "meter": meter, "aim": aim, "priors": priors, "floors": floors, "ladder": ladder}


def written(page: str, found: Found) -> str:
    """Return the page with every table between its marks drawn anew."""
    for name, table in TABLES.items():
        start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        if start in page:
            before, rest = page.split(start)
            page = before + start + table(found) + "\n" + end + rest.split(end, 1)[1]
    return page
