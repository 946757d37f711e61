"""Reading → HTML: verdicts, experts, distances and the formula with the sentence's own numbers.

Small pure functions, each returns a piece of HTML. Whatever comes from people or data is escaped.
Knows nothing of gradio; colours and sizes are assets/style.css's.
"""

from html import escape
from math import comb
from pathlib import Path

import numpy as np
from scipy.special import log_softmax, softmax

from monju.ensemble import gates
from monju.ui.components.ternary import triangle
from monju.ui.i18n.translator import TEXTS

MOST_LABELS = 6  # rows of a card: beyond, the least likely labels are counted instead
MOST_TERMS = 4  # experts whose α is written out: beyond, the loudest alone
NEAR_EQUAL = 0.15  # α within this share of equal weight is called close to equal
SHOWN = 200  # characters of the sentence that stand above the verdicts


# the page's four faces


def reading(found, monju, say):
    """A Reading's answer: both verdicts, what to make of them, the experts."""
    parts = [quoted(found.text), verdicts(found, monju, say), told(found, monju, say), unread(found, say), experts(found, monju, say)]
    return page("".join(parts), say)


def details(found, monju, say, others=None):
    """How the answer came about; `others` [n, experts] are the held-out sentences' α, where they are known."""
    return page(thinking(found, monju, say, others) + members(found, monju, say), say)


def waiting(say):
    return page(f'<p class="note" role="status"><span class="spinner"></span>{say("waiting")}</p>', say)


def hint(say):
    return page(f'<p class="note" role="status">{say("hint")}</p>', say)


def trouble(error, say):
    """A run that cannot be shown: one calm sentence, the way out, and what was found."""
    return page(f'<div class="note" role="status"><p><b>{say("trouble")}</b></p><p>{say("way_out")}</p>'
                f'<p class="faint">{say("detail", error=say.error(error))}</p></div>', say)


def page(inside, say):
    return f'<div class="monju" lang="{say.language}">{inside}</div>'


# verdicts


def quoted(text):
    """The sentence that is answered, one line of it: while one types, the answer may be a word behind."""
    return f'<p class="said" dir="auto">{escape(text[:SHOWN])}{"…" if len(text) > SHOWN else ""}</p>'


def verdicts(found, monju, say):
    """Monju's and the baseline's verdicts side by side."""
    cards = verdict("monju", say("monju_by"), found.monju, monju, say)
    if found.baseline is not None:
        cards += verdict("baseline", say("baseline_by", n=len(monju.members)), found.baseline, monju, say)
    return f'<section class="verdicts">{cards}</section>'


def verdict(who, by, said, monju, say):
    best = int(said.probabilities.argmax())
    answer = f"<b>{escape(say.label(said.name))}</b> <span>{percent(said.probabilities[best])}</span>"
    return (f'<article class="card verdict {tint(best)}" data-who="{who}">'
            f"<header><h3>{say(who)}</h3><small>{by}</small></header>"
            f'<p class="answer">{answer}</p>'
            f"{scores(said.logits, monju.label_names, say)}</article>")


def scores(logits, names, say):
    """One row per label: its name, its probability as a bar and a number, its logit."""
    probabilities = softmax(logits)
    likeliest = sorted(sorted(range(len(names)), key=lambda i: -probabilities[i])[:MOST_LABELS])
    rows = "".join(
        f'<tr class="{tint(i)}{" best" if i == probabilities.argmax() else ""}">'
        f'<th scope="row">{escape(say.label(names[i]))}</th><td class="bar">{bar(probabilities[i])}</td>'
        f"<td>{percent(probabilities[i])}</td><td>{signed(logits[i])}</td></tr>"
        for i in likeliest)
    left = len(names) - len(likeliest)
    foot = f'<tr><td class="faint" colspan="4">{say("more_labels", n=left)}</td></tr>' if left else ""
    head = f'<tr><td></td><td></td><th scope="col">{say("probability")}</th><th scope="col">{say("logit")}</th></tr>'
    return f'<table class="scores"><thead>{head}</thead><tbody>{rows}{foot}</tbody></table>'


def told(found, monju, say):
    """In words: whether the ensembles agree, and which experts were outvoted."""
    label = say.label(found.monju.name)
    differ = found.baseline is not None and found.baseline.label != found.monju.label
    if found.baseline is None:
        first = say("no_baseline", label=label)
    elif differ:
        first = say("disagree", monju=label, baseline=say.label(found.baseline.name))
    else:
        first = say("agree", label=label)
    return f'<p class="told{" differ" if differ else ""}"><b>{first}</b> {minority(found, monju, say)}</p>'


