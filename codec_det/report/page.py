"""The page put together and written.

The JSON that its scripts read has

- ``rate``, ``rateIs``, ``metrics``: for axes; what curves are over as a key and in words, and each
  metric's label, axis and digits by its key;
- ``series``, ``points``: see :mod:`.points`;
- ``records``: every run's record by its name, whole;
- ``training``: see :mod:`.training`;
- ``pictures``: see :mod:`.gallery`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from .. import __version__
from ..evaluation.metrics import metric_of
from ..evaluation.results import jsonable
from ..files import atomic_file
from ..rate_accuracy.curves import Curve, rate_axis
from ..rate_accuracy.plots import quality_axis
from ..rate_accuracy.records import Result
from ..rate_accuracy.tables import in_columns
from .gallery import Gallery
from .headline import facts, headline
from .matrices import bd_tables, explanation
from .points import point_entries, run_name, series_entries, table_rows
from .reproduction import environment, run_entries
from .training import training_runs, training_section

SCRIPTS = ("page.js", "curves.js", "pictures.js", "training.js", "print.js")


def render_page(
    root: Path,
    results: Sequence[Result],
    curves: Sequence[Curve],
    gallery: Gallery,
    warnings: Sequence[str],
    metrics: Sequence[str],
) -> str:
    """The whole page as HTML.

    Args:
        root: the folder that holds the runs, for their names.
        results: of one data set.
        curves: the results, grouped.
        warnings: what was met while reading, for the top of the page.
        metrics: qualities to show, at least one; the first in the headline and the BD tables.
    """
    training = training_runs(curves, root)
    first = metric_of(metrics[0])
    matrices, reasons = bd_tables(curves, first)
    names = ("regime", "codec", "operating point", "seeds")
    shown = in_columns(metrics, curves[0].rate)
    figures = [(metric_of(key).title, True) for key in shown]
    columns = [(name, False) for name in names] + figures
    return _template().render(
        title=f"{root.resolve().name}: rate and accuracy",
        version=__version__,
        dataset=results[0].dataset,
        created=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        source=str(root),
        headline=headline(curves, metrics[0]),
        facts=facts(results, curves),
        warnings=warnings,
        columns=[{"name": name, "number": number} for name, number in columns],
        rows=table_rows(curves, shown),
        metrics=[(key, metric_of(key).name) for key in metrics],
        bd_is=explanation(first),
        matrices=matrices,
        reasons=reasons,
        gallery=gallery.section(),
        picture_notes=gallery.notes,
        training=training_section(training, curves) if training else None,
        environment=environment(results),
        runs=run_entries(results, root),
        data=_data(root, results, curves, gallery, training, metrics),
        # Of this package and of plotly's, so trusted; all else is escaped.
        css=Markup(_asset("style.css")),
        plotly=Markup(get_plotlyjs()),
        scripts=[Markup(_asset(name)) for name in SCRIPTS],
    )


def _template() -> Any:
    environment = Environment(
        loader=PackageLoader("codec_det.report", "assets"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    # Not sorted: details have an order.
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    return environment.get_template("page.html.j2")


def _asset(name: str) -> str:
    return files("codec_det.report").joinpath("assets", name).read_text(encoding="utf-8")


def _data(
    root: Path,
    results: Sequence[Result],
    curves: Sequence[Curve],
    gallery: Gallery,
    training: list[dict[str, Any]],
    metrics: Sequence[str],
) -> dict[str, Any]:
    rate = curves[0].rate.key
    return {
        "rate": rate,
        "rateIs": rate_axis(curves),
        "metrics": {key: _describe(key, curves) for key in [*metrics, rate]},
        "series": series_entries(curves),
        "points": point_entries(curves, root, [*metrics, rate]),
        "records": {run_name(one, root): jsonable(one.record) for one in results},
        "training": {"runs": training},
        "pictures": gallery.data(),
    }


def _describe(key: str, curves: Sequence[Curve]) -> dict[str, Any]:
    metric = metric_of(key)
    return {"label": metric.name, "axis": quality_axis(curves, key), "digits": metric.digits}


def write_page(page: str, path: Path) -> None:
    """Write the page; the file appears when it is complete.

    Raises:
        CodecDetError: if it cannot be written.
    """
    with atomic_file(path) as partial:
        partial.write_text(page, encoding="utf-8")
