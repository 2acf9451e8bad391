"""The templates of the report, rendered by Jinja with autoescape: no value becomes markup."""

from __future__ import annotations

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from trainer.evaluate.metrics import FIGURES
from trainer.report.formats import interval, percent, title, wilson


def render(template: str, **values: object) -> Markup:
    """Render a file of templates/ with these values. Every value is escaped, unless it was rendered here itself."""
    return Markup(_environment().get_template(template).render(values))


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("trainer.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"interval": interval, "percent": percent, "title": title, "wilson": wilson}
    environment.globals["figure_names"] = FIGURES
    return environment
