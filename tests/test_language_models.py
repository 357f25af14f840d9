"""Language models as Transformers builds them: caches, configurations, files once attention and layers have gone."""

import copy
import itertools
import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn
from zoo.catalog import zoo

import layerprune
from layerprune.errors import LayerpruneError
from layerprune.library.examples import call
from layerprune.library.find_sections import find_sections
from layerprune.library.recording import tensors_of

transformers = pytest.importorskip("transformers", reason="Transformers is absent: pip install transformers accelerate")

IDS = torch.randint(3, 50, (2, 7), generator=torch.Generator().manual_seed(1))
PADDED = torch.ones(2, 7, dtype=torch.long)
PADDED[1, :3] = 0
ZOO = zoo()


def model_of(name: str) -> tuple[nn.Module, dict[str, Any]]:
    """A tiny model of a family, and an example that leaves the cache to the model."""
    torch.manual_seed(0)
    model, example = ZOO[name].make()
    return model.eval(), {key: each for key, each in example.items() if key != "use_cache"}


# --- generation ---------------------------------------------------------------------------------------------------

HALVES = {
    "gpt2": ["transformer.h.0.ln_1", "transformer.h.1.ln_1", "transformer.h.2.ln_2"],
    "llama": ["model.layers.0.self_attn", "model.layers.1.mlp"],
    "qwen2": ["model.layers.0.self_attn", "model.layers.0.mlp", "model.layers.1.self_attn"],
    "mistral": ["model.layers.0.self_attn", "model.layers.1.mlp"],
    "gemma2": ["model.layers.0.self_attn", "model.layers.2.self_attn"],  # all with a sliding window
    "gptneox": ["gpt_neox.layers.0", "gpt_neox.layers.2"],
    "bloom": ["transformer.h.0", "transformer.h.1:2", "transformer.h.2"],
    "t5": ["decoder.block.1.layer.0.SelfAttention", "decoder.block.1.layer.1.EncDecAttention"],
}
LAYERS = {
    "gpt2": ["transformer.h.0"],
    "llama": ["model.layers.0", "model.layers.2"],
    "qwen2": ["model.layers.1"],
    "mistral": ["model.layers.0"],
    "gemma2": ["model.layers.0", "model.layers.2"],
    "gptneox": ["gpt_neox.layers.1"],
    "bloom": ["transformer.h.0", "transformer.h.2"],
    "t5": ["encoder.block.1", "decoder.block.1"],
}
"""Of three layers; of two and two in T5."""
EVERY_TIME = ("gpt2", "gemma2", "t5")
FAMILIES = [pytest.param(each, marks=() if each in EVERY_TIME else pytest.mark.long) for each in HALVES]


def generated(model: nn.Module, ids: Tensor, mask: Tensor | None, use_cache: bool) -> tuple[Tensor, Tensor]:
    options = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False, "use_cache": use_cache}
    told = model.generate(ids, attention_mask=mask, output_logits=True, return_dict_in_generate=True, **options)
    return told.sequences, torch.stack(told.logits)


