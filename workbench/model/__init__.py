"""The quantised base, its roles, log-probabilities, sampling, and what drives a TRL trainer.

Importing this room settles how the libraries below it talk: no telemetry, no progress bars beside ours, and none of
the deprecation warnings that they raise about one another's code.
"""

import logging
import os
import warnings

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# bitsandbytes announces on every CPU load that an optional kernel package is absent.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|trl|peft|accelerate)\.")

import datasets  # noqa: E402
import transformers  # noqa: E402

transformers.utils.logging.disable_progress_bar()
transformers.utils.logging.set_verbosity_error()
datasets.disable_progress_bars()
