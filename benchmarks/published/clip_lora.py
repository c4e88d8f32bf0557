"""CLIP-LoRA in plain PyTorch: Zanella & Ben Ayed, CVPR Workshops 2024, sections 3 and 4.

Both towers are written out over weights in open_clip's layout, a vision transformer or a ResNet;
the query, key and value projections of each attention have ``B A`` beside them, which sees its
input through dropout. A ResNet, which the paper does not have, is adapted in its attention pooling.
AdamW steps on the cross-entropy of a batch of pictures under the texts of all prompts.
"""

import torch
import torch.nn.functional as F  # noqa: N812


class Tower:
    """What both towers do: linear layers, norms, and attention with matrices beside it.

    Args:
        weights: tensors by their open_clip names.
        heads: attention heads.
        quick: ``x sigmoid(1.702 x)`` in place of the GELU.
    """

    def __init__(self, weights, heads, quick=False):
        self.weights = {name: torch.as_tensor(array).float() for name, array in weights.items()}
        self.heads, self.quick = heads, quick
        self.lora, self.gain, self.mask = {}, 0.0, None

    def linear(self, x, weight, bias, name):
        """A projection, and beside it ``g B A`` of what the mask leaves."""
        y = F.linear(x, weight, bias)
        if name not in self.lora:
            return y
        seen = x if self.mask is None else x * self.mask(name, x)
        a, b = self.lora[name]["A"], self.lora[name]["B"]
        return y + self.gain * seen @ a.t() @ b.t()

    def norm(self, x, name):
        """A layer norm."""
        weight, bias = self.weights[name + ".weight"], self.weights[name + ".bias"]
        return F.layer_norm(x, (x.shape[-1],), weight, bias)

    def mixed(self, q, k, v, bias=None):
        """Multi-head attention of projected positions [n length width]."""
        q, k, v = (x.unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in (q, k, v))
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        scores = scores if bias is None else scores + bias
        return (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)

    def blocks(self, x, prefix, bias=None):
        """Residual blocks, over all positions; our names are ``blocks.i.attention.q_proj``."""
        count = len({n.split(".resblocks.")[1].split(".")[0] for n in self.weights if prefix in n})
        for index in range(count):
            at, w = f"{prefix}{index}.", self.weights
            normed = self.norm(x, at + "ln_1")
            weights, biases = (
                w[f"{at}attn.in_proj_{part}"].chunk(3) for part in ("weight", "bias")
            )
            q, k, v = (
                self.linear(normed, weight, bias_, f"blocks.{index}.attention.{name}")
                for weight, bias_, name in zip(weights, biases, PROJECTIONS, strict=True)
            )
            out = w[at + "attn.out_proj.weight"], w[at + "attn.out_proj.bias"]
            x = x + F.linear(self.mixed(q, k, v, bias), *out)
            hidden = self.norm(x, at + "ln_2")
            hidden = F.linear(hidden, w[at + "mlp.c_fc.weight"], w[at + "mlp.c_fc.bias"])
            hidden = hidden * torch.sigmoid(1.702 * hidden) if self.quick else F.gelu(hidden)
            x = x + F.linear(hidden, w[at + "mlp.c_proj.weight"], w[at + "mlp.c_proj.bias"])
        return x


PROJECTIONS = ("q_proj", "k_proj", "v_proj")


class Text(Tower):
    """The text tower; ``ids`` [n length], read at the first place of the largest id."""

    def __call__(self, ids):
        """Encode prompts; features [n dim]."""
        ids = torch.as_tensor(ids).long()
        x = self.weights["token_embedding.weight"][ids]
        x = x + self.weights["positional_embedding"][: ids.shape[1]]
        bias = torch.full((ids.shape[1],) * 2, float("-inf")).triu(1)
        x = self.norm(self.blocks(x, "transformer.resblocks.", bias), "ln_final")
        return x[torch.arange(len(x)), ids.argmax(-1)] @ self.weights["text_projection"]


class Vit(Tower):
    """The vision transformer; ``images`` [n 3 size size], normalised."""

    def __call__(self, images):
        """Encode images; features [n dim]."""
        kernel = self.weights["visual.conv1.weight"]
        x = F.conv2d(images, kernel, stride=kernel.shape[-1]).flatten(2).transpose(1, 2)
        first = self.weights["visual.class_embedding"].expand(len(x), 1, -1)
        x = torch.cat([first, x], 1) + self.weights["visual.positional_embedding"]
        x = self.blocks(self.norm(x, "visual.ln_pre"), "visual.transformer.resblocks.")
        return self.norm(x[:, 0], "visual.ln_post") @ self.weights["visual.proj"]