def assert_it_generates_the_same_with_a_cache(model: nn.Module, without_positions: bool = True) -> None:
    for ids, mask in [(IDS, None), (IDS, PADDED), (IDS[:1, :1], None)]:
        texts, logits = generated(model, ids, mask, use_cache=True)
        expected, plain = generated(model, ids, mask, use_cache=False)
        torch.testing.assert_close(logits, plain, rtol=1e-4, atol=1e-4)
        assert torch.equal(texts, expected)
    if without_positions and not model.config.is_encoder_decoder:  # nobody says where the tokens stand
        begun = model(IDS[:, :4], use_cache=True)
        name = "cache" if "cache" in begun else "past_key_values"
        went_on = model(IDS[:, 4:], use_cache=True, **{name: begun[name]}).logits
        torch.testing.assert_close(went_on, model(IDS).logits[:, 4:], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", FAMILIES)
def test_text_is_generated_with_a_cache_as_without_after_halves_of_layers_have_gone(name: str) -> None:
    model, example = model_of(name)
    config = copy.deepcopy(model.config)
    other = type(model)(model.config)  # made from the same configuration
    small = layerprune.remove(model, HALVES[name], example)
    assert_it_generates_the_same_with_a_cache(small)
    assert other.config.to_dict() == config.to_dict()


@pytest.mark.parametrize("name", FAMILIES)
def test_a_model_without_whole_layers_is_one_of_transformers_own(name: str, tmp_path: Path) -> None:
    model, example = model_of(name)
    whole = copy.deepcopy(model)
    small = layerprune.remove(model, LAYERS[name], example, granularity="layer")
    small.save_pretrained(tmp_path)
    back, told = type(model).from_pretrained(tmp_path, output_loading_info=True)
    assert not told["missing_keys"] and not told["unexpected_keys"]
    assert all(map(torch.equal, tensors_of(call(back.eval(), example)), tensors_of(call(small, example))))
    assert_it_generates_the_same_with_a_cache(small)
    assert torch.equal(generated(back, IDS, PADDED, True)[0], generated(small, IDS, PADDED, True)[0])
    layerprune.save(small, tmp_path / "small.safetensors")
    again = layerprune.load(tmp_path / "small.safetensors", into=whole)
    assert torch.equal(generated(again, IDS, None, True)[0], generated(small, IDS, None, True)[0])
    assert type(model)(again.config).state_dict().keys() == again.state_dict().keys()


def test_all_layers_of_a_configuration_follow() -> None:
    model, example = model_of("gemma2")
    small = layerprune.remove(model, LAYERS["gemma2"], example, granularity="layer")
    assert small.config.num_hidden_layers == 1 and small.config.layer_types == ["full_attention"]
    assert small.model.layers[0].self_attn.layer_idx == 0 and small.model.config is small.config


@pytest.mark.parametrize("name", ["bert", "bart", "vit-hf", "convnext", "falcon", "bloom", "opt", "gptj", "distilbert"])
@pytest.mark.long
def test_layers_of_other_families_go_whole_too(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, example = ZOO[name].make()
    sections = find_sections(model.eval(), example, "layer")
    small = layerprune.remove(model, [sections.removable[-1].name], example, granularity="layer")
    small.save_pretrained(tmp_path)
    back = type(model).from_pretrained(tmp_path).eval()
    assert all(map(torch.equal, tensors_of(call(back, example)), tensors_of(call(small, example))))


FULL_AND_SLIDING = ["full_attention", "sliding_attention"]


def qwen2_with_windows() -> nn.Module:
    sizes = {"vocab_size": 50, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 4}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
    windows = {"use_sliding_window": True, "sliding_window": 3, "max_window_layers": 2}
    return transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**sizes, **heads, **windows))


def gpt_neo() -> nn.Module:
    kinds = {"num_layers": 4, "attention_types": [[["global", "local"], 2]], "window_size": 3}
    sizes = {"vocab_size": 50, "hidden_size": 16, "num_heads": 2, "max_position_embeddings": 64}
    return transformers.GPTNeoForCausalLM(transformers.GPTNeoConfig(**kinds, **sizes))


