"""What the phases share: runs, data, models, evaluation, and the embedded tiny default.

Importing it settles how the libraries talk, before any of them is imported: no telemetry, and none of the warnings that
they raise about one another's code.
"""

import logging
import os
import warnings

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# bitsandbytes announces on every import on a CPU that an optional kernel package is absent.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|trl|peft|accelerate)\.")
