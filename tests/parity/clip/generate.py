"""CLIP as Hugging Face has it: both towers in one file, its image processor, and its tokenizer."""

import json
import sys
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, PreTrainedTokenizerFast
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

sys.path.insert(0, str(Path(__file__).parents[1]))
from encoders import pixels, published, random, randomize, write

HERE = Path(__file__).parent
SIZES = dict(hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=48)
CONFIG = CLIPConfig(
    text_config=dict(vocab_size=60, max_position_embeddings=16, bos_token_id=58, eos_token_id=59, **SIZES),
    vision_config=dict(image_size=48, patch_size=8, **SIZES),
    projection_dim=24,
)
LENGTHS, TOKENS = [12, 7, 3], 12
SENTENCES = [
    "the guitar that sounds longest",
    "The  Cello, left of the man's drum!",
    "naïve café № 5 🎻",
    "a " * 40,
]


def tokenizer():
    """A small one with the parts of openai/clip-vit-base-patch16's tokenizer.json."""
    made = Tokenizer(models.BPE(unk_token="<|endoftext|>", end_of_word_suffix="</w>", continuing_subword_prefix=""))
    made.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    words = r"""'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(words), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=560,
        special_tokens=["<|startoftext|>", "<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    made.train_from_iterator(["the guitar sounds longest", "left of the man with a drum", "a cello and a viola"], trainer)
    ends = {token: made.token_to_id(token) for token in ["<|endoftext|>", "<|startoftext|>"]}
    made.post_processor = processors.RobertaProcessing(*ends.items(), trim_offsets=False, add_prefix_space=False)
    return made


made = tokenizer()
made.save(str(HERE / "tokenizer.json"), pretty=False)
fast = PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<|endoftext|>")
encoded = fast(SENTENCES, padding="max_length", truncation=True, max_length=20)
rows = zip(SENTENCES, encoded["input_ids"], encoded["attention_mask"])
lines = [json.dumps({"text": text, "ids": ids, "mask": mask}, ensure_ascii=False) for text, ids, mask in rows]
(HERE / "tokens.json").write_text("[\n" + ",\n".join(lines) + "\n]\n")

model = randomize(CLIPModel(CONFIG), 1)
published(model, HERE / "weights.safetensors")
# Files of older versions hold these buffers.
positions = {f"{tower}.embeddings.position_ids": torch.arange(n)[None] for tower, n in [("text_model", 16), ("vision_model", 37)]}
torch.save(model.state_dict() | positions, HERE / "weights.pt")

images = random(2, 2, 3, 48, 48)
ids = torch.randint(1, 58, (len(LENGTHS), TOKENS), generator=torch.Generator().manual_seed(3))
mask = torch.arange(TOKENS)[None] < torch.tensor(LENGTHS)[:, None]
ids[~mask] = CONFIG.text_config.eos_token_id
ids[:, 0] = CONFIG.text_config.bos_token_id
with torch.no_grad():
    text = model.text_model(input_ids=ids, attention_mask=mask.long()).last_hidden_state
    vision = model.vision_model(pixel_values=images).last_hidden_state
size = dict(size={"shortest_edge": 48}, crop_size={"height": 48, "width": 48})
write(
    HERE / "fixture.safetensors",
    {"images": images, "vision": vision, "ids": ids.float(), "mask": mask.float(), "text": text}
    | pixels(CLIPImageProcessorPil(**size), CLIPImageProcessor(**size)),
)
