"""llama.cpp through its C interface: batched decoding, the best token by argmax.

Runs in the environment that `requirements/llama_cpp.txt` makes; the model is the file that `write_gguf` made.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import llama_cpp  # type: ignore[import-not-found]  # in the peer's environment only
import numpy as np

from bench.peers.line_protocol import Engine, Options, Recorder, serve

# Prompt tokens that one call computes. So the first prompts have their token while the last still wait.
_PROMPT_TOKENS = 512
Entry = tuple[int, int, int, bool]
"""Token, position, stream, whether its logits are wanted."""


class LlamaCpp:
    """A loaded model and its context."""

    def __init__(self, options: Options) -> None:
        self._quiet = llama_cpp.llama_log_callback(lambda level, text, data: None)
        llama_cpp.llama_log_set(self._quiet, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        self._model = llama_cpp.llama_model_load_from_file(
            str(options.model).encode(), llama_cpp.llama_model_default_params()
        )
        if not self._model:
            raise RuntimeError("llama.cpp does not load the file")
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = options.max_streams * options.max_tokens
        params.n_batch = params.n_ubatch = _PROMPT_TOKENS
        params.n_seq_max = options.max_streams
        params.n_threads = params.n_threads_batch = options.threads
        params.no_perf = True
        # A cache of its own for each stream: none attends over the others' cells.
        params.kv_unified = False
        # Measured: a seventh quicker in decoding than with flash attention, a fifth slower in prompts.
        params.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self._context = llama_cpp.llama_init_from_model(self._model, params)
        if not self._context:
            raise RuntimeError("llama.cpp makes no context")
        self._vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self._model))
        self._batch = llama_cpp.llama_batch_init(_PROMPT_TOKENS, 0, 1)
        self.settings: dict[str, Any] = {
            "file": "bf16 GGUF",
            "threads": options.threads,
            "n_ctx": params.n_ctx,
            "n_ubatch": params.n_ubatch,
            "kv_unified": False,
            "flash_attn": False,
            "kv_cache": "f16",
        }

    def generate(self, prompts: Sequence[Sequence[int]], max_tokens: int) -> Recorder:
        """All prompts, as many at a time as one call takes, then all streams together."""
        recorder = Recorder(len(prompts))
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), False)
        at_once = max(1, _PROMPT_TOKENS // max(map(len, prompts)))
        latest: list[int] = []
        for first in range(0, len(prompts), at_once):
            entries = [
                (token, position, stream, position == len(prompt) - 1)
                for stream, prompt in enumerate(prompts[first : first + at_once], start=first)
                for position, token in enumerate(prompt)
            ]
            new = self._best(entries)
            recorder.tokens(first, new)
            latest += new
        for step in range(max_tokens - 1):
            latest = self._best(
                [(token, len(prompts[stream]) + step, stream, True) for stream, token in enumerate(latest)]
            )
            recorder.tokens(0, latest)
        return recorder

    def _best(self, entries: Sequence[Entry]) -> list[int]:
        """The likeliest next token after each entry whose logits are wanted."""
        batch = self._batch
        batch.n_tokens = len(entries)
        for index, (token, position, stream, wanted) in enumerate(entries):
            batch.token[index] = token
            batch.pos[index] = position
            batch.n_seq_id[index] = 1
            batch.seq_id[index][0] = stream
            batch.logits[index] = wanted
        code = llama_cpp.llama_decode(self._context, batch)
        if code:
            raise RuntimeError(f"llama_decode returned {code}")
        rows = sum(wanted for *_, wanted in entries)
        logits = np.ctypeslib.as_array(llama_cpp.llama_get_logits(self._context), shape=(rows, self._vocab))
        return [int(token) for token in logits.argmax(axis=1)]


def start(options: Options) -> Engine:
    """Loads the file."""
    engine = LlamaCpp(options)
    return Engine(f"llama-cpp-python {llama_cpp.__version__}", engine.settings, engine.generate)


if __name__ == "__main__":
    serve(start)
