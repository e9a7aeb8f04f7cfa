"""How likely given replies are: log-probs of their tokens under given chats, teacher-forced."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lab.activations import LOGITS_AT_ONCE, batches
from lab.models import LoadedModel
from lab.records import LabError, Rendered
from lab.steering import Edit, steered

if TYPE_CHECKING:
    import torch


def token_log_probs(
    model: LoadedModel, chats: Sequence[Rendered], replies: Sequence[str], *, token_budget: int = 16384,
    edits: Sequence[Edit] = (),
) -> list[NDArray[np.float64]]:  # fmt: skip
    """Per reply the natural log-probs [token] of its tokens, each given the chat and the tokens before it.

    The end-of-turn token is not counted; a reply without tokens gives an empty array. With `edits` the
    model that reads is steered. LabError when there is not one reply per chat.
    """
    import torch

    if len(chats) != len(replies):
        raise LabError(f"expected one reply per chat, got {len(replies)} replies for {len(chats)} chats")
    coded = [model.tokenizer(text, add_special_tokens=False)["input_ids"] for text in replies]
    full = [
        Rendered(np.concatenate([c.ids, np.array(r, np.int64)]), (), "")
        for c, r in zip(chats, coded, strict=True)
    ]
    found: list[NDArray[np.float64]] = [np.zeros(0)] * len(chats)
    order = sorted((i for i in range(len(chats)) if coded[i]), key=lambda i: len(full[i].ids))
    budget = min(token_budget, LOGITS_AT_ONCE // model.identity.vocab)
    with torch.inference_mode(), steered(model, edits):
        for batch in batches(order, full, 0, budget):
            ids, mask, positions = padded([full[i].ids for i in batch], model)
            longest = max(len(coded[i]) for i in batch)
            out = model.network(
                input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False,
                logits_to_keep=longest + 1,
            )  # fmt: skip
            for k, i in enumerate(batch):
                n = len(coded[i])
                logits = out.logits[k, -n - 1 : -1].float().log_softmax(-1)
                found[i] = logits.gather(1, ids[k, -n:, None])[:, 0].double().cpu().numpy()
    return found


def padded(
    rows: Sequence[NDArray[np.int64]], model: LoadedModel
) -> tuple["torch.Tensor", "torch.Tensor", "torch.Tensor"]:
    """Ids, mask and positions [row, pos] on the model's device, padded on the left."""
    import torch

    width = max(len(x) for x in rows)
    ids = torch.full((len(rows), width), model.tokenizer.pad_token_id, dtype=torch.long)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for k, x in enumerate(rows):
        ids[k, width - len(x) :], mask[k, width - len(x) :] = torch.from_numpy(x), 1
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    return ids.to(model.device), mask.to(model.device), positions.to(model.device)
