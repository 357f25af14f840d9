"""A character-level GPT learns from Python's own documentation; half of its layers leave while it trains.

The smaller model is one of Transformers' own: from_pretrained reads it without this package.
"""

import copy
import math
import tempfile
import time
from pydoc_data.topics import topics

import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from layerprune import ConcurrentPruner, find_sections

LENGTH, STEPS = 64, 600
TEXT = "".join(each for name in sorted(topics) for each in topics[name] if each.isascii())  # half a megabyte
LETTERS = sorted(set(TEXT))
IDS = torch.tensor([LETTERS.index(each) for each in TEXT])
LEARNT, HELD_OUT = IDS[: len(IDS) // 10 * 9], IDS[len(IDS) // 10 * 9 :][: 128 * LENGTH].view(128, LENGTH)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, pruner: ConcurrentPruner | None = None) -> None:
    """All that is new in the loop is pruner.step(). Both models meet the same texts."""
    order, decay = torch.Generator().manual_seed(0), torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for _ in range(STEPS):
        texts = LEARNT[torch.randint(len(LEARNT) - LENGTH, (16, 1), generator=order) + torch.arange(LENGTH)]
        model.train()(input_ids=texts, labels=texts).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        decay.step()
        for name in pruner.step() if pruner is not None else []:
            print("removed", name)


@torch.no_grad()
def report(name: str, model: GPT2LMHeadModel) -> None:
    """Layers, perplexity of a letter that was held out, and how many letters a second pass through the model."""
    began = time.perf_counter()
    loss = model.eval()(input_ids=HELD_OUT, labels=HELD_OUT).loss
    speed = HELD_OUT.numel() / (time.perf_counter() - began)
    print(f"{name:9} {len(model.transformer.h)} layers  perplexity {math.exp(loss):6.2f}  {speed:9,.0f} tokens/s")


torch.manual_seed(0)
sizes = dict(vocab_size=len(LETTERS), n_positions=LENGTH, n_embd=64, n_layer=6, n_head=4, bos_token_id=0)
model = GPT2LMHeadModel(GPT2Config(**sizes, eos_token_id=0, attn_pdrop=0, embd_pdrop=0, resid_pdrop=0))
sections = find_sections(model, {"input_ids": HELD_OUT[:2]}, granularity="layer")
report("untrained", model)
train(dense := copy.deepcopy(model), torch.optim.AdamW(dense.parameters(), lr=4e-3))
report("dense", dense)
optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
pruner = ConcurrentPruner(model, sections, optimizer, total_steps=STEPS, target_depth=3)
train(model, optimizer, pruner)
with tempfile.TemporaryDirectory() as folder:
    pruner.export().save_pretrained(folder)
    smaller = GPT2LMHeadModel.from_pretrained(folder)
report("pruned", smaller)
