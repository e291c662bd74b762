"""Token ids of all expressions of a data set against transformers' fast tokenizer of the same tokenizer.json, by hand.

    cargo build --release -p burn-love --example token_ids
    python tokens.py --program ../../../target/release/examples/token_ids --data DIR [--tokenizer F] [--tokens 25]

DIR holds metadata.csv. Needs transformers and tokenizers.
"""

import argparse
import csv
import subprocess
import sys
from pathlib import Path

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

parser = argparse.ArgumentParser()
parser.add_argument("--program", type=Path, required=True)
parser.add_argument("--data", type=Path, required=True)
parser.add_argument("--tokenizer", type=Path, default=Path(__file__).parents[3] / "assets/nano-tokenizer.json")
parser.add_argument("--tokens", type=int, default=25)
arguments = parser.parse_args()

with (arguments.data / "metadata.csv").open(newline="") as table:
    rows = list(csv.DictReader(table))
column = next(name for name in rows[0] if name.startswith("exp"))
sentences = sorted({" ".join(row[column].splitlines()) for row in rows})

tokenizer = Tokenizer.from_file(str(arguments.tokenizer))
pad = next(token for token in ["<pad>", "<|endoftext|>"] if tokenizer.token_to_id(token) is not None)
fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=pad)
expected = fast(sentences, padding="max_length", truncation=True, max_length=arguments.tokens)["input_ids"]
command = [arguments.program.resolve(), arguments.tokenizer, str(arguments.tokens)]
output = subprocess.run(command, input="\n".join(sentences) + "\n", capture_output=True, text=True, check=True).stdout
found = [[int(number) for number in line.split()] for line in output.splitlines()]
assert len(found) == len(expected), (len(found), len(expected))
wrong = [i for i, ids in enumerate(found) if ids != expected[i]]
for i in wrong[:5]:
    print(f"{sentences[i]!r}\n  found    {found[i]}\n  expected {expected[i]}")
print(f"{len(sentences)} expressions, {len(wrong)} differ")
sys.exit(bool(wrong))
