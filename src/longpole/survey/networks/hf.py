"""The same networks as transformers builds them, from a configuration and with random weights: nothing is downloaded.

Sizes, batches, data, losses and optimizers are those of the plain ones; what the library decides (dropout, masks, how
attention and rotary positions are written) stays the library's. Needs transformers.
"""

from __future__ import annotations

import importlib
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torch.nn import functional

from longpole.survey.networks import bert, convnext, gpt, llama, mamba, vit

if TYPE_CHECKING:
    from torch import Tensor, nn

    from longpole.survey.networks.training import Batch, Training


def gpt2_hf(size: str) -> Training:
    one = gpt.GPT2[size]
    # No token of this text begins or ends one.
    sizes = {
        "bos_token_id": None,
        "eos_token_id": None,
        "n_positions": one.context,
        "n_layer": one.layers,
        "n_head": one.heads,
        "n_embd": one.width,
    }
    return _in_place_of(gpt.gpt2(size), "GPT2", "GPT2LMHeadModel", vocab_size=one.vocabulary, use_cache=False, **sizes)


def bert_base_hf(size: str) -> Training:
    one = bert.SIZES[size]
    made = _in_place_of(
        bert.bert_base(size),
        "Bert",
        "BertForPreTraining",
        vocab_size=one.vocabulary,
        max_position_embeddings=one.context,
        num_hidden_layers=one.layers,
        num_attention_heads=one.heads,
        hidden_size=one.width,
        intermediate_size=4 * one.width,
    )
    return replace(made, loss=_pretraining, counted=made.model.bert)


def llama_hf(size: str) -> Training:
    one = llama.LLAMA[size]
    return _in_place_of(
        llama.llama(size),
        "Llama",
        "LlamaForCausalLM",
        vocab_size=one.vocabulary,
        hidden_size=one.width,
        intermediate_size=one.hidden,
        num_hidden_layers=one.layers,
        num_attention_heads=one.heads,
        num_key_value_heads=one.key_heads,
        max_position_embeddings=one.length,
        tie_word_embeddings=True,
        use_cache=False,
    )


def mamba_hf(size: str) -> Training:
    one = mamba.SIZES[size]
    return _in_place_of(
        mamba.mamba(size),
        "Mamba",
        "MambaForCausalLM",
        vocab_size=one.vocabulary,
        hidden_size=one.width,
        num_hidden_layers=one.layers,
        state_size=one.state,
        tie_word_embeddings=True,
        use_cache=False,
    )


def vit_b16_hf(size: str) -> Training:
    one = vit.B16[size]
    return _in_place_of(
        vit.vit_b16(size),
        "ViT",
        "ViTForImageClassification",
        image_size=one.pixels,
        patch_size=one.patch,
        num_hidden_layers=one.layers,
        hidden_size=one.width,
        intermediate_size=4 * one.width,
        num_attention_heads=one.heads,
        num_labels=vit.CLASSES,
    )


def convnext_t_hf(size: str) -> Training:
    pixels, _, depths, channels = convnext.SIZES[size]
    return _in_place_of(
        convnext.convnext_t(size),
        "ConvNext",
        "ConvNextForImageClassification",
        image_size=pixels,
        depths=list(depths),
        hidden_sizes=list(channels),
        num_labels=convnext.CLASSES,
    )


def _in_place_of(plain: Training, family: str, model: str, **sizes: Any) -> Training:
    """The plain training with the library's model in it. Its loss takes logits: (batch, length or 1, classes)."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # the library may ask its hub for faster kernels
    library = importlib.import_module("transformers")
    configuration = getattr(library, f"{family}Config")(**sizes)
    return replace(plain, model=getattr(library, model)(configuration), loss=_of_logits, counted=None)


def _of_logits(model: nn.Module, batch: Batch) -> Tensor:
    """Mean cross-entropy of (batch, length, vocabulary) against (batch, length), or without the length."""
    inputs, targets = batch
    return functional.cross_entropy(model(inputs).logits.flatten(0, -2), targets.flatten())


def _pretraining(model: nn.Module, batch: Batch) -> Tensor:
    text, stretch, hidden, follows = batch
    found = model(text, token_type_ids=stretch)
    words = functional.cross_entropy(found.prediction_logits.flatten(0, 1), hidden.flatten(), ignore_index=bert.IGNORED)
    return words + functional.cross_entropy(found.seq_relationship_logits, follows)
