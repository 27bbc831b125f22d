"""Writes the golden continuations: what Hugging Face transformers answers to prompts.json.

Run by hand, `python tests/golden/generate.py`, when a prompt or a test model changes.
Knows transformers and the two test models. Does not know our runtime: the tests that compare it
with these files must not be able to agree with themselves.

Weights are the checkpoint's bfloat16 values in float32 arithmetic, decoding is greedy with one
sequence at a time and a cache, and the end-of-text token is a token like any other. One thread
and the plainest implementations, so that the order of the sums does not depend on the machine's
size. `top2_gap` says how far the best logit was ahead: where it is below 1e-4, another order of
sums may rightly choose the other token, and everything after it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

FOLDER = Path(__file__).resolve().parent
REPOSITORY = FOLDER.parent.parent
sys.path.append(str(FOLDER.parent))  # for the digest that the golden tests use too

from checkpoints import checkpoint_sha256  # noqa: E402

NEW_TOKENS = 128
# The golden file's stem and the checkpoint it is about.
MODELS = {"smollm2": "smollm2-135m-instruct", "smollm2_moe": "smollm2-moe-8x135m"}


def main() -> None:
    """Writes one golden file for each model named on the command line, or for all."""
    parser = argparse.ArgumentParser(description="Write the golden continuations.")
    parser.add_argument("--model", choices=list(MODELS), action="append", help="default: all")
    chosen: list[str] = parser.parse_args().model or list(MODELS)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    build = [sys.executable, str(REPOSITORY / "hack" / "models" / "build.py")]
    models = Path(subprocess.run(build, check=True, stdout=subprocess.PIPE, text=True).stdout[:-1])
    for stem in chosen:
        write_golden(FOLDER / f"{stem}.json", models / MODELS[stem])


def write_golden(golden: Path, checkpoint: Path) -> None:
    """Continues every prompt with one model and writes the file."""
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(checkpoint)
    model = load(checkpoint)
    prompts = json.loads((FOLDER / "prompts.json").read_text(encoding="utf-8"))
    continued = []
    started = time.monotonic()
    for number, prompt in enumerate(prompts, start=1):
        token_ids = encode(tokenizer, prompt)
        continued.append({**prompt, **greedy(model, token_ids)})
        seconds = time.monotonic() - started
        print(f"{checkpoint.name}: {number} of {len(prompts)}, {seconds:.0f} s", file=sys.stderr)
    head = {
        "model": checkpoint.name,
        "checkpoint_sha256": checkpoint_sha256(checkpoint),
        "dtype": "float32",
        "transformers": transformers.__version__,
        "torch": torch.__version__.split("+")[0],
    }
    golden.write_text(as_lines(head, continued), encoding="utf-8")


def load(checkpoint: Path) -> Any:
    """The model in float32, with the implementations that are written out in plain PyTorch."""
    auto: Any = transformers.AutoModelForCausalLM
    config = transformers.AutoConfig.from_pretrained(checkpoint)
    experts = {"experts_implementation": "eager"} if config.model_type == "mixtral" else {}
    model = auto.from_pretrained(checkpoint, dtype=torch.float32, attn_implementation="eager", **experts)
    return model.eval()


def encode(tokenizer: Any, prompt: Mapping[str, Any]) -> list[int]:
    """The prompt's token ids: a text as it stands, messages through the chat template."""
    if "text" in prompt:
        return list(tokenizer(prompt["text"])["input_ids"])
    encoded = tokenizer.apply_chat_template(
        prompt["messages"], add_generation_prompt=True, tokenize=True, return_dict=True
    )
    return list(encoded["input_ids"])


@torch.inference_mode()
def greedy(model: Any, prompt_token_ids: Sequence[int]) -> dict[str, object]:
    """The continuation, token by token, with the lead of each token over the second best."""
    cache = transformers.DynamicCache(config=model.config)
    pending = list(prompt_token_ids)
    token_ids: list[int] = []
    gaps: list[float] = []
    while len(token_ids) < NEW_TOKENS:
        output = model(input_ids=torch.tensor([pending]), cache=cache, use_cache=True)
        best, second = output.logits[0, -1].topk(2).values.tolist()
        # The lowest id among equals, which is what an argmax gives.
        pending = [int(output.logits[0, -1].argmax())]
        token_ids += pending
        gaps.append(float(f"{best - second:.5g}"))
    return {
        "prompt_token_ids": list(prompt_token_ids),
        "token_ids": token_ids,
        "top2_gap": gaps,
    }


def as_lines(head: Mapping[str, object], prompts: Sequence[Mapping[str, object]]) -> str:
    """Compact JSON with a prompt on each line, so that a difference shows in review."""

    def compact(value: object) -> str:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))

    lines = ",\n".join(compact(prompt) for prompt in prompts)
    return f'{compact(head)[:-1]},"prompts":[\n{lines}\n]}}\n'


if __name__ == "__main__":
    main()