def unread(found, say):
    """What of the sentence the models do not see, as its Reading notes; nothing where they see it all."""
    notes = "".join(f"<li>{say.note(note)}</li>" for note in found.notes)
    return f'<ul class="unread" role="status">{notes}</ul>' if notes else ""


def minority(found, monju, say):
    """The experts that said something other than Monju, in words."""
    says = {expert: monju.label_names[int(found.logits[expert].argmax())] for expert in monju.experts}
    others = [expert for expert in monju.experts if says[expert] != found.monju.name]
    if not others:
        return say("unanimous", n=len(says))
    if len(others) == len(says):
        return say("compromise")
    if len(others) == 1 and len(says) > 2:
        return say("one_outvoted", expert=others[0], label=say.label(says[others[0]]))
    camps = {}
    for name in others:
        camps.setdefault(says[name], []).append(name)
    named = say("comma").join(f"{say.listed(camp)} ({say.label(label)})" for label, camp in camps.items())
    if 2 * len(others) < len(says):
        return say("outvoted", experts=named)
    return say("outweighed", experts=named, winners=say.listed([expert for expert in says if expert not in others]))


# experts and members


def experts(found, monju, say):
    """A card for each expert: what it was taught, its α beside equal weight, its own view."""
    equal = 1 / len(monju.experts)
    full = max(2 * equal, *found.alpha.values())  # the bar's right end, so that the equal-weight mark is well inside
    title = say("experts", n=len(monju.experts), m=monju.config.subset_size, k=monju.config.k)
    cards = "".join(expert(name, subset, found, equal, full, monju, say)
                    for name, subset in zip(monju.experts, monju.subsets))
    return f'<section><h2>{title}</h2><div class="cards">{cards}</div></section>'


def expert(name, subset, found, equal, full, monju, say):
    alpha, logits = found.alpha[name], found.logits[name]
    badges = "".join(f'<span class="cluster{" unseen" if i not in subset else ""}">{cluster}</span>'
                     for i, cluster in enumerate(monju.clusters))
    unseen = [cluster for i, cluster in enumerate(monju.clusters) if i not in subset]
    knows = say("knows", clusters=say.listed([monju.clusters[i] for i in subset])) + say("comma") \
        + say("unseen", clusters=say.listed(unseen))
    return (f'<article class="card" data-who="{name}"><header><h3>{name}</h3>'
            f'<span class="clusters" role="img" aria-label="{knows}" title="{knows}">{badges}</span>'
            f"{opinion(logits, monju, say)}</header>"
            f'<div class="alpha"><b>α = {alpha:.3f}</b>{bar(alpha / full, mark=equal / full)}'
            f'<small style="--at:{equal / full:.4f}">{say("equal_weight", value=f"{equal:.3f}")}</small></div>'
            f"{scores(logits, monju.label_names, say)}</article>")


def opinion(logits, monju, say):
    best = int(logits.argmax())
    return f'<span class="opinion {tint(best)}">{escape(say.label(monju.label_names[best]))}</span>'


def members(found, monju, say):
    """The baseline's models, each with its own view; nothing where the run has no baseline."""
    if not monju.members:
        return ""
    weight = say("equal", value=f"{1 / len(monju.members):.3f}")
    cards = "".join(
        f'<article class="card" data-who="{escape(name)}"><header><h3>{escape(name)}</h3><small>{weight}</small>'
        f"{opinion(found.logits[name], monju, say)}</header>"
        f"{scores(found.logits[name], monju.label_names, say)}</article>" for name in monju.members)
    return f'<section><h2>{say("members", n=len(monju.members))}</h2><div class="cards">{cards}</div></section>'


# from distances to α to the verdict


def thinking(found, monju, say, others=None):
    """Distances, the gate's formula and the fusion, with this sentence's numbers; its α among those of `others`."""
    gate = None if monju.combiner else gates.make(monju.config)
    learned = f'<p class="faint">{say(f"way_{monju.gate}")}</p>' if f"way_{monju.gate}" in TEXTS and gate is None else ""
    written = learned + lines(alpha_lines(found, monju, gate)) + loudest(found, say)
    if len(monju.experts) <= MOST_TERMS:
        written += f'<h2 class="next">{say("fused")}</h2>' + lines([fusion_line(found, monju, say)])
    blocks = card(say("where"), distances(found, say)) + card(say("weights"), written)
    if others is not None:
        blocks += card(say("ternary"), among(found, others, say))
    return f'<section class="thinking">{blocks}</section>'


def card(title, inside):
    return f'<div class="card"><h2>{title}</h2>{inside}</div>'