@pytest.mark.parametrize(
    ("make", "path", "settings"),
    [
        (qwen2_with_windows, "model.layers", {"max_window_layers": 1, "layer_types": FULL_AND_SLIDING}),
        (gpt_neo, "transformer.h", {"num_layers": 2, "attention_layers": ["local", "local"]}),
    ],
)
def test_settings_of_single_layers_follow(make: Any, path: str, settings: dict[str, Any], tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = make().eval()
    gone = [f"{path}.0", f"{path}.2"]
    small = layerprune.remove(model, gone, {"input_ids": IDS}, granularity="layer")
    assert {name: getattr(small.config, name) for name in settings} == settings
    small.save_pretrained(tmp_path)
    back = type(model).from_pretrained(tmp_path).eval()
    assert torch.equal(back(IDS).logits, small(IDS).logits)
    assert_it_generates_the_same_with_a_cache(small)


def test_layers_and_halves_come_back_into_a_whole_model(tmp_path: Path) -> None:
    model, example = model_of("gemma2")
    whole = copy.deepcopy(model)
    small = layerprune.remove(model, ["model.layers.0"], example, granularity="layer")
    small = layerprune.remove(small, ["model.layers.0.self_attn"], example)
    smaller = layerprune.remove(copy.deepcopy(small), ["model.layers.0"], example, granularity="layer")
    for each, kinds in ((small, FULL_AND_SLIDING), (smaller, FULL_AND_SLIDING[1:])):
        assert each.config.num_hidden_layers == len(each.model.layers) == len(kinds)
        layerprune.save(each, tmp_path / "small.safetensors")
        back = layerprune.load(tmp_path / "small.safetensors", into=copy.deepcopy(whole))
        assert torch.equal(back(**example).logits, each(**example).logits)
        assert back.config.layer_types == each.config.layer_types
        assert_it_generates_the_same_with_a_cache(back)


def test_a_file_with_other_layers_changes_nothing(tmp_path: Path) -> None:
    model, example = model_of("gpt2")
    small = layerprune.remove(model, ["transformer.h.0"], example, granularity="layer")
    layerprune.save(small, tmp_path / "small.safetensors")
    for make in (lambda: small, lambda: model_of("llama")[0]):
        other = copy.deepcopy(make())
        before = str(other)
        with pytest.raises(LayerpruneError, match="belongs to another model than"):
            layerprune.load(tmp_path / "small.safetensors", into=other)
        assert str(other) == before


@pytest.mark.parametrize(
    "lists", [3, {"transformer.h": "01"}, {"transformer.h": [0, 7]}, {"transformer": [0]}], ids=str
)
def test_a_file_with_wrong_lists_of_layers_is_refused_in_one_line(lists: Any, tmp_path: Path) -> None:
    model, example = model_of("gpt2")
    path, other = tmp_path / "small.safetensors", copy.deepcopy(model)
    layerprune.save(layerprune.remove(model, ["transformer.h.0"], example, granularity="layer"), path)
    with safetensors.safe_open(path, "pt") as file:
        told = json.loads(file.metadata()["layerprune"]) | {"lists": lists}
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    safetensors.torch.save_file(weights, path, {"layerprune": json.dumps(told)})
    before = str(other)
    with pytest.raises(LayerpruneError) as raised:
        layerprune.load(path, into=other)
    assert str(path) in str(raised.value) and "\n" not in str(raised.value)
    assert str(other) == before


def with_scales_by_layer() -> nn.Module:
    sizes = {"vocab_size": 50, "n_embd": 16, "n_layer": 3, "n_head": 2, "initializer_range": 1.0}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, scale_attn_by_inverse_layer_idx=True))


