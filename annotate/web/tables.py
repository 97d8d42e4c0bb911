"""The lead's tables: sortable and searchable Gradio tabs at /lead/tables, beside the pages that work without scripts.

For the role reviewer; loading items needs the role admin, and is checked where it happens. Files that people fetch or
send here lie in a folder of this process that no other account of the machine can read.
"""

import atexit
import functools
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import accumulate
from pathlib import Path
from typing import Any

import pandas as pd
from fastapi import FastAPI, Request
from pydantic import BaseModel

from annotate.config import ExportSection, QueueSection
from annotate.intake.load import load_file
from annotate.labels.export import answer_row, preferences
from annotate.labels.quality_table import Row
from annotate.labels.raw_export import note_export, raw_judgements
from annotate.people.access import Access
from annotate.people.accounts import look_up, may
from annotate.store.statements import Annotator, GivenJudgement, StoredItem
from annotate.web.components import gr
from annotate.web.downloads import note_records
from annotate.web.lead_pages import LeadPages
from annotate.web.page import mount
from annotate.web.security import MOST_ITEM_BYTES, OF_A_PAGE, GradioPage
from annotate.web.texts import Texts
from workbench.run.errors import WorkbenchError

PATH = "/lead/tables"
MOST_ROWS = 1000
"""Rows of a table; a search shows others."""
_COLUMNS = ("judged", "skipped", "gold", "repeats", "others", "reliability", "left", "longer", "median", "quick")
_UPLOAD = "/gradio_api/upload"
_WHAT = ("preferences", "answers", "demonstrations", "judgements")


