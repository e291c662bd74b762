"""SAM 2.1 with switches that the published configs leave alone: each second frame remembered, the nearest two prompted
frames looked at, and refined frames as prompted ones."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
import session

session.generate(
    "2.1",
    postprocess=False,
    memory_temporal_stride_for_eval=2,
    max_cond_frames_in_attn=2,
    add_all_frames_to_correct_as_cond=True,
)
