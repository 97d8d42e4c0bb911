"""Renders the self-contained HTML pages: no script, nothing fetched, every text escaped."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from workbench.evaluate.charts import visible
from workbench.evaluate.tables import number

TEMPLATES = Path(__file__).parent / "templates"


def render_page(template: Path, *, filters: dict[str, Callable[..., Any]] | None = None, **values: Any) -> str:
    """A template with its values as text.

    Templates have the filters `svg` (markup that is trusted) and `number`, and may include a file of `TEMPLATES` or of
    their own folder. A name that has no value is an error.

    Args:
        template: the template's file.
        filters: further filters, by name.
        values: what the template shows.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([template.parent, TEMPLATES]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"svg": Markup, "number": number, **(filters or {})}
    return environment.get_template(template.name).render(**values)


def _shown(value: object) -> object:
    """Control characters made visible in every text that reaches a page; escaping follows."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value
