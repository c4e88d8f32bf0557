import jax
import jax.numpy as jnp
import numpy as np
import pytest
from synthetic_bank import CLASSES

from fsclip_jax.adapters.meta_adapter import init_params
from fsclip_jax.data.splits import base_novel
from fsclip_jax.errors import UserError
from fsclip_jax.evaluation.config import EvalConfig
from fsclip_jax.evaluation.evaluate import evaluate_bank
from fsclip_jax.evaluation.published_meta_adapter import (
    PublishedRun,
    draw_published,
    published_accuracies,
    push_all,
)
from fsclip_jax.report.markdown import report_to_markdown


def run(bank, tmp_path, **fields):
    return evaluate_bank(EvalConfig(data="bank:there", **fields), bank, tmp_path).report


def drawn(bank, shots, key=0):
    base, novel = base_novel(CLASSES)
    banks = [bank.select([split]) for split in ("val", "train", "test")]
    key = jax.random.key(key)
    return draw_published(key, *banks, jnp.asarray(base), jnp.asarray(novel), shots)


def test_images_push_the_oldest_shots_of_their_class_out():
    rng = np.random.default_rng(0)
    support = rng.standard_normal((3, 4, 2)).astype(np.float32)
    images = rng.standard_normal((7, 2)).astype(np.float32)
    labels, kept = np.array([0, 2, 0, 0, 1, 0, 0]), np.array([1, 1, 1, 0, 1, 1, 1], bool)
    expected = [list(shots) for shots in support]
    for image, label, stays in zip(images, labels, kept, strict=True):
        if stays:
            expected[label] = [image, *expected[label][:-1]]
    pushed = push_all(*map(jnp.asarray, (support, images, labels, kept)))
    np.testing.assert_array_equal(pushed, np.array(expected))


def test_the_test_images_are_as_many_as_the_shots_and_repeat_where_there_are_too_few(bank):
    base, novel = base_novel(CLASSES)
    for shots in (2, 40):
        data = drawn(bank, shots)
        np.testing.assert_array_equal(data.test.labels, np.repeat(novel, shots))
        assert data.test.kept.all()
        assert set(np.asarray(data.train.labels)) == set(base.tolist())
    few = np.asarray(drawn(bank, 2).test.views[:, 0])
    many = np.asarray(drawn(bank, 40).test.views[:, 0])
    assert len(np.unique(few, axis=0)) == len(few)
    assert len(np.unique(many, axis=0)) < len(many)


