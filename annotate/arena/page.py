"""The arena's page: one Gradio component, whose behaviour is `assets/arena.js`; and the leaderboard, without scripts.

Answers are model text. Gradio's chat components change such text and load what it links to, so the card's own renderer
(`annotate.web.render`) shows it, and tokens arrive by a route of `annotate.arena.routes`.
"""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from annotate.web import texts as words
from annotate.web.components import gr

PATH = "/arena"
"""Where the page is mounted."""
ASSETS = Path(__file__).with_name("assets")
_TEMPLATES = Environment(
    loader=FileSystemLoader([Path(__file__).with_name("templates"), Path(words.__file__).with_name("templates")]),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def render(template: str, **values: Any) -> str:
    """The text of a template."""
    return _TEMPLATES.get_template(template).render(**values)


def build_page(html: str, title: str) -> gr.Blocks:
    """The Gradio page; `html`: its elements, without a conversation."""
    with gr.Blocks(title=title, analytics_enabled=False, fill_width=True) as page:
        gr.HTML(html, container=False, padding=False, apply_default_css=False, js_on_load=None)
    return page
