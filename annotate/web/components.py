"""Gradio, the one place that loads it: in half the time, and without a word to its makers.

Each time it is imported, Gradio parses the source of each of its components and writes a stub file for type checkers
beside it, which its package has already.
"""

import inspect
import os
from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

# Gradio reads these when it is imported.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")


_file_of = inspect.getfile


def _no_file_of_components(thing: Any) -> str:
    """`inspect.getfile`; Gradio writes no stub file for a component that has no source file."""
    if any(kind.__name__ == "ComponentMeta" for kind in type(thing).__mro__):
        raise OSError("a component, whose stub file is there already or not wanted")
    return _file_of(thing)


with mock.patch.object(inspect, "getfile", _no_file_of_components):
    import gradio as gr
    from gradio.component_meta import ComponentMeta
    from gradio.routes import App


class WithoutStub(ComponentMeta):
    """Metaclass of components of ours: no stub file is written beside their source."""

    def __new__(cls, *of_a_class: Any) -> Any:  # noqa: D102
        with mock.patch.object(inspect, "getfile", _no_file_of_components):
            return super().__new__(cls, *of_a_class)


def without_applications() -> AbstractContextManager[Any]:
    """For building a page that will be mounted.

    Gradio makes an application of a page when it begins and when it ends, and mounting it makes a third one, which is
    the one that serves: half of the time that a start takes.
    """
    return mock.patch.object(App, "create_app")


__all__ = ["WithoutStub", "gr", "without_applications"]
