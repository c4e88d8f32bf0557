"""The closer look, recomputed by other means; its reader against damage."""

import base64
import copy
import dataclasses
import io
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from example_details import example_details
from example_report import example_report
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from synthetic_bank import synthetic_bank

from fsclip_jax.adapters.meta_adapter import init_params, refine
from fsclip_jax.data.emoji import open_emoji
from fsclip_jax.errors import UserError
from fsclip_jax.evaluation.config import EvalConfig
from fsclip_jax.evaluation.details import details_of
from fsclip_jax.evaluation.details_attention import (
    Attended,
    attention_of,
    gates_and_attention,
)
from fsclip_jax.evaluation.details_measures import Look, reliability
from fsclip_jax.evaluation.evaluate import evaluate_bank
from fsclip_jax.evaluation.predictions import Predicted
from fsclip_jax.evaluation.thumbnails import EDGE, data_uri, pictures_of
from fsclip_jax.numerics import l2_normalize
from fsclip_jax.report.closer_look import bearable, closer_look, left_out
from fsclip_jax.report.details import PICTURE, ClassChanges
from fsclip_jax.report.page import render
from fsclip_jax.report.rows import report_from_json, report_to_json

METHODS = ("zero_shot", "prototype", "meta_adapter")


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    bank = synthetic_bank(tmp_path_factory.mktemp("details") / "bank")
    config = EvalConfig(
        data="bank:there", methods=METHODS, shots=(1, 3), protocol="cross_category", seeds=3
    )
    report, kept = evaluate_bank(config, bank, tmp_path_factory.mktemp("none"))
    return report, kept, bank


@pytest.mark.parametrize("text_in_keys", [True, False])
def test_attention_and_gate_give_what_the_adapter_gives(text_in_keys, key):
    params = jax.tree.map(lambda leaf: 3 * leaf, init_params(key, 16))
    text = l2_normalize(jax.random.normal(key, (5, 16)))
    support = l2_normalize(jax.random.normal(jax.random.key(1), (5, 4, 16)))
    mask = jnp.asarray(np.arange(4)[None] < np.array([4, 3, 2, 1, 0])[:, None])
    found = attention_of(params, *map(np.asarray, (text, support, mask)), text_in_keys=text_in_keys)
    mixed = np.einsum("ws,wsd->wd", found.weights, support) + found.text[:, None] * text
    mine = np.asarray(text) + found.gate[:, None] * mixed
    mine /= np.linalg.norm(mine, axis=-1, keepdims=True)
    theirs = refine(params, text, support, mask, text_in_keys=text_in_keys)
    np.testing.assert_allclose(mine, theirs, atol=2e-6)
    assert not found.weights[~np.asarray(mask)].any()
    whole = found.weights.sum(1) + found.text
    np.testing.assert_allclose(whole[: 5 if text_in_keys else 4], 1.0)


def test_attention_of_several_heads_is_their_mean(key):
    params = init_params(key, 8)
    text, support = (
        np.asarray(l2_normalize(jax.random.normal(key, s))) for s in ((2, 8), (2, 3, 8))
    )
    found = attention_of(params, text, support, np.ones((2, 3), bool), heads=2)
    q, k = (np.asarray(params[name]["weight"]) for name in ("q_proj", "k_proj"))
    for c in range(2):
        keys = np.stack([*support[c], text[c]])
        heads = [
            (q @ text[c])[part] @ (keys @ k.T)[:, part].T / 2.0 for part in (slice(4), slice(4, 8))
        ]
        shares = np.mean([np.exp(h) / np.exp(h).sum() for h in heads], axis=0)
        np.testing.assert_allclose([*found.weights[c], found.text[c]], shares, atol=1e-6)


