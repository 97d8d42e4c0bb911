"""`/api/v1/export`: preferences, improved answers, and every judgement as it was made. The lead's page links here."""

import json
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from fastapi.responses import StreamingResponse

from annotate.config import ExportSection, Mode, Who
from annotate.labels.export import answer_row, preferences
from annotate.labels.raw_export import note_export, raw_judgements
from annotate.people.access import IN_OPENAPI, Access
from annotate.store.database import Store
from annotate.store.statements import Annotator


def export_routes(store: Store, access: Access, section: ExportSection) -> APIRouter:
    """The routes; a request may change the values of the configuration `section`."""
    router = APIRouter(prefix="/api/v1/export", tags=["lead"], dependencies=IN_OPENAPI)
    Reviewer = Annotated[Annotator, Depends(access.role("reviewer"))]
    Asked = Annotated[ExportSection, Depends(_asked(section))]

    @router.get("/preferences")
    def export_preferences(account: Reviewer, asked: Asked) -> StreamingResponse:
        """Preference records, one JSON object a line: the file that `python -m annotate export` writes."""
        records = preferences(store, asked).preferences
        note_records(store, account, "preferences", asked, len(records))
        return _file("preferences", (record.model_dump_json() for record in records))

    @router.get("/demonstrations")
    def export_demonstrations(account: Reviewer, asked: Asked) -> StreamingResponse:
        """Answers that annotators improved, as demonstration records, one JSON object a line."""
        records = preferences(store, asked).demonstrations
        note_records(store, account, "demonstrations", asked, len(records))
        return _file("demonstrations", (record.model_dump_json() for record in records))

    @router.get("/answers")
    def export_answers(account: Reviewer, asked: Asked) -> StreamingResponse:
        """Both answers of decided and of both-bad comparisons, each marked as good or bad, one JSON object a line."""
        records = preferences(store, asked).answers
        note_records(store, account, "answers", asked, len(records))
        return _file("answers", (json.dumps(answer_row(record), ensure_ascii=False) for record in records))

    @router.get("/judgements")
    def export_judgements(account: Reviewer) -> StreamingResponse:
        """Every judgement as it was made, one JSON object a line; withdrawn and superseded ones too."""
        note_export(store, "API", account)
        records = raw_judgements(store, names=section.names)
        return _file("judgements", (json.dumps(record, ensure_ascii=False) for record in records))

    return router


def note_records(store: Store, by: Annotator, what: str, asked: ExportSection, count: int) -> None:
    """Record in the audit trail that records were exported."""
    with store.write() as transaction:
        detail = {"what": what, "resolve": asked.resolve, "who": asked.who, "records": count}
        transaction.add_event("exported", time.time(), by.id, **detail)


def _asked(section: ExportSection) -> Callable[..., ExportSection]:
    """A dependency of routes: what a request asks for; what it leaves open is as in the configuration."""

    def asked(
        resolve: Mode = section.resolve,
        who: Who = section.who,
        ties: bool = not section.drop_ties,
        edits: bool = section.edits,
        campaign: Annotated[str | None, Query(max_length=200)] = section.campaign,
    ) -> ExportSection:
        changes = {"resolve": resolve, "who": who, "drop_ties": not ties, "edits": edits, "campaign": campaign}
        return section.model_copy(update=changes)

    return asked


def _file(name: str, lines: Iterable[str]) -> StreamingResponse:
    def ended() -> Iterator[str]:
        for line in lines:
            yield line + "\n"

    headers = {"Content-Disposition": f'attachment; filename="{name}.jsonl"', "Cache-Control": "no-store"}
    return StreamingResponse(ended(), media_type="application/x-ndjson", headers=headers)
