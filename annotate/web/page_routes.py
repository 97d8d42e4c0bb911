"""Routes that only the page uses: the guidelines. The rest of what it needs is `annotate.web.api`."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends

from annotate.people.access import Access
from annotate.store.statements import Annotator
from annotate.web.contents import PageContents
from annotate.web.render import as_markdown


def page_routes(contents: PageContents, access: Access) -> APIRouter:
    """The routes, under /page."""
    router = APIRouter(prefix="/page", include_in_schema=False)
    tree = as_markdown(contents.guidelines or "")

    @router.post("/guidelines")
    def guidelines(who: Annotated[Annotator, Depends(access.required)]) -> dict[str, Any]:
        """Their text as a tree, and their version."""
        return {"version": contents.guidelines_version, "text": tree}

    return router