def test_details_agree_with_the_rows_of_the_report(evaluated):
    report, kept, _ = evaluated
    look = report.details
    assert (look.split, look.shots, look.draws) == ("novel", 3, 3)
    rows = {r.method: r for r in report.rows if (r.split, r.shots) == ("novel", 3)}
    changes, group = look.changes, kept.group("novel")
    assert list(changes.classes) == [f"thing {i}" for i in range(4, 7)]
    for method, change in changes.change.items():
        mean = np.mean(np.add(changes.reference, change))
        assert mean == pytest.approx(rows[method].metrics["class_mean_accuracy"].mean, abs=0.01)
    for method, bins in look.reliability.items():
        answered = kept.find(method, 3, "novel")
        right = answered.predicted == group.labels[None]
        assert sum(bins.count) == right.size
        order = np.argsort(answered.confidence.ravel(), kind="stable")
        parts = np.split(order, np.cumsum(bins.count)[:-1])
        for i, part in enumerate(parts):
            assert bins.confidence[i] == pytest.approx(
                answered.confidence.ravel()[part].mean(), abs=1e-3
            )
            assert bins.accuracy[i] == pytest.approx(right.ravel()[part].mean(), abs=1e-4)


def test_the_close_look_is_at_the_best_method_or_the_one_that_is_named(evaluated):
    report, kept, bank = evaluated
    means = {
        row.method: row.metrics["accuracy"].mean
        for row in report.rows
        if (row.split, row.shots) == ("novel", 3)
    }
    assert report.details.method == max(means, key=means.get) != min(means, key=means.get)
    for name in means:
        look = details_of(kept, [bank], (), name)
        assert look.method == name
        answered = kept.find(name, 3, "novel").predicted != kept.group("novel").labels
        assert sum(pair.count for pair in look.confusions) == answered.sum()
    # The best number of all, but chosen on the very images: no method to show off.
    published = [
        dataclasses.replace(row, method="mine_as_published", predicted=labels)
        for row in kept.rows
        if row.method == "prototype"
        for labels in [np.broadcast_to(kept.group(row.split).labels, row.predicted.shape)]
    ]
    cheating = dataclasses.replace(kept, rows=(*kept.rows, *published))
    assert details_of(cheating, [bank], ()).method == report.details.method


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"look": "prototpe"}, "zero_shot, prototype, .*did you mean prototype"),
        ({"look": "gda"}, "--look gda: it takes no part; these do: zero_shot, prototype"),
        ({"look": "prototype", "predictions": False}, "needs the predictions"),
        ({"look": "prototype", "protocol": "episodic"}, "needs the predictions.*episodic"),
    ],
)
def test_a_look_at_a_method_that_takes_no_part_is_refused(evaluated, tmp_path, fields, says):
    config = EvalConfig(data="bank:there", methods=METHODS, shots=(1,), seeds=3)
    with pytest.raises(UserError, match=says):
        evaluate_bank(dataclasses.replace(config, **fields), evaluated[-1], tmp_path)


@pytest.mark.parametrize(("images", "bins"), [(10, 1), (49, 1), (60, 2), (200, 8), (5000, 15)])
def test_there_are_as_many_bins_of_confidence_as_the_images_bear(images, bins):
    rng = np.random.default_rng(0)
    labels = np.zeros(images, int)
    sure = rng.random((3, images)).astype(np.float32)
    look = Look("test", 1, ("a", "b"), labels, labels, labels, [""] * images, labels, {})
    wrong = (rng.random((3, images)) > sure).astype(np.uint16)
    found = reliability(look, Predicted("m", 1, "test", wrong, sure, sure))
    assert len(found.count) == len(bearable(found, 3).count) == bins
    assert min(found.count) >= 0.9 * max(found.count)
    # One confidence is one bin, however many answers have it.
    certain = Predicted("m", 1, "test", wrong, np.ones_like(sure), sure)
    assert reliability(look, certain).confidence == (1.0,)


def test_confusions_are_counted_over_all_draws(evaluated):
    report, kept, _ = evaluated
    look, space, group = report.details, kept.space("novel"), kept.group("novel")
    answered = kept.find(look.method, 3, "novel").predicted
    counts = {}
    for draw in answered:
        for true, predicted in zip(group.labels, draw, strict=True):
            if true != predicted:
                pair = space.class_names[true], space.class_names[predicted]
                counts[pair] = counts.get(pair, 0) + 1
    told = {(c.true, c.predicted): c.count for c in look.confusions}
    assert told == counts
    assert [c.count for c in look.confusions] == sorted(counts.values(), reverse=True)
    assert {c.queries for c in look.confusions} == {15}