def among(found, others, say):
    """This sentence's α among others' [n, experts]: a triangle for three experts, else a bar and a band for each."""
    alpha, count = list(found.alpha.values()), f"{len(others):,}"
    if len(alpha) == 3:
        title = say("ternary_alt", alpha=", ".join(f"{name} {value:.3f}" for name, value in found.alpha.items()))
        return triangle(list(found.alpha), alpha, others, title) + f'<p>{say("ternary_is", n=count)}</p>'
    full = max(float(others.max()), *alpha) or 1
    low, high = np.quantile(others, [0.05, 0.95], axis=0) / full
    rows = "".join(
        f'<tr><th scope="row">{name}</th><td class="bar">{bar(value / full, band=(low[i], high[i]))}</td><td>{value:.3f}</td></tr>'
        for i, (name, value) in enumerate(found.alpha.items()))
    return f'<table class="scores"><tbody>{rows}</tbody></table><p>{say("spread", n=count)}</p>'


def effect(found, say):
    """The accuracy under the controls' settings, in words (see Opened.effect)."""
    n, before, after = f"{found['n']:,}", f"{100 * found['before']:.1f}", f"{100 * found['after']:.1f}"
    if found["own"]:
        return page(f'<p class="effect" role="status">{say("effect_own", n=n, monju=before)}</p>', say)
    told = say("effect", n=n, before=before, after=after, changed=found["changed"], p=f"{found['p_value']:.2g}")
    return page(f'<p class="effect" role="status"><b>{told}</b> <span class="faint">{say("effect_note")}</span></p>', say)


def distances(found, say):
    """A bar for each cluster, the nearest one named."""
    nearest, farthest = min(found.distances, key=found.distances.get), max(found.distances.values())
    rows = "".join(
        f'<tr><th scope="row"><i>d</i><sub>{cluster}</sub></th>'
        f'<td class="bar">{bar(d / farthest if farthest else 0)}</td>'
        f'<td>{d:.3f}</td><td class="faint">{say("nearest") if cluster == nearest else ""}</td></tr>'
        for cluster, d in found.distances.items())
    return f'<table class="scores"><tbody>{rows}</tbody></table>'


def loudest(found, say):
    """In words: the nearest cluster, who speaks loudest, and how far that is from an equal-weight average."""
    nearest = min(found.distances, key=found.distances.get)
    equal = 1 / len(found.alpha)
    spread = max(abs(alpha - equal) for alpha in found.alpha.values()) / equal
    if spread < 1e-9:
        return f"<p>{say('tied', cluster=nearest)}</p>"
    told = say("loudest", cluster=nearest, expert=max(found.alpha, key=found.alpha.get))
    return f"<p>{told} {say('near_equal') if spread < NEAR_EQUAL else ''}</p>"


def alpha_lines(found, monju, gate):
    """The gate's formula for each expert (for the loudest alone where there are many), as MathML rows."""
    written = monju.experts if len(monju.experts) <= MOST_TERMS else [max(found.alpha, key=found.alpha.get)]
    formula = FORMULAS[type(gate)] if type(gate) in FORMULAS and any(found.distances.values()) else bare
    return [formula(name, found, monju, gate) for name in written]


def distance_formula(name, found, monju, gate):
    """α_AB = d_C / (d_A + d_B + d_C) = 0.412 / (0.380 + 0.401 + 0.412) = 0.345, and its general form."""
    k, m = monju.config.k, monju.config.subset_size
    subset = monju.subsets[monju.experts.index(name)]
    power = "" if gate.sharpness == 1 else f"{gate.sharpness:g}"
    unseen = [cluster for i, cluster in enumerate(monju.clusters) if i not in subset]
    share = comb(k - 1, m)  # experts that have not seen a given cluster

    def fraction(term):
        below = summed([term(cluster) for cluster in monju.clusters])
        if share > 1:
            below = f"<mn>{share}</mn><mo>·</mo><mo>(</mo>{below}<mo>)</mo>"
        return f"<mfrac><mrow>{summed([term(cluster) for cluster in unseen])}</mrow><mrow>{below}</mrow></mfrac>"

    symbols = fraction(lambda cluster: raised(f"<msub><mi>d</mi><mi>{cluster}</mi></msub>", power))
    numbers = fraction(lambda cluster: raised(f"<mn>{found.distances[cluster]:.3f}</mn>", power))
    return f"{greek(name)}<mo>=</mo>{symbols}<mo>=</mo>{numbers}<mo>=</mo>{number(found.alpha[name])}"


