"""A training step of the published Meta-Adapter in plain PyTorch: forward, backward, AdamW."""

import numpy as np
import torch

LEARNING_RATE, WEIGHT_DECAY, LOGIT_SCALE = 1e-4, 1e-2, 100.0


class PublishedForm(torch.nn.Module):
    """The refinement in the order of the published code."""

    def __init__(self, params):
        super().__init__()
        dim = params["q_proj"]["weight"].shape[0]
        self.q_proj = torch.nn.Linear(dim, dim, bias=False)
        self.k_proj = torch.nn.Linear(dim, dim, bias=False)
        self.alpha_proj = torch.nn.Linear(dim, 1)
        named = {
            f"{module}.{leaf}": torch.tensor(np.asarray(x))
            for module, leaves in params.items()
            for leaf, x in leaves.items()
        }
        self.load_state_dict(named)

    def forward(self, text, support):
        """Return the refined text features."""
        key_value = torch.cat([text[:, None], support], dim=1)
        query = self.q_proj(text)[:, None]
        key = self.k_proj(key_value)
        attention = torch.softmax(query @ key.transpose(1, 2) / text.shape[-1] ** 0.5, dim=-1)
        mixed = (attention @ key_value)[:, 0]
        refined = text + torch.sigmoid(self.alpha_proj(text)) * mixed
        return torch.nn.functional.normalize(refined, dim=-1)


def loss(model, text, support, query, labels):
    logits = LOGIT_SCALE * query @ model(text, support).T
    return torch.nn.functional.cross_entropy(logits, labels)


def steps(params, data, dtype="float32", compiled=False):
    """Return the model, its data, and a function that takes so many steps and waits."""
    dtype = getattr(torch, dtype)
    model = PublishedForm(params).to(dtype)
    *tensors, labels = (torch.tensor(x) for x in data)
    tensors = [*(x.to(dtype) for x in tensors), labels.long()]
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    value = torch.compile(loss) if compiled else loss
    wait = torch.cuda.synchronize if tensors[0].is_cuda else lambda: None

    def run(number):
        for _ in range(number):
            found = value(model, *tensors)
            optimizer.zero_grad(set_to_none=True)
            found.backward()
            optimizer.step()
        wait()

    return model, tensors, run
