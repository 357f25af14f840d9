"""The networks of the zoo: torchvision's, timm's and Transformers' with few channels and layers, and some of our own.

Each is a function that makes a network, in random weights that let signals through, and an example of its input.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from . import own


@dataclass(frozen=True)
class Animal:
    """A network of the zoo: `make` returns a module and its example; `ordinary` ones are tried in every test run."""

    name: str
    kind: str
    make: Callable[[], tuple[nn.Module, Any]]
    ordinary: bool = False


def built(animal: Animal) -> tuple[nn.Module, Any]:
    """A network with weights of seed 0, in evaluation mode, and its example."""
    torch.manual_seed(0)
    model, example = animal.make()
    for part in model.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.affine:
            nn.init.uniform_(part.weight, 0.5, 1.5)
        for name in ("gamma", "layer_scale", "lambda1"):
            if isinstance(getattr(part, name, None), nn.Parameter):
                nn.init.uniform_(getattr(part, name), 0.3, 0.7)
    return model.eval(), example


def zoo() -> dict[str, Animal]:
    """All networks by name, of the packages that are installed."""
    found = [*_own(), *_torchvisions(), *_timms(), *_transformers()]
    return {each.name: each for each in found}


def picture(size: int = 64, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(1))


def text(length: int = 7, batch: int = 2) -> torch.Tensor:
    return torch.randint(3, 50, (batch, length), generator=torch.Generator().manual_seed(1))


def _own() -> list[Animal]:
    return [Animal(name, "own", make, True) for name, make in own.NETWORKS.items()]


# --- torchvision ------------------------------------------------------------------------------------------------

_CLASSIFIERS = {
    **dict.fromkeys(("resnet18", "resnet50", "resnext50_32x4d", "wide_resnet50_2"), 64),
    **dict.fromkeys(("mobilenet_v2", "mobilenet_v3_small", "efficientnet_b0", "efficientnet_v2_s"), 64),
    **dict.fromkeys(("regnet_y_400mf", "regnet_x_400mf", "convnext_tiny", "mnasnet0_5", "shufflenet_v2_x0_5"), 64),
    **dict.fromkeys(("densenet121", "vgg11", "alexnet", "squeezenet1_1"), 64),
    **dict.fromkeys(("swin_t", "swin_v2_t"), 64),
}
_EVERY_TIME = {"resnet18", "mobilenet_v3_small", "vit_tiny", "gpt2", "llama", "bert", "t5"}


def _torchvisions() -> list[Animal]:
    import torchvision

    models = torchvision.models
    found = [
        Animal(name, "torchvision", lambda name=name, size=size: (getattr(models, name)(num_classes=5), picture(size)))
        for name, size in _CLASSIFIERS.items()
    ]
    named = {
        "vit": lambda: (models.VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=5), picture(32)),
        "maxvit": lambda: (_maxvit(models), picture(64)),
        "googlenet": lambda: (models.googlenet(num_classes=5, init_weights=False), picture(96)),
        "inception_v3": lambda: (models.inception_v3(num_classes=5, init_weights=False, aux_logits=False), picture(96)),
        "lraspp": lambda: (
            models.segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=4),
            picture(64),
        ),
        "deeplab": lambda: (
            models.segmentation.deeplabv3_resnet50(weights=None, weights_backbone=None, num_classes=4),
            picture(64),
        ),
        "fasterrcnn-backbone": lambda: (
            models.detection.fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None).backbone,
            picture(64),
        ),
        "r3d_18": lambda: (models.video.r3d_18(num_classes=5), torch.randn(2, 3, 4, 32, 32)),
        "mc3_18": lambda: (models.video.mc3_18(num_classes=5), torch.randn(2, 3, 4, 32, 32)),
        "raft": lambda: (models.optical_flow.raft_small(), (picture(128, 1), picture(128, 1).flip(3))),
    }
    found += [Animal(name, "torchvision", make) for name, make in named.items()]
    return [Animal(each.name, each.kind, each.make, each.name in _EVERY_TIME) for each in found]


def _maxvit(models: Any) -> nn.Module:
    return models.MaxVit(
        input_size=(64, 64), stem_channels=8, partition_size=2, block_channels=[8, 16], block_layers=[1, 1],
        head_dim=4, stochastic_depth_prob=0.1, num_classes=5,
    )  # fmt: skip


# --- timm -------------------------------------------------------------------------------------------------------

_TIMMS: dict[str, dict[str, Any]] = {
    **{
        name: {}
        for name in (
            *("resnet10t", "resnet26d", "resnetv2_50", "seresnet18", "skresnet18", "ecaresnet26t", "resnest14d"),
            *("resnext26ts", "regnety_002", "regnetx_002", "mobilenetv2_035", "mobilenetv3_small_050"),
            *("mobilenetv4_conv_small",),
            *("efficientnet_b0", "tf_efficientnetv2_b0", "tinynet_e", "ghostnet_050", "rexnet_100", "mnasnet_050"),
            *("convnext_atto", "convnextv2_atto", "fbnetc_100", "lcnet_050", "dla34", "dpn48b", "res2net50_14w_8s"),
            *("repvgg_a0", "nf_resnet26", "hardcorenas_a", "edgenext_xx_small", "starnet_s1", "poolformer_s12"),
            *("nfnet_f0", "inception_next_atto", "hgnet_tiny", "vovnet39a", "cspresnet50", "darknet17"),
            *("selecsls42", "efficientvit_b0", "gernet_s", "repghostnet_050", "ese_vovnet19b_dw"),
            *("fasternet_t0",),
        )
    },
    "vit_tiny_patch16_224": {"img_size": 32, "depth": 3},
    "deit3_small_patch16_224": {"img_size": 32, "depth": 2},
    "deit_tiny_distilled_patch16_224": {"img_size": 32, "depth": 2},
    "beit_base_patch16_224": {"img_size": 32, "depth": 2, "embed_dim": 48, "num_heads": 2},
    "eva02_tiny_patch14_224": {"img_size": 28, "depth": 2},
    "swin_tiny_patch4_window7_224": {"img_size": 64, "window_size": 2, "depths": (1, 2, 2, 1), "embed_dim": 24},
    "mixer_s32_224": {"img_size": 64},
    "resmlp_12_224": {"img_size": 64},
    "gmlp_ti16_224": {"img_size": 64},
    "sequencer2d_s": {"layers": (1, 1, 1, 1)},
    "cait_xxs24_224": {"img_size": 32, "depth": 2},
    "xcit_nano_12_p16_224": {"img_size": 64, "depth": 2},
    "pit_ti_224": {"img_size": 64},
    "pvt_v2_b0": {},
    "twins_pcpvt_small": {"img_size": 64},
    "levit_128s": {"img_size": 64},
    "coat_tiny": {"img_size": 64},
    "mobilevit_xxs": {},
    "efficientformer_l1": {},
    "fastvit_t8": {},
    "coatnet_nano_rw_224": {"img_size": 64},
    "crossvit_tiny_240": {},
}  # fmt: skip


def _timms() -> list[Animal]:
    try:
        import timm
    except ImportError:
        return []

    def make(name: str, options: dict[str, Any]) -> tuple[nn.Module, Any]:
        size = {"crossvit_tiny_240": 240, "nfnet_f0": 64, "efficientformer_l1": 224}.get(
            name, options.get("img_size", 64)
        )
        return timm.create_model(name, num_classes=5, **options), picture(size)

    ordinary = {"vit_tiny_patch16_224", "tf_efficientnetv2_b0", "pvt_v2_b0", "convnextv2_atto"}
    return [
        Animal(f"timm {name}", "timm", lambda name=name, options=options: make(name, options), name in ordinary)
        for name, options in _TIMMS.items()
    ]


# --- Transformers -----------------------------------------------------------------------------------------------

_DECODER = {
    "vocab_size": 50, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2,
    "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
_GROUPED = _DECODER | {"num_key_value_heads": 1, "head_dim": 8}
_GPT = {
    "vocab_size": 50,
    "n_embd": 16,
    "n_layer": 3,
    "n_head": 2,
    "n_positions": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_SEQUENCES = {
    "vocab_size": 50, "d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "max_position_embeddings": 64,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1, "forced_eos_token_id": None,
}  # fmt: skip
_T5 = {
    "vocab_size": 50, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2,
    "pad_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 0,
}  # fmt: skip
CAUSAL: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("GPT2", _GPT),
    "gptj": ("GPTJ", _GPT | {"rotary_dim": 4}),
    "gptneox": ("GPTNeoX", _DECODER),
    "opt": ("OPT", _DECODER | {"ffn_dim": 32, "word_embed_proj_dim": 16}),
    "bloom": ("Bloom", {"vocab_size": 50, "hidden_size": 16, "n_layer": 3, "n_head": 2}),
    "falcon": ("Falcon", {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2}),
    "llama": ("Llama", _GROUPED),
    "mistral": ("Mistral", _GROUPED | {"sliding_window": 4}),
    "qwen2": ("Qwen2", _GROUPED),
    "qwen3": ("Qwen3", _GROUPED),
    "phi": ("Phi", _DECODER),
    "gemma": ("Gemma", _GROUPED),
    "gemma2": ("Gemma2", _GROUPED),
    "olmo2": ("Olmo2", _GROUPED),
    "stablelm": ("StableLm", _GROUPED),
    "mixtral": ("Mixtral", _GROUPED | {"num_local_experts": 2}),
    "gpt-oss": ("GptOss", _GROUPED | {"num_local_experts": 2, "num_experts_per_tok": 1}),
}
MASKED: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("Bert", _DECODER),
    "roberta": ("Roberta", _DECODER),
    "electra": ("Electra", _DECODER | {"embedding_size": 16}),
    "mpnet": ("MPNet", _DECODER),
    "deberta-v2": ("DebertaV2", _DECODER | {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]}),
    "distilbert": ("DistilBert", {"vocab_size": 50, "dim": 16, "hidden_dim": 32, "n_layers": 3, "n_heads": 2}),
    "albert": ("Albert", _DECODER | {"embedding_size": 16}),
    "modernbert": ("ModernBert", _DECODER | {"cls_token_id": 1, "sep_token_id": 2}),
}
_PATCHES = {
    "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32, "image_size": 32,
    "patch_size": 8,
}  # fmt: skip
_WIDTHS = {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 2, 1, 1]}
_WINDOWS = {
    "image_size": 32, "patch_size": 4, "embed_dim": 8, "depths": [1, 2], "num_heads": [2, 2], "window_size": 4,
}  # fmt: skip
_STAGES = {"embedding_size": 8, **_WIDTHS}
PICTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "vit-hf": ("ViT", _PATCHES),
    "deit": ("DeiT", _PATCHES),
    "dinov2": ("Dinov2", _PATCHES),
    "beit": ("Beit", _PATCHES),
    "swin": ("Swin", _WINDOWS),
    "convnext": ("ConvNext", _WIDTHS),
    "convnextv2": ("ConvNextV2", _WIDTHS),
    "resnet-hf": ("ResNet", {**_STAGES, "layer_type": "basic"}),
    "mobilenet-v2-hf": ("MobileNetV2", {"depth_multiplier": 0.35}),
    "segformer": ("Segformer", _WIDTHS | {"depths": [1, 1, 1, 1], "num_attention_heads": [1, 1, 2, 2]}),
    "swiftformer": ("SwiftFormer", {"depths": [1, 2, 1, 1], "embed_dims": [8, 8, 16, 16]}),
    "hiera": ("Hiera", {"image_size": [32, 32], "embed_dim": 8, "depths": [1, 2, 1, 1], "num_heads": [1, 1, 2, 2]}),
}  # fmt: skip


def _transformers() -> list[Animal]:
    try:
        import transformers
    except ImportError:
        return []

    def model(kind: str, head: str, settings: dict[str, Any], example: Any) -> tuple[nn.Module, Any]:
        config = getattr(transformers, f"{kind}Config")(**settings)
        name = "GPT2LMHeadModel" if (kind, head) == ("GPT2", "ForCausalLM") else f"{kind}{head}"
        return getattr(transformers, name)(config), example

    def animals(group: dict, head: str, example: Any) -> list[Animal]:
        return [
            Animal(
                name,
                "transformers",
                lambda kind=kind, settings=settings: model(kind, head, settings, example()),
                name in _EVERY_TIME,
            )
            for name, (kind, settings) in group.items()
        ]

    def masked() -> dict[str, Any]:
        mask = torch.ones(2, 7, dtype=torch.long)
        mask[1, 5:] = 0
        return {"input_ids": text(), "attention_mask": mask}

    def pair() -> dict[str, Any]:
        return {"input_ids": text(), "decoder_input_ids": text(5)}

    return [
        *animals(CAUSAL, "ForCausalLM", lambda: {"input_ids": text(), "use_cache": False}),
        *animals(MASKED, "ForSequenceClassification", masked),
        *animals(PICTURES, "Model", lambda: picture(32)),
        *animals({"t5": ("T5", _T5)}, "ForConditionalGeneration", pair),
        *animals({"bart": ("Bart", _SEQUENCES), "marian": ("Marian", _SEQUENCES)}, "Model", pair),
    ]
