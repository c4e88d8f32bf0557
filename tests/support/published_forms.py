"""The published algorithms, written plainly from their equations: what the package must equal.

Only the functions that need PyTorch import it.
"""

import numpy as np
from vectors import unit

REFINE_CASES = {
    "single_head": {"heads": 1, "text_in_keys": True},
    "single_head_no_text": {"heads": 1, "text_in_keys": False},
    "four_heads": {"heads": 4, "text_in_keys": True},
    "four_heads_no_text": {"heads": 4, "text_in_keys": False},
}
LOGIT_SCALE = 50.0


def refine_inputs():
    """A task with uneven shots, and parameters large enough for attention to matter."""
    rng = np.random.default_rng(3)
    way, shot, dim, query = 5, 4, 24, 7
    mask = np.arange(shot) < np.array([4, 3, 1, 0, 2])[:, None]
    support = unit(rng.standard_normal((way, shot, dim)))
    return {
        "text": unit(rng.standard_normal((way, dim))),
        "support": support,
        "mask": mask,
        "query": unit(rng.standard_normal((query, dim))),
        "labels": rng.integers(0, way, query).astype(np.int32),
        "q_proj.weight": rng.standard_normal((dim, dim)).astype(np.float32),
        "k_proj.weight": rng.standard_normal((dim, dim)).astype(np.float32),
        "alpha_proj.weight": rng.standard_normal((1, dim)).astype(np.float32),
        "alpha_proj.bias": np.ones(1, np.float32),
    }


def torch_module(inputs):
    """A module of Linear layers under the published names."""
    import torch

    dim = inputs["text"].shape[1]
    module = torch.nn.Module()
    module.q_proj = torch.nn.Linear(dim, dim, bias=False)
    module.k_proj = torch.nn.Linear(dim, dim, bias=False)
    module.alpha_proj = torch.nn.Linear(dim, 1)
    module.load_state_dict({k: torch.tensor(v) for k, v in inputs.items() if "proj" in k})
    return module


def torch_refine(module, text, support, mask, heads, text_in_keys):
    """Class by class, the key weights applied to every row; absent shots are cut off."""
    import torch

    refined = []
    for w, shots, kept in zip(text, support, mask, strict=True):
        shots = shots[kept]
        rows = torch.cat([w[None], shots]) if text_in_keys else shots
        query, keys = module.q_proj(w), module.k_proj(rows)
        mixed = []
        for q, k, v in zip(
            query.chunk(heads), keys.chunk(heads, -1), rows.chunk(heads, -1), strict=True
        ):
            attention = torch.softmax(k @ q / q.numel() ** 0.5, dim=0)
            mixed.append(attention @ v)
        gate = torch.sigmoid(module.alpha_proj(w))
        refined.append(torch.nn.functional.normalize(w + gate * torch.cat(mixed), dim=-1))
    return torch.stack(refined)


def case_mask(inputs, case):
    """The mask of a case: where the text is no key, every class needs a shot to attend to."""
    first = np.arange(inputs["mask"].shape[1]) == 0
    return inputs["mask"] if REFINE_CASES[case]["text_in_keys"] else inputs["mask"] | first


def torch_reference(inputs, case):
    """Return the refined text, the loss, and the loss's gradients by name."""
    import torch

    module = torch_module(inputs)
    text, support, mask, query = (
        torch.tensor(x)
        for x in (inputs["text"], inputs["support"], case_mask(inputs, case), inputs["query"])
    )
    refined = torch_refine(module, text, support, mask, **REFINE_CASES[case])
    labels = torch.tensor(inputs["labels"]).long()
    loss = torch.nn.functional.cross_entropy(LOGIT_SCALE * query @ refined.T, labels)
    loss.backward()
    gradients = {name: p.grad.numpy() for name, p in module.named_parameters()}
    return refined.detach().numpy(), loss.item(), gradients


def tip_logits(query, text, support, mask, logit_scale, alpha, beta):
    """Tip-Adapter's logits with a one-hot matrix, in float64."""
    query, text, support = (np.asarray(x, np.float64) for x in (query, text, support))
    way, shot, dim = support.shape
    one_hot = np.repeat(np.eye(way), shot, axis=0) * np.asarray(mask).reshape(-1, 1)
    affinity = query @ support.reshape(-1, dim).T
    cache = np.exp(-(beta - beta * affinity)) @ one_hot
    return logit_scale * query @ text.T + alpha * cache


def tip_loop(query, labels, text, support, mask, logit_scale, betas, alphas):
    """The published search: beta outside, alpha inside, the first best kept."""
    correct = np.zeros((len(betas), len(alphas)), int)
    best, setting = -1, None
    for i, beta in enumerate(betas):
        cache = tip_logits(query, 0 * text, support, mask, 1.0, 1.0, beta)
        zero_shot = tip_logits(query, text, support, mask, logit_scale, 0.0, beta)
        for j, alpha in enumerate(alphas):
            correct[i, j] = ((zero_shot + alpha * cache).argmax(1) == labels).sum()
            if correct[i, j] > best:
                best, setting = correct[i, j], (float(alpha), float(beta))
    return correct, setting
