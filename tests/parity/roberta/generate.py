"""RoBERTa as Hugging Face has it: inside a language model's file, and as PyTorch saves the bare model."""

import sys
from pathlib import Path

import torch
from transformers import RobertaConfig, RobertaForMaskedLM, RobertaModel

sys.path.insert(0, str(Path(__file__).parents[1]))
from encoders import published, randomize, write

HERE = Path(__file__).parent
CONFIG = RobertaConfig(
    vocab_size=60,
    max_position_embeddings=20,
    type_vocab_size=1,
    hidden_size=32,
    num_hidden_layers=3,
    num_attention_heads=4,
    intermediate_size=48,
    layer_norm_eps=1e-5,  # the published models' value
)
LENGTHS, TOKENS = [12, 7, 3], 12

language = randomize(RobertaForMaskedLM(CONFIG), 1)
published(language, HERE / "weights.safetensors")
bare = randomize(RobertaModel(CONFIG), 2)
bare.load_state_dict(language.roberta.state_dict(), strict=False)
# Files of older versions hold this buffer.
positions = {"embeddings.position_ids": torch.arange(20)[None]}
torch.save(bare.state_dict() | positions, HERE / "weights.pt")

ids = torch.randint(3, 60, (len(LENGTHS), TOKENS), generator=torch.Generator().manual_seed(3))
mask = torch.arange(TOKENS)[None] < torch.tensor(LENGTHS)[:, None]
ids[~mask] = CONFIG.pad_token_id
with torch.no_grad():
    hidden = bare(input_ids=ids, attention_mask=mask.long()).last_hidden_state
write(HERE / "fixture.safetensors", {"ids": ids.float(), "mask": mask.float(), "hidden": hidden})
