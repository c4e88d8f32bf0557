"""The published Meta-Adapter as a PyTorch module, from equations 4 and 5 of its paper."""

import pytest

torch = pytest.importorskip("torch")


class MetaAdapter(torch.nn.Module):
    """Text features refined by attention over the shots of their class; every shot is there."""

    def __init__(self, dim):
        super().__init__()
        self.q_proj = torch.nn.Linear(dim, dim, bias=False)
        self.k_proj = torch.nn.Linear(dim, dim, bias=False)
        self.alpha_proj = torch.nn.Linear(dim, 1, bias=True)

    def forward(self, text, support):
        rows = torch.cat([text[:, None], support], dim=1)
        keys, query = self.k_proj(rows), self.q_proj(text)[:, None]
        attention = torch.softmax(query @ keys.transpose(1, 2) / text.shape[1] ** 0.5, dim=-1)
        mixed = (attention @ rows)[:, 0]
        gate = torch.sigmoid(self.alpha_proj(text))
        return torch.nn.functional.normalize(text + gate * mixed, dim=-1)