class ResNet(Tower):
    """The modified ResNet, its batch norms as they are at inference."""

    def __call__(self, images):
        """Encode images; features [n dim]."""
        x = images
        for index in (1, 2, 3):
            step = {"stride": 2, "padding": 1} if index == 1 else {"padding": 1}
            x = F.relu(self.conv(x, f"visual.conv{index}", f"visual.bn{index}", **step))
        x = F.avg_pool2d(x, 2)
        for stage in (1, 2, 3, 4):
            index = 0
            while (at := f"visual.layer{stage}.{index}") + ".conv1.weight" in self.weights:
                x = self.bottleneck(x, at, 2 if stage > 1 and index == 0 else 1)
                index += 1
        return self.pool(x)

    def conv(self, x, conv, norm, **how):
        """A convolution and its norm."""
        mean, var, weight, bias = (
            self.weights[f"{norm}.{part}"]
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        return F.batch_norm(
            F.conv2d(x, self.weights[conv + ".weight"], **how), mean, var, weight, bias
        )

    def bottleneck(self, x, at, stride):
        """Three convolutions beside a shortcut."""
        y = F.relu(self.conv(x, at + ".conv1", at + ".bn1"))
        y = F.relu(self.conv(y, at + ".conv2", at + ".bn2", padding=1))
        y = self.conv(F.avg_pool2d(y, stride), at + ".conv3", at + ".bn3")
        if at + ".downsample.0.weight" in self.weights:
            x = self.conv(F.avg_pool2d(x, stride), at + ".downsample.0", at + ".downsample.1")
        return F.relu(x + y)

    def pool(self, x):
        """The mean of a map asks the map and itself."""
        x = x.flatten(2).transpose(1, 2)
        x = torch.cat([x.mean(1, keepdim=True), x], 1)
        x = x + self.weights["visual.attnpool.positional_embedding"]
        layers = [
            (self.weights[f"visual.attnpool.{n}.weight"], self.weights[f"visual.attnpool.{n}.bias"])
            for n in (*PROJECTIONS, "c_proj")
        ]
        q, k, v = (
            self.linear(part, *layer, f"attnpool.{name}")
            for part, layer, name in zip((x[:, :1], x, x), layers, PROJECTIONS, strict=False)
        )
        return F.linear(self.mixed(q, k, v)[:, 0], *layers[3])


def fit(image, text, start, data, steps, alpha=1.0, lr=2e-4):
    """Train the matrices.

    Args:
        image, text: the towers.
        start: ``A`` and ``B`` by tower and path.
        data: ``images`` [n 3 size size], ``labels`` [n], ``prompt_ids``, ``logit_scale``.
        steps: of every step the rows, and two functions from a path and an input to a factor for
            each number of it, for the image and the text tower; None drops nothing.
        alpha: numerator of the scaling, by the root of the rank.
        lr: learning rate.

    Returns:
        ``lora``, ``losses``, and the towers with the trained matrices.
    """
    lora = {
        name: {
            path: {part: torch.tensor(array, requires_grad=True) for part, array in each.items()}
            for path, each in matrices.items()
        }
        for name, matrices in start.items()
    }
    for tower, name in ((image, "image"), (text, "text")):
        tower.lora = lora[name]
        tower.gain = alpha / next(iter(lora[name].values()))["A"].shape[0] ** 0.5
    learned = [x for matrices in lora.values() for each in matrices.values() for x in each.values()]
    optimizer = torch.optim.AdamW(learned, lr=lr, weight_decay=1e-2, betas=(0.9, 0.999))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, len(steps), eta_min=1e-6)
    losses = []
    for rows, *masks in steps:
        image.mask, text.mask = masks
        value = F.cross_entropy(
            logits({"image": image, "text": text, **data}, data["images"][rows]),
            data["labels"][rows],
        )
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        schedule.step()
        losses.append(value.item())
    image.mask = text.mask = None
    return {"lora": lora, "losses": losses, "image": image, "text": text, **data}


def logits(state, images):
    """Compare images with the texts of all prompts."""
    seen = F.normalize(state["image"](images), dim=-1)
    read = F.normalize(state["text"](state["prompt_ids"]), dim=-1)
    return state["logit_scale"] * seen @ read.t()
