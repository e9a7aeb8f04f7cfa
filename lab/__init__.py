"""Where the same scaffold lands in two language models, with error bars."""

import os

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # scaffolds are intimate texts: nothing phones home
