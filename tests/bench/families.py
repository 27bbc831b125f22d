"""Every family's parity with its reference, and with itself: the figures behind `docs/models/families.md`.

The tests in `tests/families` say pass or fail; this says by how much.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import torch

from bench.measure.eight_bits import measure_eight_bits
from bench.measure.structured import measure_structured
from bench.report import write_result
from families.catalog import MODELS, write_checkpoint
from families.ours import Sequences, load
from families.published import MODELS as PUBLISHED
from families.test_parity import NEW_TOKENS, PROMPT_TOKENS, greedy, prompt
from openmodel_kernels.cpu.kernels import CpuKernels


def main() -> None:
    """Measures, prints and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less text, fewer tokens")
    quick = parser.parse_args().quick
    rows = []
    for name in MODELS:
        with tempfile.TemporaryDirectory() as folder:
            row = _measure(name, Path(folder))
        rows.append(row)
        print(
            f"{name:18s} logits differ by {row['parity_max_abs']:.1e} of {row['logits_std']:.1f},"
            f" greedy equal: {row['greedy_equal']}, invariant: {row['invariant']}",
            flush=True,
        )
    int8 = measure_eight_bits(text_tokens=4096 if quick else 16384, steps=64 if quick else 256)
    print(
        f"int8: decodes {int8['decode_ratio']:.2f} times as fast, perplexity {int8['perplexity_ratio']:.4f} times",
        flush=True,
    )
    structured = measure_structured(tokens=64 if quick else 128)
    print(f"structured output: {structured['throughput_ratio']:.3f} of the throughput without", flush=True)
    print(write_result("families", rows, int8=int8, structured=structured, real_shapes=sorted([*PUBLISHED, "Grok-1"])))


def _measure(name: str, folder: Path) -> dict[str, Any]:
    (folder / "float32").mkdir()
    (folder / "bfloat16").mkdir()
    theirs = write_checkpoint(name, folder / "float32")
    ours = load(folder / "float32", CpuKernels(), torch.float32)
    tokens = prompt()
    with torch.inference_mode():
        expected = theirs(torch.tensor([tokens])).logits[0]
        continued = theirs.generate(torch.tensor([tokens]), max_new_tokens=NEW_TOKENS, do_sample=False)[0]
    logits = Sequences(ours, 1).run([tokens])[0]
    write_checkpoint(name, folder / "bfloat16", torch.bfloat16)
    rounded = load(folder / "bfloat16", CpuKernels(), torch.bfloat16)
    whole = Sequences(rounded, 1).run([tokens])[0]
    one_by_one = Sequences(rounded, 1)
    parts = [one_by_one.run([[token]])[0] for token in tokens]
    return {
        "family": name,
        "parity_max_abs": float((logits - expected).abs().max()),
        "logits_std": float(expected.std()),
        "greedy_equal": greedy(ours, tokens, NEW_TOKENS) == continued[PROMPT_TOKENS:].tolist(),
        "invariant": bool(torch.equal(torch.cat(parts), whole)),
    }


if __name__ == "__main__":
    main()