def test_a_run_equals_a_plain_loop_in_pytorch(bank):
    torch = pytest.importorskip("torch")
    settings = PublishedRun(epochs=3, batch=5, learning_rate=3e-2, half=False)
    data = drawn(bank, 3)
    key = jax.random.key(7)
    accuracies, best = published_accuracies(key, data, settings)

    start_key, key = jax.random.split(key)
    start = init_params(start_key, data.text.shape[1])
    names = ["q_proj.weight", "k_proj.weight", "alpha_proj.weight", "alpha_proj.bias"]
    w = {n: torch.tensor(np.asarray(start[n.split(".")[0]][n.split(".")[1]])) for n in names}
    for leaf in w.values():
        leaf.requires_grad_()
    images, views = data.train.views.shape[:2]
    steps = -(-images // settings.batch)
    optimizer = torch.optim.AdamW(w.values(), lr=3e-2, eps=1e-4, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.epochs * steps)
    text, support = (torch.tensor(np.asarray(x)) for x in (data.text, data.support))
    mask = torch.tensor(np.asarray(data.support_mask))
    feats, asked = (torch.tensor(np.asarray(x.views)) for x in (data.train, data.test))
    labels = torch.tensor(np.asarray(data.train.labels)).long()

    def logits(query):
        rows = []
        for c in range(len(text)):
            keys = torch.cat([text[c : c + 1], support[c][mask[c]]])
            scores = (keys @ w["k_proj.weight"].T) @ (w["q_proj.weight"] @ text[c])
            mixed = torch.softmax(scores / text.shape[1] ** 0.5, 0) @ keys
            gate = torch.sigmoid(w["alpha_proj.weight"][0] @ text[c] + w["alpha_proj.bias"][0])
            refined = text[c] + gate * mixed
            rows.append(refined / refined.norm())
        return float(data.logit_scale) * query @ torch.stack(rows).T

    for epoch in range(settings.epochs):
        key, order_key = jax.random.split(key)
        order = np.array(jax.random.permutation(order_key, images))
        for first in range(0, images, settings.batch):
            index = order[first : first + settings.batch]
            key, view_key = jax.random.split(key)
            view = np.array(jax.random.randint(view_key, (settings.batch,), 0, views))
            batch = feats[index, view[: len(index)]]
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(logits(batch), labels[index]).backward()
            optimizer.step()
            schedule.step()
            for image, label in zip(batch, labels[index], strict=True):
                support[label] = torch.cat([image[None], support[label][:-1]])
        predicted = logits(asked[:, 0]).argmax(1).numpy()
        np.testing.assert_array_equal(best[epoch], predicted)
        right = 100 * (predicted == np.asarray(data.test.labels)).mean()
        assert float(accuracies[epoch]) == pytest.approx(right, abs=1e-3)


def test_weights_are_in_half_precision_if_asked(bank):
    data = drawn(bank, 3)
    for half in (True, False):
        traced = jax.make_jaxpr(
            lambda key, half=half: published_accuracies(key, data, PublishedRun(half=half))
        )(jax.random.key(0))
        assert ("f16[" in str(traced)) == half


def test_rows_as_published_are_labelled_and_stand_beside_the_honest_ones(bank, tmp_path):
    report = run(
        bank,
        tmp_path,
        protocol="cross_category",
        methods=("zero_shot", "tip_adapter_f"),
        as_published=("meta_adapter", "tip_adapter_f"),
        shots=(2,),
        seeds=2,
    )
    rows = {(row.split, row.method): row for row in report.rows}
    honest = rows["novel", "tip_adapter_f"]
    published = rows["novel", "tip_adapter_f_as_published"]
    assert honest.selection["split"] == "val"
    assert published.selection["split"] == "test"
    fixed = run(
        bank,
        tmp_path,
        protocol="cross_category",
        methods=("tip_adapter_f",),
        shots=(2,),
        seeds=2,
        select="none",
    )
    last = next(row for row in fixed.rows if row.split == "novel")
    # The last epoch with the starting setting is among those that the best is taken of.
    assert np.all(
        np.subtract(published.metrics["accuracy"].per_seed, last.metrics["accuracy"].per_seed)
        >= -1e-9
    )
    assert sum(published.metrics["accuracy"].per_seed) > sum(last.metrics["accuracy"].per_seed)
    assert rows["novel", "meta_adapter_as_published"].selection["support"] == "val"
    assert ("base", "meta_adapter_as_published") not in rows
    for name in ("meta_adapter", "tip_adapter_f"):
        assert any(line.startswith(f"{name}_as_published: ") for line in report.warning)
    page = report_to_markdown(report)
    assert "chosen on the very images" in page
    assert "not comparable with other rows" in page


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"as_published": ("meta_adapter",)}, "give --protocol cross_category"),
        ({"as_published": ("tip_adapter_f",), "protocol": "episodic"}, "has no episodes"),
        (
            {
                "as_published": ("tip_adapter_f",),
                "protocol": "cross_category",
                "label_space": "generalised",
            },
            "--label-space restricted",
        ),
        (
            {"as_published": ("tip_adapter_f",), "query_split": "val", "select": "none"},
            "leave --query-split out",
        ),
    ],
)
def test_what_does_not_go_as_published_is_told(bank, tmp_path, fields, says):
    with pytest.raises(UserError, match=says):
        run(bank, tmp_path, **fields)
