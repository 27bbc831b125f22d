"""transformers: `generate` over the whole batch. Runs in the environment that `requirements/transformers.txt` makes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import transformers

from bench.peers.line_protocol import Engine, Options, Recorder, serve


def start(options: Options) -> Engine:
    """Loads the model in bfloat16."""
    torch.set_num_threads(options.threads)
    settings: dict[str, Any] = {"dtype": "bfloat16", "attn_implementation": "sdpa"}
    config = transformers.AutoConfig.from_pretrained(options.model)
    if getattr(config, "num_local_experts", 0):
        # At every batch as quick as the other implementations for the CPU, or quicker.
        settings["experts_implementation"] = "grouped_mm"
    model = transformers.AutoModelForCausalLM.from_pretrained(options.model, **settings).eval()
    # Nothing ends a stream before its length.
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0

    def generate(prompts: Sequence[Sequence[int]], max_tokens: int) -> Recorder:
        recorder = Recorder(len(prompts))

        def note(input_ids: torch.Tensor, scores: object, **_: object) -> torch.Tensor:
            recorder.tokens(0, input_ids[:, -1].tolist())
            return torch.zeros(len(prompts), dtype=torch.bool)

        with torch.inference_mode():
            ids = torch.tensor([list(prompt) for prompt in prompts])
            model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=max_tokens,
                do_sample=False,
                stopping_criteria=transformers.StoppingCriteriaList([note]),
            )
        return recorder

    versions = f"{transformers.__version__} (torch {torch.__version__})"
    return Engine(
        versions, {**settings, "threads": options.threads, "batch": "one generate() for all prompts"}, generate
    )


if __name__ == "__main__":
    serve(start)
