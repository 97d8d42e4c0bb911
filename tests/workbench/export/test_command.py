import pytest

from workbench.__main__ import main
from workbench.run.errors import WorkbenchError


@pytest.mark.parametrize(
    ("to", "option"),
    [("merged", ["--type", "q8_0"]), ("gguf", ["--dtype", "bfloat16"]), ("adapter", ["--dtype", "float32"])],
)
def test_an_option_without_effect_is_refused(to, option, tmp_path):
    with pytest.raises(WorkbenchError, match=f"{option[0]}: {option[1]} has no effect on --to {to}"):
        main(["export", str(tmp_path), "--to", to, *option])
