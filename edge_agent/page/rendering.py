"""The templates of the page, rendered by Jinja with autoescape: no value becomes markup."""

from __future__ import annotations

from datetime import datetime, tzinfo

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse

from edge_agent.io.digits import told_apart
from edge_agent.io.names import printable
from edge_agent.page.access.accounts import Role
from edge_agent.page.access.sessions import Visit
from edge_agent.page.texts import language_for, languages, translations


class Templates:
    """Renders files of templates/ in the language of whoever asks."""

    def __init__(self, zone: tzinfo | None, *, has_line: bool) -> None:
        """zone: in which times are shown; None for this machine's. has_line: whether there is a view of the line as it is now."""
        self._environments = {language: _environment(language, zone, has_line) for language in languages()}

    def answer(self, template: str, visit: Visit, status: int = 200, **values: object) -> HTMLResponse:
        """Render a template as an answer. Every value is escaped.

        Args:
            template: name of a file of templates/.
            visit: what was asked, and by whom.
            status: of HTTP; default 200.
            values: what the template names.
        """
        return HTMLResponse(self._of(visit).get_template(template).render(values, visit=visit), status)

    def text(self, template: str, language: str, **values: object) -> str:
        """Render a template that is no answer.

        Args:
            template: name of a file of templates/.
            language: one of languages().
            values: what the template names.
        """
        return self._environments[language].get_template(template).render(values)

    def part(self, template: str, macro: str, visit: Visit, *values: object) -> str:
        """Return what a macro of a template makes of these values.

        Args:
            template: name of a file of templates/.
            macro: its name.
            visit: what was asked, and by whom.
            values: its arguments.
        """
        return str(getattr(self._of(visit).get_template(template).module, macro)(*values))

    def _of(self, visit: Visit) -> Environment:
        return self._environments[language_for(visit.request.headers.get("accept-language", ""))]


def _environment(language: str, zone: tzinfo | None, has_line: bool) -> Environment:
    environment = Environment(
        loader=PackageLoader("edge_agent.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.i18n"],
    )
    texts = translations(language)
    environment.install_gettext_translations(texts, newstyle=True)  # type: ignore[attr-defined]

    def local(moment: datetime) -> datetime:
        return moment.astimezone(zone)

    def clock(moment: datetime) -> str:
        return f"{local(moment):%H:%M:%S}"

    def clock_minutes(moment: datetime) -> str:
        return f"{local(moment):%H:%M}"

    def day(moment: datetime) -> str:
        return f"{local(moment):%Y-%m-%d}"

    def field(moment: datetime | None) -> str:
        return f"{local(moment):%Y-%m-%dT%H:%M}" if moment else ""

    environment.filters |= {
        "clock": clock,
        "clock_minutes": clock_minutes,
        "day": day,
        "field": field,
        "printable": printable,
        "translated": texts.gettext,  # of sentences that are not written in a template, and may have a % in them
    }
    environment.globals |= {
        "Role": Role,
        "has_line": has_line,
        "language": language,
        "told_apart": told_apart,
        "zone": lambda: _name_of(local(datetime.now())),
    }
    return environment


def _name_of(moment: datetime) -> str:
    """Return the zone of a moment: CET (UTC+01:00)."""
    offset = f"{moment:%z}"
    return f"{moment.tzname()} (UTC{offset[:3]}:{offset[3:5]})"