@functools.cache
def private_folder() -> str:
    """Where Gradio keeps the files of these pages: readable by this account alone, removed when the process ends."""
    folder = tempfile.mkdtemp(prefix="annotate-files-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def gradio_page_of_leads(access: Access) -> GradioPage:
    """What is open at the tables, and to whom."""
    leads, admins = access.closed_to("reviewer"), access.closed_to("admin")

    def closed(request: Request) -> int:
        return (admins if request.url.path.startswith(PATH + _UPLOAD) else leads)(request)

    reads = (*OF_A_PAGE, f"/gradio_api/file={private_folder()}/", "/gradio_api/upload_progress")
    return GradioPage(PATH, closed, reads, posts=("/gradio_api/run/", _UPLOAD))


def mount_tables(
    app: FastAPI, pages: LeadPages, queue: QueueSection, page: GradioPage, *, host: str, port: int
) -> None:
    """Mount the tabs."""

    def user(request: Request) -> str | None:
        return None if page.closed(request) else pages.access.name(request)

    build = functools.partial(build_tables, pages, queue)
    head = f'<script type="module" src="{pages.assets}/tables.js"></script>'
    mount(app, build, PATH, user=user, host=host, port=port, head=head, max_file_size=MOST_ITEM_BYTES)


def build_tables(pages: LeadPages, queue: QueueSection) -> gr.Blocks:
    """The tabs."""
    os.environ["GRADIO_TEMP_DIR"] = private_folder()  # Gradio reads it when components and applications are made
    t = pages.texts
    with gr.Blocks(title=t("lead.tables"), analytics_enabled=False, fill_width=True) as blocks:
        gr.HTML(f'<a href="/lead">← {t("lead.overview")}</a><h1>{t("lead.tables")}</h1>', js_on_load=None)
        with gr.Tabs():
            with gr.Tab(t("lead.people")):
                _people(blocks, pages)
            with gr.Tab(t("lead.tables.items")):
                _items(blocks, pages)
            with gr.Tab(t("lead.progress")):
                _progress(blocks, pages)
            with gr.Tab(t("lead.export")):
                _export(pages)
            with gr.Tab(t("lead.tables.load")):
                _load(pages, queue)
    return blocks


def _table(headers: Iterable[str], numbers: Sequence[str] = (), **more: Any) -> gr.Dataframe:
    headers = list(headers)
    kinds: list[Any] = ["number" if header in numbers else "str" for header in headers]
    return gr.Dataframe(
        headers=headers, datatype=kinds, type="array", interactive=False, show_search="search", wrap=True, **more
    )


def _people(blocks: gr.Blocks, pages: LeadPages) -> None:
    t = pages.texts
    numbers = [t(f"lead.{column}") for column in _COLUMNS]
    headers = [t("lead.name"), *numbers, t("lead.tables.look")]
    widths = ["160px", *["110px"] * len(numbers), "160px"]
    people = _table(headers, numbers, label=t("lead.tables.people"), column_widths=widths)
    about = gr.Markdown(t("lead.tables.pick"))
    answers = _table([t("lead.tables.item"), t("prompt"), t("lead.tables.answer"), t("lead.tables.at")])

    def rows(request: gr.Request) -> list[list[Any]]:
        return [_person(t, row) for row in pages.surveys.get(pages.kind(_request(request)))[0].rows]

    def picked(event: gr.SelectData) -> tuple[str, list[list[str]]]:
        name = str(event.row_value[0])
        with pages.store.read() as transaction:
            account = look_up(transaction, name)
            given = [] if account is None else transaction.history(account.id, limit=MOST_ROWS)
        return t("lead.tables.answers", name=_plain(name)), [_answer(t, judgement) for judgement in given]

    blocks.load(rows, None, people, queue=False, api_visibility="private")
    people.select(picked, None, [about, answers], queue=False, api_visibility="private")


def _plain(name: str) -> str:
    """A name inside markdown: its characters are letters, digits and `. _ @ -`."""
    return name.replace("_", "\\_")


def _person(t: Texts, row: Row) -> list[Any]:
    shares = {name: getattr(row, name).value for name in ("gold", "repeats", "others", "left", "longer", "quick")}
    plain = {"judged": row.judged, "skipped": row.skipped, "reliability": row.reliability, "median": row.median_seconds}
    values = [(shares | plain)[column] for column in _COLUMNS]
    look = ", ".join(t(f"lead.warning.{warning}") for warning in row.warnings)
    return [row.name, *(round(value, 3) if isinstance(value, float) else value for value in values), look]


def _answer(t: Texts, judgement: GivenJudgement) -> list[str]:
    """A line of somebody's history; a comparison in the order of the item's answers, as everywhere on lead's pages."""
    verdict = judgement.strength if judgement.choice == "compared" else judgement.choice
    at = datetime.fromtimestamp(judgement.created_at, UTC).strftime("%Y-%m-%d %H:%M")
    return [judgement.item_id, judgement.last_message, t(f"lead.verdict.{verdict}"), at]


def _items(blocks: gr.Blocks, pages: LeadPages) -> None:
    t = pages.texts
    names = ("kind", "campaign", "round", "priority", "wanted", "done")
    headers = {name: t(f"lead.tables.{name}") for name in names}
    numbers = [headers[name] for name in ("round", "priority", "wanted", "done")]
    with gr.Row():
        search = gr.Textbox(label=t("lead.tables.search"), scale=4)
        go = gr.Button(t("lead.tables.go"), scale=1)
    found = gr.Markdown()
    table = _table([t("lead.tables.item"), t("prompt"), *headers.values()], numbers)

    def rows(words: str) -> tuple[str, list[list[Any]]]:
        with pages.store.read() as transaction:
            every = [item for item in transaction.items() if _matches(item, words or "")]
        said = t("lead.tables.found", shown=min(len(every), MOST_ROWS), found=len(every))
        return said, [_item(item) for item in every[:MOST_ROWS]]

    blocks.load(rows, search, [found, table], queue=False, api_visibility="private")
    gr.on([search.submit, go.click], rows, search, [found, table], queue=False, api_visibility="private")


def _matches(item: StoredItem, words: str) -> bool:
    """Whether the id, or a message of the prompt, contains each of the words, in any case."""
    if not words.strip():
        return True
    text = f"{item.item_id}\n" + "\n".join(turn["content"] for turn in json.loads(item.prompt))
    return all(word in text.casefold() for word in words.casefold().split())


def _item(item: StoredItem) -> list[Any]:
    prompt = json.loads(item.prompt)[-1]["content"]
    more = [item.kind, item.campaign or "", item.round, item.priority, item.overlap, item.done]
    return [item.item_id, prompt, *more]


def _progress(blocks: gr.Blocks, pages: LeadPages) -> None:
    t = pages.texts
    titles = {"x_title": t("lead.tables.at"), "y_title": t("lead.tables.labels")}
    shown: dict[str, Any] = {"x": "at", "y": "labels", "y_axis_format": ",", "height": 280, **titles}
    each = gr.BarPlot(label=t("lead.tables.each"), **shown)
    total = gr.LinePlot(label=t("lead.tables.so_far"), **shown)
    numbers = [t("lead.value"), t("lead.tables.low"), t("lead.tables.high")]
    agreement = _table([t("lead.statistic"), *numbers], numbers, label=t("lead.agreement"))

    def state(request: gr.Request) -> tuple[pd.DataFrame, pd.DataFrame, list[list[Any]]]:
        found, _ = pages.surveys.get(pages.kind(_request(request)))
        starts, counts = list(found.pace.starts), list(found.pace.counts)
        ends = [start + found.pace.bucket_seconds for start in starts]
        rows = [
            [
                t(f"agreement.{name}"),
                *(None if value is None else round(value, 3) for value in (s.value, s.low, s.high)),
            ]
            for name, s in found.agreement.items()
        ]
        return _over_time(starts, counts), _over_time([*starts[:1], *ends], accumulate(counts, initial=0)), rows

    blocks.load(state, None, [each, total, agreement], queue=False, api_visibility="private")


def _over_time(seconds: Sequence[float], labels: Iterable[int]) -> pd.DataFrame:
    return pd.DataFrame(
        {"at": pd.to_datetime(list(seconds), unit="s", utc=True), "labels": list(labels)[: len(seconds)]}
    )


def _export(pages: LeadPages) -> None:
    t, section = pages.texts, pages.export
    with gr.Row():
        what = gr.Radio([(t(f"lead.export.{name}"), name) for name in _WHAT], value=_WHAT[0], label=t("lead.export"))
        modes = [(t(f"lead.export.{mode}"), mode) for mode in ("majority", "dawid-skene", "single")]
        resolve = gr.Dropdown(modes, value=section.resolve, label=t("lead.export.resolve"))
        whose = [(t(f"lead.export.{who}"), who) for who in ("everyone", "people", "simulated")]
        who = gr.Dropdown(whose, value=section.who, label=t("lead.export.who"))
        ties = gr.Checkbox(not section.drop_ties, label=t("lead.export.ties"))
    prepare = gr.Button(t("lead.tables.prepare"))
    download = gr.DownloadButton(t("lead.tables.download"), interactive=False)
    said = gr.Markdown()

    def make(what: str, resolve: str, who: str, ties: bool, request: gr.Request) -> tuple[Any, str]:
        asked = section.model_copy(update={"resolve": resolve, "who": who, "drop_ties": not ties})
        account = pages.role("reviewer")(_request(request))
        path, count = _written(pages, account, what, ExportSection.model_validate(asked.model_dump()))
        return gr.DownloadButton(value=str(path), interactive=True), t("lead.tables.records", count=count)

    prepare.click(
        make, [what, resolve, who, ties], [download, said], queue=False, api_visibility="private", show_progress="full"
    )


def _written(pages: LeadPages, by: Annotator, what: str, asked: ExportSection) -> tuple[Path, int]:
    """Write an export to a private file: its path, and the number of records. Noted in the audit trail."""
    if what == "judgements":
        lines = [json.dumps(record, ensure_ascii=False) for record in raw_judgements(pages.store, names=asked.names)]
        note_export(pages.store, "page", by)
    else:
        made = preferences(pages.store, asked)
        if what == "answers":
            lines = [json.dumps(answer_row(answer), ensure_ascii=False) for answer in made.answers]
        else:
            records: Sequence[BaseModel] = made.preferences if what == "preferences" else made.demonstrations
            lines = [record.model_dump_json() for record in records]
        note_records(pages.store, by, what, asked, len(lines))
    path = Path(tempfile.mkdtemp(dir=private_folder())) / f"{what}.jsonl"
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path, len(lines)


def _load(pages: LeadPages, queue: QueueSection) -> None:
    t = pages.texts
    file = gr.File(label=t("lead.tables.file"), file_count="single", type="filepath")
    go = gr.Button(t("lead.tables.load"))
    said = gr.Textbox(label=t("lead.tables.result"), interactive=False, lines=6, max_lines=20)

    def load(path: str | None, request: gr.Request) -> str:
        account = pages.access.account(_request(request))
        if account is None or not may(account, "admin"):
            return t("lead.tables.admins")
        if path is None:
            return t("lead.tables.no_file")
        try:
            loaded = str(load_file(pages.store, path, queue))
        except WorkbenchError as error:
            return str(error).replace(path, Path(path).name)
        pages.surveys.forget()
        return loaded

    go.click(load, file, said, queue=False, api_visibility="private")


def _request(request: gr.Request) -> Any:
    """The request as FastAPI has it."""
    return request.request if isinstance(request, gr.Request) else request