def membership_formula(name, found, monju, gate):
    """α_AB = (q_A + q_B) / C(k−1, m−1), where q is the softmax of −d^power / T or a mixture's posterior."""
    subset = monju.subsets[monju.experts.index(name)]
    above = summed([f"<msub><mi>q</mi><mi>{monju.clusters[i]}</mi></msub>" for i in subset])
    share = comb(monju.config.k - 1, monju.config.subset_size - 1)  # experts that know a given cluster
    symbols = f"<mfrac><mrow>{above}</mrow><mn>{share}</mn></mfrac>" if share > 1 else above
    if isinstance(gate, gates.Posterior):
        origin = "<mi>q</mi><mo>=</mo><mi>P</mi><mo>(</mo><mi>c</mi><mo>|</mo><mi>x</mi><mo>)</mo>"
    else:
        power = raised("<mi>d</mi>", f"{gate.power:g}")
        origin = (f"<mi>q</mi><mo>=</mo><mtext>softmax</mtext><mo>(</mo><mo>−</mo>{power}<mo>/</mo>"
                  f"<mn>{gate.temperature:g}</mn><mo>)</mo>")
    return (f"{greek(name)}<mo>=</mo>{symbols}<mo>=</mo>{number(found.alpha[name])}"
            f"<mtext>,</mtext><mspace width='1em'/>{origin}")


def bare(name, found, monju, gate):
    return f"{greek(name)}<mo>=</mo>{number(found.alpha[name])}"


FORMULAS = {gates.Distance: distance_formula, gates.Membership: membership_formula, gates.Posterior: membership_formula}


def fusion_line(found, monju, say):
    """Σ α · logit (or · probability) of Monju's label, with numbers."""
    best = int(found.monju.probabilities.argmax())
    what, part = {"logits": ("logit", lambda logits: logits), "probabilities": ("probability", softmax),
                  "product": ("log_p", lambda logits: len(monju.experts) * log_softmax(logits))}[monju.config.fusion]
    mixed = {name: part(found.logits[name]) for name in monju.experts}
    total = sum(found.alpha[name] * mixed[name][best] for name in monju.experts)
    terms = summed([f"{number(found.alpha[name])}<mo>·</mo>{number(mixed[name][best], 2)}" for name in monju.experts])
    what = say(what)
    label = escape(say.label(found.monju.name))
    return f"<msub><mtext>{what}</mtext><mtext>{label}</mtext></msub><mo>=</mo>{terms}<mo>=</mo>{number(total, 2)}"


# small pieces


def tint(label):
    """The colour class of a label's number; the palette has seven."""
    return f"label-{label % 7}"


def lines(rows):
    return "".join(f'<div class="formula"><math displaystyle="true">{row}</math></div>' for row in rows)


def greek(name):
    return f"<msub><mi>α</mi><mi>{name}</mi></msub>"


def raised(base, power):
    return f"<msup><mrow>{base}</mrow><mn>{power}</mn></msup>" if power else base


def summed(terms):
    return "<mo>+</mo>".join(terms)


def number(value, digits=3):
    """A number; a negative one in brackets, so that it can stand after a dot."""
    size = f"<mn>{abs(value):.{digits}f}</mn>"
    return size if round(float(value), digits) >= 0 else f"<mo>(</mo><mo>−</mo>{size}<mo>)</mo>"


def bar(share, mark=None, band=None):
    """A bar over `share` of its width; `mark` sets a tick at another share, `band` a frame from one to another."""
    tick = "" if mark is None else f'<i class="mark" style="left:{100 * mark:.2f}%"></i>'
    if band is not None:
        tick += f'<i class="band" style="left:{100 * band[0]:.2f}%;width:{100 * (band[1] - band[0]):.2f}%"></i>'
    return f'<span class="track"><i class="fill" style="width:{100 * min(1, max(0, share)):.2f}%"></i>{tick}</span>'


def percent(share):
    return f"{100 * share:.1f}\u202f%"


def signed(value):
    return "0.00" if abs(value) < 0.005 else f"{value:+.2f}".replace("-", "−")


# the line under the page


def about(monju, metrics, say):
    """Which run is shown and what it is worth, with intervals."""
    config, data = monju.config, monju.run.manifest["data"]
    ensembles = [name for name in ("monju", "baseline") if metrics.get(name)]
    # names alone: a path would tell of the machine that trained
    told = [say("run", run=monju.run.path.resolve().name, backbone=Path(config.backbone).name,
                data=Path(config.data).name, train=f"{data['train']:,}")]
    values = {name: (metrics[name]["accuracy"], *metrics[name]["interval"]) for name in ensembles}
    scored = say("comma").join(say("score", name=say(name), accuracy=f"{100 * accuracy:.1f}",
                                   low=f"{100 * low:.1f}", high=f"{100 * high:.1f}")
                               for name, (accuracy, low, high) in values.items())
    told.append(say("scores", n=f"{metrics['n']:,}", scores=scored, point=f"{100 / metrics['n']:.2f}"))
    if pair := metrics.get("monju_vs_baseline"):
        told.append(say("difference", points=signed(100 * pair["difference"]), p=f"{pair['p_value']:.2g}"))
    return page(f'<p class="about">{" ".join(told)}</p>', say)
