"""configs/accelerate: the installed accelerate reads each file, knows every key, and the headers are honest."""

import re
from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import launch_command_parser
from accelerate.utils import DistributedType

ROOT = Path(__file__).parents[1]
FILES = {
    "ddp": DistributedType.MULTI_GPU,
    "fsdp": DistributedType.FSDP,
    "deepspeed": DistributedType.DEEPSPEED,
}


def path_of(name: str) -> Path:
    return ROOT / "configs/accelerate" / f"{name}.yaml"


@pytest.mark.parametrize("name", list(FILES))
def test_accelerate_reads_it(name):
    config = load_config_from_file(str(path_of(name)))  # refuses unknown keys
    assert config.distributed_type == FILES[name]
    assert config.num_processes > 1
    assert config.use_cpu is False


@pytest.mark.parametrize("name", list(FILES))
def test_keys_of_its_plugin_are_options_of_accelerate_launch(name):
    options = {action.dest for action in launch_command_parser()._actions}
    sections = yaml.safe_load(path_of(name).read_text(encoding="utf-8"))
    plugin = {**sections.get("fsdp_config", {}), **sections.get("deepspeed_config", {})}
    assert bool(plugin) == (name != "ddp")
    assert plugin.keys() <= options


def test_an_unknown_key_is_refused(tmp_path):
    spoilt = tmp_path / "ddp.yaml"
    spoilt.write_text(path_of("ddp").read_text(encoding="utf-8") + "num_procesess: 3\n", encoding="utf-8")
    with pytest.raises(ValueError, match="num_procesess"):
        load_config_from_file(str(spoilt))


@pytest.mark.parametrize("name", list(FILES))
def test_the_header_says_what_it_was_tried_on(name):
    text = path_of(name).read_text(encoding="utf-8")
    assert re.search(r"^# Tried on: ", text, re.MULTILINE)
    assert re.search(
        rf"^# Command:  accelerate launch --config_file configs/accelerate/{name}\.yaml -m ", text, re.MULTILINE
    )
