"""Writes the tokenizer's files of a checkpoint from the vocabulary of the GGUF file.

Knows the shape of tokenizer.json, tokenizer_config.json, special_tokens_map.json and
generation_config.json. Does not know weights.
"""

from __future__ import annotations

from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from checkpoint_folder import write_json
from smollm2_gguf import Vocabulary


def write_tokenizer_files(folder: Path, vocabulary: Vocabulary, max_length: int) -> None:
    """All files that turn messages into token ids and back."""
    build_tokenizer(vocabulary).save(str(folder / "tokenizer.json"), pretty=True)
    special = _special_tokens(vocabulary)
    write_json(
        folder / "special_tokens_map.json",
        {
            "additional_special_tokens": [special["bos_token"], special["eos_token"]],
            **{role: _described(token) for role, token in special.items()},
        },
    )
    write_json(
        folder / "tokenizer_config.json",
        {
            "add_prefix_space": False,
            "added_tokens_decoder": {
                str(index): {**_described(vocabulary.tokens[index]), "special": True}
                for index in vocabulary.control_ids
            },
            "additional_special_tokens": [special["bos_token"], special["eos_token"]],
            "bos_token": special["bos_token"],
            "chat_template": vocabulary.chat_template,
            "clean_up_tokenization_spaces": False,
            "eos_token": special["eos_token"],
            "model_max_length": max_length,
            "pad_token": special["pad_token"],
            # The generic class takes tokenizer.json as it is; a class named after one model may
            # put that model's own splitting in place of the digits rule below.
            "tokenizer_class": "PreTrainedTokenizerFast",
            "unk_token": special["unk_token"],
        },
    )
    write_json(
        folder / "generation_config.json",
        {
            "_from_model_config": True,
            "bos_token_id": vocabulary.bos_id,
            "eos_token_id": vocabulary.eos_id,
            "pad_token_id": vocabulary.pad_id,
        },
    )


def build_tokenizer(vocabulary: Vocabulary) -> Tokenizer:
    """The byte-level BPE that llama.cpp calls "smollm": digits stand alone, then GPT-2's split.

    The vocabulary lacks 21 of the 256 bytes (control characters, and bytes that only private
    planes or invalid UTF-8 need), and, as published, has no token for the unknown: they vanish.
    """
    tokenizer = Tokenizer(
        models.BPE(
            vocab={token: index for index, token in enumerate(vocabulary.tokens)},
            merges=list(vocabulary.merges),
        )
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [AddedToken(vocabulary.tokens[index], special=True, normalized=False) for index in vocabulary.control_ids]
    )
    return tokenizer


def _special_tokens(vocabulary: Vocabulary) -> dict[str, str]:
    return {
        "bos_token": vocabulary.tokens[vocabulary.bos_id],
        "eos_token": vocabulary.tokens[vocabulary.eos_id],
        "pad_token": vocabulary.tokens[vocabulary.pad_id],
        "unk_token": vocabulary.tokens[vocabulary.unk_id],
    }


def _described(token: str) -> dict[str, object]:
    return {
        "content": token,
        "lstrip": False,
        "normalized": False,
        "rstrip": False,
        "single_word": False,
    }
