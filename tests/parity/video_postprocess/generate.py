"""SAM 2.0 with post-processing: stable masks, memories of binarised prompts, and filled holes as on CUDA."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
import session

session.generate("2.0", postprocess=True, occluded=())