def test_mistakes_name_the_nearest_shots(evaluated):
    report, kept, bank = evaluated
    look, space = report.details, kept.space("novel")
    rows = kept.records.rows[space.support[0, :, :3]]
    mean = bank.features.mean(0)
    mean /= np.linalg.norm(mean, axis=-1, keepdims=True)
    assert look.mistakes
    confidences = [mistake.confidence for mistake in look.mistakes]
    assert confidences == sorted(confidences, reverse=True)
    for mistake in look.mistakes:
        assert mistake.true != mistake.predicted
        query = bank.features[0, bank.keys.index(mistake.picture)]
        best = sorted(rows.ravel(), key=lambda row: -(mean[row] @ query))[:4]
        assert [near.picture for near in mistake.nearest] == [bank.keys[row] for row in best]
        for near, row in zip(mistake.nearest, best, strict=True):
            assert near.name == bank.class_names[bank.labels[row]]
            assert near.similarity == pytest.approx(float(mean[row] @ query), abs=1e-3)


def test_attention_is_told_of_shots_of_the_class_alone(evaluated):
    report, _, bank = evaluated
    assert report.details.attention_method == "meta_adapter_untrained"
    assert len(report.details.gates) == 3
    for each in report.details.attention:
        assert each.left_out == 0
        weights = [shot.weight for shot in each.shots]
        assert weights == sorted(weights, reverse=True)
        assert sum(weights) + each.text_weight == pytest.approx(1.0, abs=1e-3)
        for shot in each.shots:
            label = bank.labels[bank.keys.index(shot.picture)]
            assert bank.class_names[label] == each.name


def test_shots_that_are_not_shown_are_counted():
    weights = np.array([[0.05] * 12])
    attended = Attended(weights, np.array([0.4]), np.array([0.5]))
    keys = np.array([[f"{i}.png" for i in range(11)] + [""]], object)
    _, (each,) = gates_and_attention(attended, ["cat"], keys, np.array([50.0]), np.array([60.0]))
    assert (len(each.shots), each.left_out) == (8, 3)
    assert left_out(each, 12) == (3, pytest.approx(0.2))
    # Of a report that does not say, eight of so many shots are shown.
    assert left_out(dataclasses.replace(each, left_out=None), 16)[0] == 8
    assert left_out(dataclasses.replace(each, left_out=None, shots=each.shots[:4]), 16)[0] == 0
    page = drawn(dataclasses.replace(example_details(METHODS), attention=(each,)))
    assert '<div class="word">3 more</div>20 %' in page


def drawn(details):
    look = closer_look(details, {})
    return render("closer_look.html.j2", {"d": details, "css": {}, "look": look})


def test_nothing_is_told_without_answers_or_reference(evaluated):
    report, kept, bank = evaluated
    assert details_of(None, [bank], ()) is None
    only = dataclasses.replace(kept, rows=tuple(r for r in kept.rows if r.method != "zero_shot"))
    assert details_of(only, [bank], ()) is None
    assert report.details.pictures == {}


def test_details_come_back_from_json(evaluated):
    report, *_ = evaluated
    text = report_to_json(report)
    assert report_to_json(report_from_json(text)) == text
    assert len(text) < 60_000
    assert "details" not in json.loads(report_to_json(example_report()))


def test_a_name_that_looks_like_a_list_stays_as_it_is():
    names = ("[ 1,  2 ]", "dog", "owl")
    report = dataclasses.replace(example_report(), details=example_details(METHODS, names))
    tree = json.loads(report_to_json(report))
    assert tree["details"]["changes"]["classes"][0] == names[0]


def _tree():
    report = dataclasses.replace(example_report(shots=(4,)), details=example_details(METHODS))
    return json.loads(report_to_json(report))


def _paths(value, path=()):
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for name, item in items if isinstance(value, (dict, list)) else ():
        if isinstance(item, (dict, list)):
            yield from _paths(item, (*path, name))
        else:
            yield (*path, name)


@given(st.data())
def test_damaged_details_are_told_in_one_line(data):
    tree = copy.deepcopy(TREE)
    path = data.draw(st.sampled_from(PATHS))
    bad = data.draw(st.sampled_from([None, -1, 0, 1e300, "x", [], {}, [None], {"a": 1}, True]))
    place = tree
    for name in ("details", *path[:-1]):
        place = place[name]
    place[path[-1]] = bad
    text = json.dumps(tree)
    try:
        look = report_from_json(text).details
    except UserError:
        with pytest.raises(UserError, match=r"^[^\n]*$"):
            report_from_json(text)
        return
    if look is not None:
        assert "</section>" in drawn(look)