@pytest.mark.parametrize(
    ("make", "path"),
    [
        (lambda: model_of("modernbert")[0], "model.layers"),  # its first layer alone has no norm before attention
        (with_scales_by_layer, "transformer.h"),
    ],
    ids=["modernbert", "scaled"],
)
def test_a_configuration_that_cannot_follow_is_told(make: Any, path: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, example = make().eval(), {"input_ids": IDS}
    whole = copy.deepcopy(model)
    with pytest.warns(UserWarning, match="its configuration cannot express which layers were removed"):
        small = layerprune.remove(model, [f"{path}.0"], example, granularity="layer")
    assert len(small.get_submodule(path)) == 3
    layerprune.save(small, tmp_path / "small.safetensors")
    back = layerprune.load(tmp_path / "small.safetensors", into=whole)
    assert torch.equal(back(**example).logits, small(**example).logits)


# --- training -----------------------------------------------------------------------------------------------------


def texts(count: int = 24) -> list[dict[str, Tensor]]:
    """Counting in steps of one, from anywhere."""
    rows = [torch.arange(start, start + 7) % 40 + 3 for start in range(count)]
    return [{"input_ids": row, "attention_mask": torch.ones_like(row), "labels": row} for row in rows]


@pytest.mark.parametrize("granularity", ["section", "layer"])
def test_a_language_model_is_pruned_in_the_trainer(granularity: str, tmp_path: Path) -> None:
    pytest.importorskip("accelerate", reason="Accelerate is absent: pip install transformers accelerate")
    from layerprune.library.integrations.transformers import PruneLayers

    model, example = model_of("gpt2")
    prune = PruneLayers(example, granularity=granularity, target_depth=1, theta_lr=1.0, check_interval=3)
    options = {"use_cpu": True, "report_to": "none", "disable_tqdm": True, "save_strategy": "no", "max_steps": 12}
    arguments = transformers.TrainingArguments(str(tmp_path), learning_rate=1e-2, **options)
    transformers.Trainer(model, arguments, train_dataset=texts(), callbacks=[prune]).train()
    assert len(prune.pruner.removed) == (5 if granularity == "section" else 2)
    small = prune.export()
    torch.testing.assert_close(small(IDS).logits, model.eval()(IDS).logits)
    assert small.config.n_layer == 1 and type(small) is type(model)
    assert_it_generates_the_same_with_a_cache(small, without_positions=granularity == "layer")  # attention may be gone
    small.save_pretrained(tmp_path)
    if granularity == "layer":
        back = type(model).from_pretrained(tmp_path).eval()
        assert torch.equal(back(IDS).logits, small(IDS).logits)


@pytest.mark.long
def test_a_language_models_checkpoint_goes_on_exactly(tmp_path: Path) -> None:
    pytest.importorskip("accelerate", reason="Accelerate is absent: pip install transformers accelerate")
    from layerprune.library.integrations.transformers import PruneLayers

    options = {"use_cpu": True, "report_to": "none", "disable_tqdm": True, "save_steps": 6, "max_steps": 12}
    arguments = transformers.TrainingArguments(str(tmp_path), learning_rate=1e-2, **options)
    states, removed = [], []
    for checkpoint in (None, str(tmp_path / "checkpoint-6")):
        model, example = model_of("gpt2")
        prune = PruneLayers(example, granularity="layer", target_depth=1, theta_lr=1.0, check_interval=3)
        trainer = transformers.Trainer(model, arguments, train_dataset=texts(), callbacks=[prune])
        trainer.train(resume_from_checkpoint=checkpoint)
        states.append(model.state_dict())
        removed.append(prune.pruner.removed)
    assert removed[0] == removed[1] and len(removed[0]) == 2
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_layers_leave_a_model_whose_adapters_alone_are_trained(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft", reason="peft is absent: pip install '.[peft]'")
    base, example = model_of("llama")
    settings = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj", "down_proj"], task_type="CAUSAL_LM")
    model = peft.get_peft_model(base, settings)
    names = [each.name for each in find_sections(model, example).removable]
    assert len(names) == 6 and names[0] == "base_model.model.model.layers.0.self_attn"
    trained = [each for each in model.parameters() if each.requires_grad]
    optimizer, frozen = torch.optim.AdamW(trained, lr=1e-2), base.lm_head.weight.clone()
    sections = find_sections(model, example, "layer")
    pruner = layerprune.ConcurrentPruner(
        model, sections, optimizer, total_steps=8, target_depth=1, theta_lr=1.0, check_interval=2
    )
    batch = {key: torch.stack([each[key] for each in texts(8)]) for key in ("input_ids", "labels")}
    for _ in range(8):
        model.train()(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        pruner.step()
    assert len(pruner.removed) == 2 and torch.equal(base.lm_head.weight, frozen)
    exported = pruner.export().eval()
    merged = layerprune.remove(exported.merge_and_unload(), [], example)
    torch.testing.assert_close(merged(IDS).logits, model.eval()(input_ids=IDS).logits)
    assert merged.config.num_hidden_layers == 1
    merged.save_pretrained(tmp_path)
    back = type(base).from_pretrained(tmp_path).eval()
    assert torch.equal(back(IDS).logits, merged(IDS).logits)


# --- scores -------------------------------------------------------------------------------------------------------


def batches(name: str) -> list[Any]:
    """Two batches of texts of different lengths, the second padded, some labels left out."""
    rows = [{"input_ids": IDS, "labels": IDS.clone()}, {"input_ids": IDS[:, :5], "labels": IDS[:, :5].clone()}]
    rows[0]["labels"][0, :2] = -100
    rows[1]["attention_mask"] = PADDED[:, :5]
    if name == "pairs":
        return [(each["input_ids"], each["labels"].roll(-1, 1)) for each in rows]
    return rows


@pytest.mark.parametrize("granularity", ["section", "layer"])
def test_block_influence_is_the_angle_of_the_hidden_states(granularity: str) -> None:
    model, example = model_of("gpt2")
    sections = find_sections(model, example, granularity)
    scores = layerprune.section_scores(model, sections, "block-influence", batches("dictionaries"))
    expected = torch.zeros(3, dtype=torch.double)
    states: list[Tensor] = []
    handles = [each.register_forward_pre_hook(lambda _, x: states.append(x[0])) for each in model.transformer.h]
    handles.append(model.transformer.ln_f.register_forward_pre_hook(lambda _, x: states.append(x[0])))
    for batch in batches("dictionaries"):
        states.clear()
        model(**batch)
        pairs = itertools.pairwise(states)
        angles = [1 - torch.cosine_similarity(a.flatten(1).double(), b.flatten(1).double()) for a, b in pairs]
        expected += torch.stack([each.sum().detach() for each in angles]) / 4
    for handle in handles:
        handle.remove()
    if granularity == "layer":
        torch.testing.assert_close(list(scores.values()), expected.tolist(), rtol=1e-4, atol=1e-6)
    small = layerprune.prune_by_scores(model, sections, "block-influence", keep=2, batches=batches("dictionaries"))
    gone = sorted(scores, key=scores.get)[:-2]
    chosen = layerprune.remove(copy.deepcopy(model), gone, example, granularity=granularity)
    assert torch.equal(small(IDS).logits, chosen(IDS).logits)


def test_gpt2s_layers_are_scored_by_the_weights_that_they_hold_the_other_way_round() -> None:
    model, example = model_of("gpt2")
    sections = find_sections(model, example)
    layers = [each for block in model.transformer.h for each in (block.attn.c_attn, block.mlp.c_fc)]
    expected = [float(each.weight.detach().square().sum(0).mean()) for each in layers]  # filters are columns
    scores = layerprune.section_scores(model, sections, "magnitude")
    torch.testing.assert_close(list(scores.values()), expected)
    small = layerprune.prune_by_scores(model, sections, "taylor", keep=3, batches=batches("dictionaries"))
    assert {type(each) for each in small.modules()} >= {type(layers[0])}


def test_a_loss_of_tokens_is_the_models_own() -> None:
    model, example = model_of("llama")
    sections = find_sections(model, example)
    rows = batches("dictionaries")
    scores = layerprune.section_scores(model, sections, "leave-one-out", rows)
    small = layerprune.remove(copy.deepcopy(model), [sections[2].name], example)
    counts = [int((each["labels"][:, 1:] != -100).sum()) for each in rows]
    with torch.no_grad():
        rises = [float(small(**row).loss - model(**row).loss) * count for row, count in zip(rows, counts, strict=True)]
    assert scores[sections[2].name] == pytest.approx(sum(rises), abs=1e-3)
    aligned = layerprune.section_scores(model, sections, "leave-one-out", [(rows[0]["input_ids"][:, :-1],
        rows[0]["labels"][:, 1:])])  # fmt: skip
    alone = layerprune.section_scores(model, sections, "leave-one-out", rows[:1])
    torch.testing.assert_close(list(aligned.values()), list(alone.values()), rtol=1e-3, atol=1e-4)


def test_scores_that_need_a_class_for_each_text_say_so() -> None:
    model, example = model_of("gpt2")
    sections = find_sections(model, example)
    with pytest.raises(LayerpruneError, match="imprinting: needs one label per example, not one per token"):
        layerprune.section_scores(model, sections, "imprinting", batches("dictionaries"))


def test_finding_sections_makes_no_cache_and_leaves_the_configuration() -> None:
    model, example = model_of("mistral")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sections = find_sections(model, example)
    assert len(sections.removable) == 6 and len(sections.passages) == 3
    assert model.config.use_cache is True
