"""Our engine beside llama.cpp, vLLM and transformers on this machine's processors.

Ours answers through gRPC, a whole server; a peer is called inside its own process, with nothing between. For each model
and peer, rounds alternate: ours, the peer, ours, the peer. `docs/benchmarks/engine.md` says how to read the result.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.measure.checkpoints import build_models
from bench.measure.client import run_round
from bench.measure.comparison import OURS, Measured, make_medians, make_rows, tokens_per_s
from bench.measure.cpu import peak_resident_bytes
from bench.measure.limits import highest, measure_limits
from bench.measure.prompts import PROMPT_TOKENS, PromptSource
from bench.measure.roofline import ModelShape
from bench.measure.runtime import RuntimeProcess
from bench.peers.catalog import PEERS, Peer
from bench.peers.install import PeerUnavailable, install, model_file
from bench.peers.process import PeerFailed, PeerProcess
from bench.peers.turns import Turns
from bench.report import plot_lines, write_result

MODELS = ("smollm2-135m-instruct", "smollm2-moe-8x135m")
_WARM_UP_STREAMS, _WARM_UP_TOKENS = 16, 4
_IDLE_SECONDS = 10.0


def main() -> None:
    """Measures, prints and writes the result."""
    options = _options()
    # Whoever ends us ends what we started too: a stilled peer would stay for ever.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    threads = len(os.sched_getaffinity(0))
    # Before and after: a limit is the most that was ever seen.
    found = [measure_limits(threads)]
    models = build_models()
    bench = EngineBench(options, threads)
    for model in options.models:
        bench.measure_model(models / model)
    found.append(measure_limits(threads))
    limits = highest(limits for limits, _ in found)
    print(f"limits: {limits.read_gb_per_s:.1f} GB/s, {limits.bf16_gflop_per_s:.0f} GFLOP/s in bfloat16", flush=True)
    shapes = {
        model: ModelShape.from_config(json.loads((models / model / "config.json").read_text())) for model in MODELS
    }
    rows = make_rows(bench.rounds, shapes, limits, PROMPT_TOKENS + options.tokens / 2)
    settings = {
        "prompt_tokens": PROMPT_TOKENS,
        "tokens": options.tokens,
        "rounds": options.rounds,
        "threads": threads,
        "dtype": "bfloat16",
        "decoding": "greedy, EOS ignored",
        "prefix_cache": "no prompt is used twice; vLLM's is off",
    }
    medians = make_medians(bench.rounds)
    more = {"settings": settings, "limits": {**asdict(limits), "how": found[0][1]}, "medians": medians}
    print(write_result("engine", rows, **more, ours=bench.ours, peers=bench.peers))
    print(_plot(medians))


class EngineBench:
    """All rounds of a run, and what was learnt of each engine beside them."""

    def __init__(self, options: argparse.Namespace, threads: int) -> None:
        self._tokens: int = options.tokens
        self._rounds: int = options.rounds
        self._streams: tuple[int, ...] = options.streams
        self._peers: tuple[Peer, ...] = options.peers
        self._sizes = {
            "threads": threads,
            "max_streams": max(*self._streams, _WARM_UP_STREAMS),
            "max_tokens": PROMPT_TOKENS + options.tokens,
        }
        self.rounds: list[Measured] = []
        self.ours: dict[str, dict[str, Any]] = {}
        self.peers: dict[str, dict[str, Any]] = {peer.name: {"models": {}} for peer in self._peers}

    def measure_model(self, checkpoint: Path) -> None:
        """Ours stays up; one peer after the other joins it, for memory."""
        prompts = PromptSource(checkpoint)
        model = checkpoint.name
        with ExitStack() as stack:
            logs = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            runtime = stack.enter_context(RuntimeProcess(checkpoint, logs / OURS, **self._sizes))
            ready = runtime.wait_until_ready()
            run_round(runtime.address, [prompt.text for prompt in prompts.take(_WARM_UP_STREAMS)], _WARM_UP_TOKENS)
            idle = runtime.idle_cpu_percent(_IDLE_SECONDS)
            notes: dict[str, Any] = {"ready_s": round(ready, 2), "idle_cpu_percent": round(idle, 2)}
            self.ours[model] = {**notes, "flags": runtime.flags, "rounds": []}
            print(f"{model}: {OURS} is ready after {ready:.1f} s, idle at {idle:.1f} % of a core", flush=True)
            for peer in self._peers:
                self._measure_peer(peer, checkpoint, logs / peer.name, runtime, prompts)
            if not self._peers:
                self._take_turns(Turns(runtime, None, prompts, model, self._tokens))
            self.ours[model]["peak_rss_bytes"] = runtime.peak_resident_bytes()

    def _measure_peer(
        self, peer: Peer, checkpoint: Path, log: Path, runtime: RuntimeProcess, prompts: PromptSource
    ) -> None:
        notes: dict[str, Any] = {}
        self.peers[peer.name]["models"][checkpoint.name] = notes
        try:
            install(peer)
            with PeerProcess(peer, model_file(peer, checkpoint), log, **self._sizes) as process:
                notes["ready_s"] = round(process.wait_until_ready(), 2)
                self.peers[peer.name] |= {"version": process.version}
                notes |= {"settings": process.settings, "rounds": []}
                print(f"{checkpoint.name}: {peer.name} is ready after {notes['ready_s']:.1f} s", flush=True)
                process.round([prompt.ids for prompt in prompts.take(_WARM_UP_STREAMS)], _WARM_UP_TOKENS)
                self._take_turns(Turns(runtime, process, prompts, checkpoint.name, self._tokens))
                notes["peak_rss_bytes"] = peak_resident_bytes(process.session)
        except (PeerUnavailable, PeerFailed) as error:
            notes["failed"] = str(error)
            print(f"{checkpoint.name}: {peer.name} failed: {error}", flush=True)

    def _take_turns(self, turns: Turns) -> None:
        for streams in self._streams:
            for _ in range(self._rounds):
                turn = turns.take(streams)
                for measured in turn.rounds:
                    self.rounds.append(measured)
                    print(_line(measured), flush=True)
                    note = {"streams": streams, **asdict(measured.figures), "foreign_cpu": measured.foreign_cpu}
                    if measured.engine == OURS:
                        self.ours[measured.model]["rounds"].append({"beside": measured.beside, **note})
                    else:
                        note["starts_like_ours"] = turn.starts_alike
                        self.peers[measured.engine]["models"][measured.model]["rounds"].append(note)


def _line(measured: Measured) -> str:
    figures = measured.figures
    return (
        f"{measured.model} {measured.streams:3d} streams {measured.engine:12s}"
        f" {tokens_per_s(figures):7.1f} tokens/s, first {figures.first_token_s:6.3f} s,"
        f" step {1000 * figures.step_s:6.1f} ms, others {measured.foreign_cpu:4.0%}"
    )


def _plot(medians: list[dict[str, Any]]) -> Path:
    panels: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for item in medians:
        line = panels.setdefault(item["model"], {}).setdefault(item["engine"], [])
        line.append((item["streams"], item["tokens_per_s"]))
    return plot_lines("engine", panels, "streams", "tokens/s, all streams")


def _options() -> argparse.Namespace:
    names = {peer.name: peer for peer in PEERS}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round, 32 tokens, up to 32 streams")
    parser.add_argument("--models", nargs="*", choices=MODELS, default=MODELS)
    parser.add_argument("--peers", nargs="*", choices=names, default=names, help="none: ours alone")
    parser.add_argument("--streams", nargs="*", type=int)
    parser.add_argument("--tokens", type=int)
    parser.add_argument("--rounds", type=int)
    options = parser.parse_args()
    options.streams = tuple(options.streams or ((1, 4, 16, 32) if options.quick else (1, 4, 16, 32, 64)))
    options.tokens = options.tokens or (32 if options.quick else 128)
    options.rounds = options.rounds or (1 if options.quick else 3)
    options.peers = tuple(names[name] for name in options.peers)
    return options


if __name__ == "__main__":
    main()