TREE = _tree()
PATHS = [path for path in _paths(TREE["details"]) if path]


@pytest.mark.parametrize(
    "uri",
    [
        "https://example.org/a.png", "javascript:alert(1)", "data:text/html;base64,AAAA",
        "data:image/svg+xml;base64,AAAA", 'data:image/png;base64,AA"onerror="x', 7, None,
    ],
)  # fmt: skip
def test_only_inlined_pictures_are_taken_from_a_report(uri):
    tree = TREE["details"] | {"pictures": {"a": uri, "b": "data:image/png;base64,AAAA"}}
    report = report_from_json(json.dumps(_tree() | {"details": tree}))
    assert list(report.details.pictures) == ["b"]


def test_pictures_are_small_and_of_either_form():
    flat = data_uri(Image.new("RGB", (640, 480), "red"))
    noise = np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)
    photo = data_uri(Image.fromarray(noise))
    assert flat.startswith("data:image/png")
    assert photo.startswith("data:image/jpeg")
    for uri in (flat, photo):
        assert PICTURE.fullmatch(uri)
        assert len(uri) < 6_000
    assert EDGE == 48


@pytest.mark.parametrize("size", [(640, 320), (96, 480), (300, 300), (20, 31)])
def test_photographs_are_cropped_to_the_square_in_their_middle(size):
    red = Image.new("RGB", size, "white")
    side = min(size)
    left, above = (size[0] - side) // 2, (size[1] - side) // 2
    red.paste("red", (left, above, left + side, above + side))
    data = base64.b64decode(data_uri(red).partition(",")[2])
    small = Image.open(io.BytesIO(data)).convert("RGB")
    assert small.width == small.height == min(EDGE, side)
    assert np.asarray(small)[..., 1].max() < 40  # no white at any edge


def test_pictures_come_from_the_very_data_of_the_bank(tmp_path):
    emoji = open_emoji()
    bank = synthetic_bank(tmp_path / "bank", spec="emoji")
    keys = [emoji.keys[5], "no such picture"]
    assert pictures_of(bank, keys) == {}  # another version of the data
    bank.manifest["data"]["version"] = emoji.version
    found = pictures_of(bank, keys)
    assert list(found) == [emoji.keys[5]]
    bank.manifest["data"]["spec"] = "folder:/no/such/folder"
    assert pictures_of(bank, keys) == {}
    bank.manifest["data"]["spec"] = "hf:somewhere/else"
    assert pictures_of(bank, keys) == {}


def test_pictures_of_queries_and_shots_of_two_data_sets_are_not_mixed(tmp_path, evaluated):
    _, kept, bank = evaluated
    other = synthetic_bank(tmp_path / "other", seed=1)
    records = dataclasses.replace(
        kept.records,
        data=np.where(np.isin(np.arange(len(kept.records.rows)), _asked(kept)), 1, 0),
    )
    moved = dataclasses.replace(kept, data=("bank:a", "bank:b"), records=records)
    look = details_of(moved, [bank, other], ())
    assert all(mistake.picture.startswith("bank:b: ") for mistake in look.mistakes)
    assert not any(
        re.match("bank:", near.picture) for each in look.mistakes for near in each.nearest
    )


def _asked(kept):
    return np.concatenate([group.queries for group in kept.groups])


def test_a_report_of_a_thousand_classes_stays_below_a_megabyte():
    methods = ["zero_shot", *(f"method_{i}" for i in range(20))]
    names = [f"a class with a longer name {i}" for i in range(1000)]
    look = example_details(methods)
    change = {
        m: tuple(np.random.default_rng(0).normal(size=1000).round(2).tolist()) for m in methods
    }
    pictures = {
        f"a/folder/picture {i}.png": "data:image/png;base64," + 2400 * "A" for i in range(150)
    }
    look = dataclasses.replace(
        look,
        changes=ClassChanges(tuple(names), 1000 * (1.0,), change),
        pictures=pictures,
        gates=tuple(np.linspace(0, 1, 1000).round(4).tolist()),
    )  # fmt: skip
    assert len(report_to_json(dataclasses.replace(example_report(), details=look))) < 1e6
