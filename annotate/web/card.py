"""The card on which people label, as a Gradio component.

    with gr.Blocks() as demo:
        PreferenceCard("labels.sqlite", items="pairs.jsonl")
    demo.launch()

Its HTML is made here, its behaviour is `assets/main.js`. The browser calls the server functions by plain POST requests,
without Gradio's queue: a click is answered in a few milliseconds. An answer that cannot be sent waits in the browser.
"""

import atexit
import functools
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydantic import BaseModel, ConfigDict, ValidationError

from annotate.config import PageSection, QueueSection
from annotate.store.statements import Annotator
from annotate.web.api import Given, Held, Past, Star, SubmissionBody, Withdrawal
from annotate.web.components import WithoutStub, gr
from annotate.web.contents import PageContents
from annotate.web.embed import Desk, Name, open_desk
from annotate.web.texts import ASSETS, Texts
from workbench.run.errors import WorkbenchError

_TEMPLATES = Path(__file__).with_name("templates")
_ACTIONS = [
    ("bad", "both_bad"),
    ("skip", "skip"),
    ("flag", "flag"),
    ("comment", "comment"),
    ("star", "star"),
    ("undo", "undo"),
]

_ON_LOAD = """
const root = (window.gradio_config?.root || new URL(".", document.baseURI).href).replace(/\\/*$/, "/");
// Modules keep their state, so each further card loads its own: from the same folder, at an address with more slashes.
const number = (window.annotateCards = (window.annotateCards || 0) + 1);
import(new URL(props.assets, root).href + "/".repeat(number) + "main.js").then(
  ({ start }) => start(element, {
    address: root + "gradio_api/component_server/",
    component: props.component,
    number,
    answered: (answer) => trigger("answered", answer),
  }),
  (error) => element.append(`The scripts of the card cannot be loaded: ${error.message}`),
);
"""


class _Nothing(BaseModel):
    model_config = ConfigDict(extra="forbid")


class PreferenceCard(gr.HTML, metaclass=WithoutStub):
    """A card that hands out the items of a label store and stores the answers.

    Its event `answered` fires when the server has stored an answer; the event data are the answer's fields as the
    browser sent them (`item`, `choice`, `strength`, …, sides as they were shown) and its `revision`.
    """

    def __init__(
        self,
        store: str | Path | Desk,
        *,
        items: str | Path | None = None,
        annotator: Name = None,
        title: str = "Which answer is better?",
        page: PageSection | None = None,
        queue: QueueSection | None = None,
        height: int | None = None,
        **of_html: Any,
    ) -> None:
        """Arguments up to `queue`: see `open_desk`; a `Desk` is one that is open already.

        Args:
            height: of the card, in pixels; it scrolls by itself. None: as high as the window.
            of_html: arguments of `gr.HTML`, such as `visible`.
        """
        if isinstance(store, Desk):
            desk = store
        else:
            desk = open_desk(store, items=items, annotator=annotator, title=title, page=page, queue=queue)
        # No attribute has the name of an argument: Gradio sends those to the browser. The HTML is a value of the
        # template, not the template itself, in which Gradio would run `${…}`.
        self.desk = desk
        super().__init__(
            html_template="${shell}",
            shell=card_html(desk.contents, {"store": desk.store_id, "pages": desk.pages, "height": height}),
            assets=desk.assets or _assets_by_gradio(),
            component=None,
            js_on_load=_ON_LOAD,
            server_functions=server_functions(desk),
            container=False,
            padding=False,
            apply_default_css=False,
            **of_html,
        )
        self.props["component"] = self._id


def server_functions(desk: Desk) -> list[Callable[..., Any]]:
    """What the card's scripts call, each with one JSON object; named `label_…` to clash with nothing of Gradio."""
    labelling = desk.labelling
    answers: dict[str, tuple[type[BaseModel], Callable[[Annotator, Any], Any]]] = {
        "me": (_Nothing, lambda who, _: labelling.me(who, login=desk.login)),
        "guidelines": (_Nothing, lambda who, _: labelling.guidelines()),
        "next": (_Nothing, lambda who, _: labelling.next(who)),
        "ahead": (Held, labelling.ahead),
        "submit": (SubmissionBody, labelling.submit),
        "undo": (Withdrawal, labelling.undo),
        "mine": (Past, labelling.mine),
        "again": (Given, labelling.again),
        "news": (_Nothing, lambda who, _: labelling.news(who)),
        "star": (Star, labelling.star),
    }
    return [_server_function(f"label_{name}", desk, body, answer) for name, (body, answer) in answers.items()]


def _server_function(
    name: str, desk: Desk, body: type[BaseModel], answer: Callable[[Annotator, Any], Any]
) -> Callable[..., Any]:
    def function(data: Any, request: gr.Request) -> Any:
        who = desk.who(request)  # type: ignore[arg-type]  # Gradio hands over the request as FastAPI has it
        try:
            return answer(who, body.model_validate(data))
        except (ValidationError, WorkbenchError) as error:
            raise HTTPException(422, str(error)) from None

    function.__name__ = name
    return function


@functools.cache
def _assets_by_gradio() -> str:
    """A folder that Gradio serves, relative to its root; new for each process, so that browsers never mix versions."""
    folder = Path(tempfile.mkdtemp(prefix="annotate-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    shutil.copytree(ASSETS, folder / "assets")
    gr.set_static_paths([folder])
    return f"gradio_api/file={(folder / 'assets').as_posix()}"


def card_html(contents: PageContents, more: Mapping[str, object] | None = None) -> str:
    """The card without a pair; the scripts fill it. `more`: further settings of the scripts."""
    page = contents.section
    settings = {
        "rubric": page.rubric,
        "rubric_optional": page.rubric_optional,
        "must_see": page.must_see,
        "reasons": page.reasons,
        "edit": page.edit,
        "ahead": page.ahead,
        "ask": page.ask_before_saving,
        "language": page.language,
        "guidelines": contents.guidelines_version,
        **(more or {}),
    }
    return template(
        "card.html",
        contents,
        settings=json.dumps(settings, ensure_ascii=False),
        guidelines=contents.guidelines is not None,
        version=contents.guidelines_version or "",
        actions=[*_ACTIONS[:4], *([("edit", "edit")] if page.edit else []), *_ACTIONS[4:]],
    )


def template(name: str, contents: PageContents, **values: object) -> str:
    """A template of the page, filled in."""
    environment = Environment(loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined)
    return environment.get_template(name).render(t=Texts(contents.section.language), title=contents.title, **values)
