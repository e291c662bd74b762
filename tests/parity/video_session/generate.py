"""SAM 2.1 without post-processing: clicks, box, mask, both directions, refinement, a late object, a removed one."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
import session

session.generate("2.1", postprocess=False)
