"""SAM 2.0 with the post-processing that a CPU does: stable masks and memories of binarised prompts."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
import session

session.generate("2.0", postprocess=True)
