"""What the phases share: runs, data, models, evaluation, and the embedded tiny default.

Importing it settles how the libraries behave, before any of them is imported: no telemetry, none of the warnings that
they raise about one another's code, and CPU threads that sleep while they wait for one another.
"""

import gc
import logging
import os
import warnings

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Spinning threads of two busy processes steal each other's cores: 13 times slower on two cores (docs/experiments.md).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Imports make millions of objects and no garbage: looking for it every 700 takes a seventh of a phase's start.
gc.set_threshold(50_000, 20, 20)
# bitsandbytes announces on every import on a CPU that an optional kernel package is absent.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|trl|peft|accelerate)\.")
