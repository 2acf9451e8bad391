"""The templates of the page, rendered by Jinja with autoescape: no value becomes markup."""

from __future__ import annotations

from datetime import datetime, tzinfo

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse

from edge_agent.io.digits import told_apart
from edge_agent.io.names import printable
from edge_agent.page.access.accounts import Role
from edge_agent.page.access.sessions import Visit


class Templates:
    """Renders files of templates/ as answers."""

    def __init__(self, zone: tzinfo | None, *, has_line: bool) -> None:
        """zone: in which times are shown; None for this machine's. has_line: whether there is a view of the line as it is now."""
        self._environment = Environment(
            loader=PackageLoader("edge_agent.page"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=["jinja2.ext.i18n"],
        )
        self._environment.install_null_translations(newstyle=True)  # type: ignore[attr-defined]

        def local(moment: datetime) -> datetime:
            return moment.astimezone(zone)

        self._environment.filters |= {
            "clock": lambda moment: f"{local(moment):%H:%M:%S}",
            "day": lambda moment: f"{local(moment):%Y-%m-%d}",
            "field": lambda moment: f"{local(moment):%Y-%m-%dT%H:%M}" if moment else "",
            "printable": printable,
        }
        self._environment.globals |= {
            "Role": Role,
            "has_line": has_line,
            "told_apart": told_apart,
            "zone": lambda: _name_of(local(datetime.now())),
        }

    def answer(self, template: str, visit: Visit, status: int = 200, **values: object) -> HTMLResponse:
        """Render a template as an answer. Every value is escaped.

        Args:
            template: name of a file of templates/.
            visit: what was asked, and by whom.
            status: of HTTP; default 200.
            values: what the template names.
        """
        return HTMLResponse(self._environment.get_template(template).render(values, visit=visit), status)

    def text(self, template: str, **values: object) -> str:
        """Render a template that is no answer. template: name of a file of templates/. values: what it names, escaped."""
        return self._environment.get_template(template).render(values)

    def part(self, template: str, macro: str, *values: object) -> str:
        """Return what a macro of a template makes of these values.

        Args:
            template: name of a file of templates/.
            macro: its name.
            values: its arguments.
        """
        return str(getattr(self._environment.get_template(template).module, macro)(*values))


def _name_of(moment: datetime) -> str:
    """Return the zone of a moment: CET (UTC+01:00)."""
    offset = f"{moment:%z}"
    return f"{moment.tzname()} (UTC{offset[:3]}:{offset[3:5]})"
