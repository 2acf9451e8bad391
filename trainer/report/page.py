"""An evaluation as one page of HTML for who answers for the line: nothing is loaded, no script runs, it prints as it looks.

Every number is followed by what it means in plain words. Left out: what only concerns how the model was made.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np

from trainer.evaluate.evaluation import Category, Evaluation, Interval, Measured
from trainer.evaluate.measure import Result
from trainer.evaluate.metrics import FIGURES, precision_recall_curve, roc_curve
from trainer.evaluate.published import PAPERS
from trainer.io.files import write_whole
from trainer.report import charts
from trainer.report.selection import Gallery, Shown
from trainer.report.tables import between, percent, title

FEW = 30  # pictures of a kind below which a reader is warned

MEANINGS: Mapping[str, str] = {
    "image_auroc": "Take one defective and one good picture by chance: how often the defective one gets the higher score."
    " 50 is guessing, 100 is never wrong.",
    "image_ap": "Go through the pictures from the highest score down until all defects are found: how many of those seen so far"
    " are truly defective, on average. Guessing gives the share of defective pictures in the set.",
    "image_f1": "The best balance of finding defects and not calling good parts defective that any threshold gives on these"
    " pictures. It is chosen with hindsight, so a real line will do a little worse.",
    "pixel_auroc": "The same as image AUROC, for single pixels: how often a pixel of a defect is marked more strongly than one"
    " of good surface. High values come easily, since most surface is good.",
    "pixel_aupro": "How much of each marked defect the map covers, small defects counting as much as large ones, as long as at most"
    " 30 % of the good surface is marked by mistake.",
    "pixel_f1": "How well the marked area and the true defect coincide at the best threshold; 100 is the same outline, to the pixel.",
    "pixel_ap": "Go through the pixels from the most strongly marked down: how many of those seen so far are truly defect, on"
    " average. The strictest of these figures.",
}
KINDS = {
    "found": ("Found with most certainty", "defective pictures with the highest scores"),
    "missed": ("Missed defects", "defective pictures below the threshold, the lowest scores first"),
    "false_alarms": ("False alarms", "good pictures that reach the threshold, the highest scores first"),
}


def page(
    evaluation: Evaluation, results: Sequence[Result], baseline: Sequence[Result], shown: Mapping[str, Gallery]
) -> str:
    """The whole page. results, baseline: what `evaluation` was made of, by category; shown: their pictures, by category."""
    ours = evaluation.measured
    others = {one.category: one for one in baseline}
    sections = [
        _head(evaluation),
        _cautions(ours, evaluation.baseline),
        _by_category(evaluation),
        _meanings(),
        *(
            _category(one, ours.categories[one.category], others.get(one.category), shown[one.category])
            for one in results
        ),
        _papers(ours),
        _how(evaluation),
    ]
    name = escape(f"{ours.detector} on {evaluation.data}")
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{name}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head>\n<body><main>\n{''.join(sections)}</main></body></html>\n"
    )


def write_report(html: str, path: Path) -> None:
    """Whole or not at all. Raises EdgeAgentError."""
    write_whole(path, html.encode())


def _head(evaluation: Evaluation) -> str:
    ours = evaluation.measured
    categories = list(ours.categories.values())
    good, bad = (sum(one.good for one in categories), sum(one.defective for one in categories))
    over = "" if len(categories) == 1 else f", the mean of {len(categories)} categories"
    cards = [*_decisions(categories)]
    for name in ("image_auroc", "pixel_auroc", "pixel_aupro"):
        figure = ours.mean.figures[name]
        if figure.value is not None:
            note = f"{title(name)}{over}. {MEANINGS[name]}"
            cards.append(_card(percent(figure.value), f"likely between {_range(figure)}", note))
    return (
        f"<h1>How well {escape(ours.detector)} finds defects</h1>"
        f"<p class=lead>Measured on {bad} defective and {good} good pictures of <b>{escape(evaluation.data)}</b>,"
        f" {evaluation.created:%d %B %Y}.</p><div class=cards>{''.join(cards)}</div>"
    )


def _decisions(categories: Sequence[Category]) -> Iterator[str]:
    decided = [one for one in categories if one.threshold is not None]
    bad, good = (sum(one.defective for one in decided), sum(one.good for one in decided))
    found, alarms = (sum(one.found or 0 for one in decided), sum(one.false_alarms or 0 for one in decided))
    if not decided:
        return
    thresholds = sorted({one.threshold for one in decided if one.threshold is not None})
    at = f"{thresholds[0]:.3f}" if len(thresholds) == 1 else f"{thresholds[0]:.3f} to {thresholds[-1]:.3f}"
    whose = (
        "the model's own"
        if decided[0].threshold_from == "checkpoint"
        else "the best for these very pictures, with hindsight"
    )
    if bad:
        yield _card(
            f"{found} of {bad}",
            f"{100 * found / bad:.0f} %, likely between {_wilson(found, bad)}",
            f"defective pictures reach the threshold {at} ({whose}) and would be stopped; {bad - found} would slip through.",
        )
    if good:
        yield _card(
            f"{alarms} of {good}",
            f"{100 * alarms / good:.0f} %, likely between {_wilson(alarms, good)}",
            "good pictures reach it too: false alarms, each of which somebody has to look at.",
        )


def _cautions(ours: Measured, base: Measured | None) -> str:
    notes: list[str] = []
    if base:
        notes += beaten(ours, base)
    skipped = [(name, one) for name, category in ours.categories.items() for one in category.skipped]
    if skipped:
        items = "".join(
            f"<li>{escape(name)}: {escape(one.path)}: {escape(one.reason)}</li>" for name, one in skipped[:20]
        )
        more = f"<li>and {len(skipped) - 20} more</li>" if len(skipped) > 20 else ""
        notes.append(f"{len(skipped)} pictures could not be used and are in none of the figures:<ul>{items}{more}</ul>")
    few = [name for name, one in ours.categories.items() if 0 < min(one.good, one.defective) < FEW]
    if few:
        notes.append(
            f"Fewer than {FEW} good or defective pictures in {escape(', '.join(few))}: the figures may change a lot with other"
            " pictures. An interval says how much as far as the pictures at hand can tell; a perfect figure from few pictures"
            " has no width and still proves little."
        )
    blind = [name for name, one in ours.categories.items() if one.figures["pixel_auroc"].value is None]
    if blind:
        notes.append(f"No outlines of defects in {escape(', '.join(blind))}, so nothing is said of where defects are.")
    one_sided = [name for name, one in ours.categories.items() if not one.good or not one.defective]
    if one_sided:
        notes.append(
            f"Only good or only defective pictures in {escape(', '.join(one_sided))}: most figures need both and are left out."
        )
    vanished = sum(one.vanished for one in ours.categories.values())
    if vanished:
        notes.append(
            f"{vanished} outlined defects are too small for maps of {ours.size} pixels a side and count as missed."
        )
    if not notes:
        return ""
    return f"<aside><h2>Read with care</h2>{''.join(f'<div class=note>{note}</div>' for note in notes)}</aside>"


def beaten(ours: Measured, base: Measured) -> Iterator[str]:
    """A sentence of HTML when the baseline does better anywhere."""
    worse = []
    for name, one in ours.categories.items():
        value, other = one.figures["image_auroc"].value, base.categories[name].figures["image_auroc"].value
        if value is not None and other is not None and other > value:
            worse.append(f"{name} ({other:.1f} against {value:.1f})")
    if worse:
        yield (
            f"{escape(base.detector.capitalize())}, a simple rule that needs no learning, tells good from defective better in"
            f" {escape(', '.join(worse))} (image AUROC): there this model is not worth its effort yet."
        )


def _by_category(evaluation: Evaluation) -> str:
    ours, base = evaluation.measured, evaluation.baseline
    bars = [
        charts.Bar(name, value, low, high, base.categories[name].figures["image_auroc"].value if base else None)
        for name, one in ours.categories.items()
        if (value := (figure := one.figures["image_auroc"]).value) is not None
        and (low := figure.low) is not None
        and (high := figure.high) is not None
    ]
    heads = _heads()
    rows = []
    for name, one in ours.categories.items():
        rows.append(_row(name, f"<td>{one.good}<td>{one.defective}", one.figures))
        if base:
            rows.append(_row(f"{base.detector}", "<td><td>", base.categories[name].figures, "base"))
    if len(ours.categories) > 1:
        rows.append(_row("mean", "<td><td>", ours.mean.figures, "mean"))
        if base:
            rows.append(_row(f"mean of {base.detector}", "<td><td>", base.mean.figures, "base mean"))
    against = (
        f" Hollow dots and gray rows: {escape(base.detector)}, a simple rule that needs no learning." if base else ""
    )
    chart = ""
    if bars:
        said = "; ".join(f"{bar.name} {bar.value:.1f}, between {bar.low:.1f} and {bar.high:.1f}" for bar in bars)
        chart = f"<figure class=wide>{charts.intervals(bars, f'Image AUROC by category, percent: {said}')}</figure>"
    return (
        f"<h2>By category</h2><p>Percent, higher is better. Dots: image AUROC; the bar behind each is the range it likely lies"
        f" in.{against}</p>{chart}<div class=scroll tabindex=0 role=region aria-label='All figures by category'><table>"
        f"<thead><tr><th scope=col>category<th scope=col>good<th scope=col>defective{heads}</thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _heads() -> str:
    """Column heads of all figures, in two lines so that the table stays narrow."""
    return "".join(f"<th scope=col>{title(name).replace(' ', '<br>')}" for name in FIGURES)


def _row(name: str, counts: str, figures: Mapping[str, Interval], kind: str = "") -> str:
    cells = "".join(f"<td>{percent(figures[key].value)}<small>{between(figures[key])}</small>" for key in FIGURES)
    return f'<tr class="{kind}"><th scope=row>{escape(name)}{counts}{cells}'


def _meanings() -> str:
    items = "".join(f"<dt>{title(name)}<dd>{escape(meaning)}" for name, meaning in MEANINGS.items())
    return (
        f"<h2>What the figures mean</h2><dl>{items}<dt>small numbers under a figure<dd>Had other pictures of the same kind been"
        " taken, the figure would likely (19 times in 20) lie in this range.</dl>"
    )


def _category(result: Result, record: Category, base: Result | None, gallery: Gallery) -> str:
    name = escape(result.category)
    parts = [f"<section><h2>{name}</h2>"]
    if record.threshold is not None:
        parts.append(
            f"<p>At the threshold {record.threshold:.3f}, {record.found} of {record.defective} defective pictures are found and"
            f" {record.false_alarms} of {record.good} good ones are called defective.</p>"
        )
    parts.append(f"<div class=charts>{''.join(_charts(result, record, base))}</div>")
    parts.append(
        "<p class=none>Below, each picture is shown twice: first with the true defect outlined in light blue where it is known, then"
        " with what the model marks. Orange to red in corner brackets counts as defect, blue comes near it.</p>"
    )
    for key, (heading, what) in KINDS.items():
        some, count = getattr(gallery, key), gallery.counts[key]
        if not some:
            parts.append(f"<h3>{heading}</h3><p class=none>None.</p>")
            continue
        shown = f"the first {len(some)} of {count}" if count > len(some) else f"all {count}"
        pictures = "".join(_picture(one, key) for one in some)
        parts.append(
            f"<h3>{heading}</h3><p class=none>{what[0].upper()}{what[1:]}; {shown}.</p><div class=pictures>{pictures}</div>"
        )
    return "".join([*parts, "</section>"])


def _charts(result: Result, record: Category, base: Result | None) -> Iterator[str]:
    good, bad = result.scores[~result.bad], result.scores[result.bad]
    threshold = record.threshold
    at = "" if threshold is None else f" The threshold is {threshold:.3f}."
    words = f"Scores of {len(good)} good pictures, median {_median(good)}, and of {len(bad)} defective ones, median {_median(bad)}.{at}"
    yield _figure(
        charts.histogram(good, bad, threshold, words),
        "Scores. The less the two overlap, the better; what lies right of the dashed line is called defective.",
    )
    for kind, counts in (("image", _image_counts(result)), ("pixel", (result.tally.good, result.tally.bad))):
        if record.figures[f"{kind}_auroc"].value is None:
            continue
        other = None if base is None else _image_counts(base) if kind == "image" else (base.tally.good, base.tally.bad)
        what = "pictures" if kind == "image" else "pixels"
        yield _figure(
            charts.curves(
                _lines(roc_curve, counts, other),
                f"good {what} called defective",
                f"defective {what} found",
                f"ROC curve of {what}, AUROC {percent(record.figures[f'{kind}_auroc'].value)} percent.",
            ),
            f"ROC of {what}. What finding more costs in false alarms, from strict (left) to lenient; the closer to the upper left"
            " corner, the better.",
        )
        yield _figure(
            charts.curves(
                _lines(precision_recall_curve, counts, other),
                f"defective {what} found",
                "alarms that are right" if kind == "image" else "marked pixels that are right",
                f"Precision and recall of {what}, AP {percent(record.figures[f'{kind}_ap'].value)} percent.",
            ),
            f"Precision and recall of {what}. How far an alarm can be trusted as more are found; the closer to the upper right"
            " corner, the better.",
        )


Counts = tuple[np.ndarray, np.ndarray]


def _lines(
    curve: Callable[[np.ndarray, np.ndarray], np.ndarray], ours: Counts, other: Counts | None
) -> list[charts.Line]:
    lines = [charts.Line("this model", curve(*ours))]
    if other is not None:
        lines.append(charts.Line("local contrast", curve(*other), dashed=True))
    return lines


def _image_counts(result: Result) -> Counts:
    levels, at = np.unique(result.scores, return_inverse=True)
    good, bad = (np.bincount(at[members], minlength=len(levels)) for members in (~result.bad, result.bad))
    return good, bad


def _picture(one: Shown, key: str) -> str:
    H, W = one.size
    name = escape(f"{one.example.kind}/{one.example.picture.name}")
    outlined = ", the defect outlined" if one.masked else ""
    state = "good" if key == "false_alarms" else "defective"
    sized = f'width="{W}" height="{H}"'
    return (
        f'<figure><div class=pair><img src="{one.plain}" {sized} alt="{state} picture {name}{outlined}">'
        f'<img src="{one.mapped}" {sized} alt="the same with what the model marks"></div>'
        f"<figcaption>{name}<br><b>score {one.score:.3f}</b></figcaption></figure>"
    )


def _papers(ours: Measured) -> str:
    heads = _heads()
    rows = [_row(f"this evaluation: {ours.detector}", "", ours.mean.figures, "mean")]
    for paper in PAPERS:
        for dataset, figures in paper.rows.items():
            cells = "".join(f"<td>{percent(figures.get(name))}" for name in FIGURES)
            rows.append(f"<tr><th scope=row>{paper.method} on {dataset}{cells}")
    sources = "; ".join(
        f'{paper.method}: <cite>{paper.title}</cite>, <a href="{paper.link}">{paper.link}</a>' for paper in PAPERS
    )
    return (
        "<h2>What has been published</h2><p><b>Other pictures, other models:</b> these rows cannot be compared with this"
        " evaluation figure by figure. They show what the methods reach on public sets with backbones of some 300 million"
        " parameters at 518 pixels a side. A dash: not reported.</p>"
        "<div class=scroll tabindex=0 role=region aria-label='Published figures'><table><thead><tr><th scope=col>method and set"
        f"{heads}</thead><tbody>{''.join(rows)}</tbody></table></div><p class=none>Sources: {sources}.</p>"
    )


def _how(evaluation: Evaluation) -> str:
    ours = evaluation.measured
    told = "what their category is called" if ours.class_name is None else f"“{ours.class_name}”"
    facts = {
        "data": f"{evaluation.data}, digest {evaluation.data_sha256[:16]}",
        "model": f"{ours.detector}, weights {ours.model_sha256[:16] or '-'}, checkpoint {ours.checkpoint_sha256[:16] or '-'}",
        "told that the pictures show": told,
        "pictures read": ours.read,
        "maps and masks compared at": f"{ours.size} x {ours.size} pixels, masks by nearest neighbour",
        "pixels": "counted in 65,536 levels of score; figures are exact but for scores that share a level",
        "defects": "pixels of a mask that touch, at corners too, are one defect",
        "ranges": f"percentile bootstrap: the pictures of each category drawn anew {evaluation.draws} times with replacement, good and"
        f" defective ones each among their own (seed {evaluation.seed}); 95 % of the draws lie in the range. It speaks of other pictures of"
        " the same kind from the same camera, not of another line or light. Ranges of counts: Wilson's.",
        "program": f"edge-agent {evaluation.version}, {evaluation.created:%Y-%m-%d %H:%M} UTC",
        "command": evaluation.command,
    }
    rows = "".join(f"<tr><th scope=row>{key}<td>{escape(value)}" for key, value in facts.items())
    return f"<h2>How this was measured</h2><table class=facts><tbody>{rows}</tbody></table>"


def _card(number: str, sure: str, note: str) -> str:
    return f"<div class=card><strong>{number}</strong><em>{sure}</em><p>{escape(note)}</p></div>"


def _figure(svg: str, caption: str) -> str:
    return f"<figure>{svg}<figcaption>{caption}</figcaption></figure>"


def _range(one: Interval) -> str:
    return f"{percent(one.low)} and {percent(one.high)}"


def _median(scores: np.ndarray) -> str:
    return f"{np.median(scores):.3f}" if len(scores) else "-"


def _wilson(hits: int, count: int, z: float = 1.96) -> str:
    """What share of many more pictures it would be, in 19 of 20 cases (Wilson 1927)."""
    share = hits / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    reach = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / (1 + z * z / count)
    return f"{100 * max(0, middle - reach):.0f} and {100 * min(1, middle + reach):.0f} %"


_STYLE = """
:root{color-scheme:light}
*{box-sizing:border-box}
body{margin:0;background:#f3f4f6;color:#1f2933;font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
main{max-width:1120px;margin:0 auto;padding:32px 28px 48px;background:#fff}
h1{font-size:1.9rem;line-height:1.2;margin:0 0 .3em}
h2{font-size:1.35rem;margin:2em 0 .5em;padding-top:.6em;border-top:2px solid #e4e7eb}
h3{font-size:1.05rem;margin:1.4em 0 .2em}
p{max-width:75ch;margin:.4em 0}
.lead{font-size:1.08rem;color:#3e4c59}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(200px,1fr));gap:14px;margin:20px 0}
.card{border:1px solid #d5dae0;border-top:4px solid #5b2a86;border-radius:4px;padding:12px 14px}
.card strong{display:block;font-size:1.65rem;line-height:1.25;white-space:nowrap}
.card em{font-style:normal;color:#4b5563;font-size:.88rem}
.card p{font-size:.88rem;margin:.5em 0 0}
aside{background:#fff8e6;border-left:5px solid #b7791f;padding:2px 18px 12px;margin:20px 0}
aside h2{border:0;margin:.4em 0 .2em;padding:0;font-size:1.1rem}
.note{margin:.5em 0;font-size:.94rem;overflow-wrap:anywhere}
.scroll{overflow-x:auto;border:1px solid #e4e7eb;border-radius:4px;margin:12px 0}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:.92rem}
th,td{padding:6px 10px;text-align:right;vertical-align:top;white-space:nowrap}
th:first-child{text-align:left;font-weight:600}
thead th{background:#f0f2f5;border-bottom:2px solid #cbd2d9;vertical-align:bottom}
tbody tr+tr>*{border-top:1px solid #edf0f3}
td small{display:block;color:#4b5563;font-size:.85em}
tr.base>*{color:#4b5563;background:#fafbfc;font-weight:400}
tr.base th{padding-left:22px}
tr.mean>*{border-top:2px solid #9aa5b1;font-weight:700}
tr.mean small{font-weight:400}
tr.base.mean>*{border-top:1px solid #edf0f3;font-weight:400}
.facts{font-size:.9rem}
.facts th{width:14em;white-space:normal}
.facts td{text-align:left;white-space:normal;overflow-wrap:anywhere}
dl{display:grid;grid-template-columns:minmax(9em,auto) 1fr;gap:6px 18px;margin:.6em 0}
dt{font-weight:600}
dd{margin:0;max-width:80ch}
figure{margin:0}
figcaption{font-size:.84rem;color:#3e4c59;margin-top:4px}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(300px,1fr));gap:22px;margin:14px 0}
.wide{max-width:760px}
svg{width:100%;height:auto;display:block}
.pictures{display:grid;grid-template-columns:repeat(auto-fill,minmax(250px,1fr));gap:16px;margin:8px 0}
.pair{display:flex;gap:4px;align-items:flex-start}
.pair img{max-width:calc(50% - 2px);max-height:180px;width:auto;height:auto}
.pictures figcaption{overflow-wrap:anywhere}
.none{font-size:.92rem;color:#3e4c59}
a{color:#1d5fa8}
@media (max-width:640px){main{padding:18px 14px}dl{grid-template-columns:1fr}dd{margin-bottom:8px}}
@media print{body{background:#fff;font-size:10pt}h2,h3,h3+.none,.lead{break-after:avoid}
main{max-width:none;padding:0}section{break-before:page}
.card,figure,tr{break-inside:avoid}.scroll{overflow:visible;border:0}table{font-size:7.5pt}th,td{padding:3px 4px}
.charts{grid-template-columns:repeat(3,1fr)}.pictures{grid-template-columns:repeat(4,1fr)}}
"""
