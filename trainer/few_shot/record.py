"""What few-shot measuring found, as JSON (`trainer evaluate --shots --json`) and as a table for a terminal.

Figures are in percent, scores and thresholds in [0, 1]; null where there is none. Keys that a newer version adds are ignored.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from edge_agent import __version__
from edge_agent.io.pictures import printable
from trainer.evaluate.metrics import FIGURES
from trainer.evaluate.record import finite_or_none
from trainer.few_shot.measure import RATES, Draw, FewShotResult
from trainer.io.files import write_whole
from trainer.report.formats import percent, title

SCHEMA: Literal["edge-agent/few-shot/1"] = "edge-agent/few-shot/1"
SHOWN = ("image_auroc", "pixel_auroc", "pixel_aupro")  # figures of the table; the file has all
Number = Annotated[float, Field(allow_inf_nan=False)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=(), populate_by_name=True)


class SpreadRecord(_Record):
    """Mean and standard deviation of a number over draws, its lowest and its highest; deviation is null of a single draw."""

    mean: Number | None
    deviation: Number | None
    lowest: Number | None
    highest: Number | None

    @classmethod
    def of(cls, values: Sequence[float]) -> SpreadRecord:
        """Make the record of one number a draw; NaN counts as none."""
        known = [value for value in values if math.isfinite(value)]
        if not known:
            return cls(mean=None, deviation=None, lowest=None, highest=None)
        return cls(
            mean=finite_or_none(statistics.mean(known)),
            deviation=finite_or_none(statistics.stdev(known)) if len(known) > 1 else None,
            lowest=finite_or_none(min(known)),
            highest=finite_or_none(max(known)),
        )

    def __str__(self) -> str:
        if self.mean is None:
            return "-"
        return percent(self.mean) + ("" if self.deviation is None else f" ± {self.deviation:.1f}")


class PointRecord(_Record):
    """One promise in one draw, see measure.OperatingPoint. rate: in [0, 1]."""

    rate: Number
    certain: bool
    threshold: Number
    missed: int
    defective: int
    false_alarms: int
    good: int


class DrawRecord(_Record):
    """One draw: its good pictures, below the data folder, its figures and its promises."""

    shown: list[str]
    figures: dict[str, Number | None]
    points: list[PointRecord]


class PromiseRecord(_Record):
    """One promise over all draws, in percent: defects missed, and good pictures called NotOK. rate: in [0, 1]."""

    rate: Number
    certain: bool
    missed: SpreadRecord
    false_alarms: SpreadRecord


class FewShotCategory(_Record):
    """One category. from_training: the good pictures are of the training split, else of the test split. skipped: by path."""

    from_training: bool
    figures: dict[str, SpreadRecord]
    promises: list[PromiseRecord]
    draws: list[DrawRecord]
    skipped: dict[str, str]


class FewShotRecord(_Record):
    """A whole run. mean: over categories, draw by draw. shots: good pictures a draw. seed: of the first draw."""

    schema_name: Literal["edge-agent/few-shot/1"] = Field(alias="schema")
    created: AwareDatetime
    version: str
    command: str
    data: str
    detector: str
    model_sha256: str
    shots: int
    draws: int
    seed: int
    mean: dict[str, SpreadRecord]
    promises: list[PromiseRecord]
    categories: dict[str, FewShotCategory]


def few_shot_record(
    results: Sequence[FewShotResult],
    *,
    detector: str,
    model_sha256: str,
    folder: Path,
    shots: int,
    seed: int,
    command: str,
) -> FewShotRecord:
    """Make the record of a run, dated now.

    Args:
        results: of every category, at least one, all of as many draws.
        detector: its name.
        model_sha256: digest (hex) of the backbone's weights.
        folder: of the data.
        shots: good pictures a draw.
        seed: of the first draw.
        command: as it was typed.
    """
    by_draw = list(zip(*(one.draws for one in results), strict=True))
    return FewShotRecord(
        schema=SCHEMA,
        created=datetime.now(timezone.utc),
        version=__version__,
        command=command,
        data=folder.resolve().name,
        detector=detector,
        model_sha256=model_sha256,
        shots=shots,
        draws=len(by_draw),
        seed=seed,
        mean={name: SpreadRecord.of([_mean(one, name) for one in by_draw]) for name in FIGURES},
        promises=_promises(by_draw),
        categories={one.category: _category(one, folder) for one in results},
    )


def write_few_shot(record: FewShotRecord, path: Path) -> None:
    """Write the file, whole or not at all. Raises EdgeAgentError."""
    write_whole(path, record.model_dump_json(by_alias=True, indent=1).encode() + b"\n")


def lines(record: FewShotRecord) -> Iterator[str]:
    """Yield a table: figures by category, then what each promise does."""
    wide = max(12, *(len(name) for name in record.categories)) + 1
    parts = f"{record.draws} draw{'s' * (record.draws > 1)} of {record.shots} good picture{'s' * (record.shots > 1)}"
    yield f"{record.detector}; percent; mean ± standard deviation of {parts}, none of which is measured"
    promised = [f"{100 * one.rate:.0f} %" for one in record.promises]
    yield (
        f"{'category':{wide}}{''.join(f'{title(name):>16}' for name in SHOWN)}"
        + "".join(f"{f'missed at {one}':>18}{'false alarms':>16}" for one in promised)
    )
    rows = [(name, one.figures, one.promises) for name, one in record.categories.items()]
    if len(rows) > 1:
        rows.append(("mean", record.mean, record.promises))
    for name, figures, promises in rows:
        yield (
            f"{name:{wide}}{''.join(f'{figures[key]!s:>16}' for key in SHOWN)}"
            + "".join(f"{one.missed!s:>18}{one.false_alarms!s:>16}" for one in promises)
        )
    uncertain = [text for text, one in zip(promised, record.promises, strict=True) if not one.certain]
    if uncertain:
        yield (
            f"so few good pictures cannot promise {' or '.join(uncertain)} false alarms: that threshold is an estimate from how much"
            " the shown ones differ; the false alarms beside it are counted"
        )
    ours = [name for name, one in record.categories.items() if not one.from_training]
    if ours:
        yield f"{', '.join(ours)}: no good training pictures, so each draw is taken out of the good pictures that are measured"


def _category(result: FewShotResult, folder: Path) -> FewShotCategory:
    return FewShotCategory(
        from_training=result.from_training,
        figures={name: SpreadRecord.of([one.figures[name] for one in result.draws]) for name in FIGURES},
        promises=_promises([(one,) for one in result.draws]),
        draws=[
            DrawRecord(
                shown=[_below(path, folder) for path in one.shown],
                figures={name: finite_or_none(value) for name, value in one.figures.items()},
                points=[
                    PointRecord(
                        rate=float(point.rate),
                        certain=point.certain,
                        threshold=point.threshold,
                        missed=point.missed,
                        defective=point.defective,
                        false_alarms=point.false_alarms,
                        good=point.good,
                    )
                    for point in one.points
                ],
            )
            for one in result.draws
        ],
        skipped={_below(one.path, folder): one.reason for one in result.skipped},
    )


def _promises(by_draw: Sequence[Sequence[Draw]]) -> list[PromiseRecord]:
    """Make the records of all promises. by_draw: of each draw, its categories."""
    found = []
    for number, rate in enumerate(RATES):
        points = [[one.points[number] for one in categories] for categories in by_draw]
        found.append(
            PromiseRecord(
                rate=float(rate),
                certain=all(one.certain for draw in points for one in draw),
                missed=SpreadRecord.of([_share([(one.missed, one.defective) for one in draw]) for draw in points]),
                false_alarms=SpreadRecord.of(
                    [_share([(one.false_alarms, one.good) for one in draw]) for draw in points]
                ),
            )
        )
    return found


def _share(counts: Sequence[tuple[int, int]]) -> float:
    """Return the mean over categories of a share, in percent; NaN where no category has any."""
    shares = [100 * some / every for some, every in counts if every]
    return statistics.mean(shares) if shares else math.nan


def _mean(draws: Sequence[Draw], name: str) -> float:
    known = [one.figures[name] for one in draws if math.isfinite(one.figures[name])]
    return statistics.mean(known) if known else math.nan


def _below(path: Path, folder: Path) -> str:
    return printable(path.relative_to(folder) if path.is_relative_to(folder) else path)
