"""Gradio, the one place that loads it: in half the time, and without a word to its makers.

Each time it is imported, Gradio parses the source of each of its components and writes a stub file for type checkers
beside it, which its package has already.
"""

import inspect
import os
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


class WithoutStub(ComponentMeta):
    """Metaclass of components of ours: no stub file is written beside their source."""

    def __new__(cls, *of_a_class: Any) -> Any:  # noqa: D102
        with mock.patch.object(inspect, "getfile", _no_file_of_components):
            return super().__new__(cls, *of_a_class)


__all__ = ["WithoutStub", "gr"]
