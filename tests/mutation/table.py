"""Faults to plant in the package, each with the golden cases that must notice it.

A fault is named by the text that it replaces, which stands once in the package (or once in the one file that also holds
`inside`): so moved code needs no change here. Every file of core/ that decides numbers has one; EXEMPT says why the
others need none.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """What is wrong, as a name; the sound text and the faulty one; cases that notice it."""

    name: str
    old: str
    new: str
    cases: tuple[str, ...]
    inside: str = ""
    quick: bool = False
    """Whether it is tried in every test run."""


MLP = "mlp/digits/mlp-residual-6"


def mlp(method: str, variant: str = "default") -> tuple[str, ...]:
    return (f"{MLP}/{method}/{variant}/seed0",)


def lenet5(method: str, variant: str = "default") -> tuple[str, ...]:
    return (f"lenet/digits/lenet5/{method}/{variant}/seed0",)


def cifar(method: str, arch: str = "resnet-14", variant: str = "default") -> tuple[str, ...]:
    return (f"cifar/cifar10/{arch}/{method}/{variant}/seed1",)


def piece(name: str) -> tuple[str, ...]:
    return (f"pieces/{name}",)


TRAINING = [
    Fault(
        "half the epochs",
        "return count * steps_per_epoch if",
        "return count * steps_per_epoch // 2 if",
        mlp("dense"),
        quick=True,
    ),
    Fault("no weight decay", "weight_decay=settings.weight_decay,", "weight_decay=0.0,", mlp("dense"), quick=True),
    *(
        Fault(name, old, new, cifar("dense", "resnet-8", "recipe"))
        for name, old, new in (
            ("decay on all weights", 'decayed == "all" or each.ndim > 1', "True"),
            ("no smoothing", "label_smoothing=training.label_smoothing,", "label_smoothing=0.0,"),
            ("no average of weights", "            self.average.copy_to(self.network)", "            pass"),
            (
                "average of half the decay",
                "list(now.values()), 1 - self.decay)",
                "list(now.values()), 1 - self.decay / 2)",
            ),
            ("percentage of the warm-up halved", "// 100 if warmup", "// 200 if warmup"),
            ("crops as wide as without a setting", "if crop is None else crop,", "if True else crop,"),
            ("no identities in the branches", 'if settings.init == "dirac":', "if False:"),
        )
    ),
    Fault("no momentum", "        momentum=settings.momentum,", "        momentum=0.0,", mlp("dense")),
    Fault("never nesterov", "nesterov=settings.nesterov,", "nesterov=False,", mlp("dense", "linear")),
    Fault(
        "validates on the training split",
        "split = job.data.validation if split is None",
        "split = job.data.train if split is None",
        mlp("dense"),
        quick=True,
    ),
    Fault(
        "gates of the first epoch for ever",
        "self.method.start_epoch(progress.epoch)",
        "self.method.start_epoch(0)",
        mlp("stochastic-depth"),
    ),
    Fault(
        "cosine of half an angle",
        "math.cos(math.pi * fraction)",
        "math.cos(math.pi * fraction / 2)",
        piece("learning rates"),
    ),
    Fault(
        "learning rate unscaled",
        "return 1.0 if settings.lr_batch is None else settings.batch_size / settings.lr_batch",
        "return 1.0",
        mlp("dense", "constant"),
    ),
    Fault("no warm-up", "if step < warmup:", "if step < 0:", mlp("dense", "thirds")),
    Fault(
        "backward pass not billed", "self.total += 3 * examples", "self.total += 1 * examples", mlp("dense"), quick=True
    ),
    Fault(
        "sample in order",
        'torch.randperm(len(split), generator=generator("sample", seed))[:size]',
        "torch.arange(len(split))[:size]",
        mlp("taylor"),
    ),
    Fault(
        "gates ignored",
        "    function: Forward = network",
        "    function = lambda images, gates: network(images)",
        cifar("stochastic-depth"),
    ),
    Fault("bfloat16 never", 'if precision == "bf16"', 'if precision == "bf17"', piece("number formats")),
    Fault("cooler distillation", "TEMPERATURE = 4.0", "TEMPERATURE = 2.0", mlp("leave-one-out", "distilled")),
    Fault(
        "removal one step late",
        "context.steps_total) // self.to_go)",
        "context.steps_total) // self.to_go + 1)",
        mlp("magnitude", "iterative"),
    ),
    Fault(
        "last batch counts as a whole one",
        "sums[3] += len(labels)",
        "sums[3] += batch_size(data)",
        piece("evaluation"),
        quick=True,
    ),
    Fault("best four", "logits.topk(5)", "logits.topk(4)", piece("evaluation")),
    Fault("other seeds", '"big") >> 1', '"big") >> 2', piece("random streams")),
    Fault(
        "sum for mean", "return losses.mean() if self.size == 1", "return losses.sum() if self.size == 1", mlp("dense")
    ),
]
DATA = [
    Fault(
        "variance for deviation",
        "deviations.append(variance**0.5)",
        "deviations.append(variance)",
        piece("data digits"),
    ),
    Fault(
        "images backwards", "values.reshape(shape).copy()", "values.reshape(shape)[::-1].copy()", piece("data mnist")
    ),
    Fault("rounded down", "255 * ink + whole // 2", "255 * ink", piece("data digits")),
    Fault(
        "another digest",
        "return hashlib.sha256(data).hexdigest()",
        "return hashlib.sha1(data).hexdigest()",
        piece("data cifar10 as an archive"),
    ),
    Fault(
        "validation is trained on",
        "train = training.without(validation)",
        "train = training",
        piece("data mnist"),
        inside='"""MNIST from',
    ),
    Fault(
        "other means of CIFAR-10",
        'return cifar.load(root, catalog.chosen_form("cifar10", root, source))',
        'data = cifar.load(root, catalog.chosen_form("cifar10", root, source))\n'
        "    return __import__('dataclasses').replace(data, mean=(0.5, 0.5, 0.5))",
        piece("data cifar10 as a tree"),
    ),
    Fault(
        "other means of CIFAR-100",
        'return cifar.load(root, catalog.chosen_form("cifar100", root, source))',
        'data = cifar.load(root, catalog.chosen_form("cifar100", root, source))\n'
        "    return __import__('dataclasses').replace(data, mean=(0.5, 0.5, 0.5))",
        piece("data cifar100 as a tree"),
    ),
    Fault(
        "colours backwards",
        ".reshape(-1, 3, 32, 32)",
        ".reshape(-1, 3, 32, 32)[:, ::-1]",
        piece("data cifar10 as an archive"),
    ),
    Fault(
        "images on their side",
        "return np.asarray(image).transpose(2, 0, 1)",
        "return np.asarray(image).transpose(2, 1, 0)",
        piece("data cifar10 as a tree"),
        inside="CIFAR-10 and CIFAR-100",
    ),
    Fault("fewer images held out", "VALIDATION_SHARE = 10", "VALIDATION_SHARE = 20", piece("data cifar10 as a tree")),
    Fault(
        "kept images backwards",
        "    return arrays\n",
        "    return {name: array[::-1].copy() for name, array in arrays.items()}\n",
        piece("data cifar10 as a tree"),
        inside='"""Decoded images, cached',
    ),
    Fault(
        "a part of the archive lost",
        "if member.isfile():",
        'if member.isfile() and "_5" not in member.name:',
        piece("data cifar10 as an archive"),
    ),
    Fault("another split", "_SEED = 20240531", "_SEED = 20240532", piece("data mnist"), quick=True),
    Fault(
        "source ignored",
        "if key in parameters",
        "if key not in ('source',)",
        piece("data imagenet in memory"),
        inside="Data sets by name",
    ),
    Fault(
        "smaller digits",
        'channels=1,\n    size=28,\n    sources=("digits",)',
        'channels=1,\n    size=24,\n    sources=("digits",)',
        piece("data digits"),
    ),
    Fault(
        "one order for all epochs",
        'drawn = torch.randperm(count, generator=generator("order", self.seed, number))',
        'drawn = torch.randperm(count, generator=generator("order", self.seed, 0))',
        piece("batches as they are"),
        quick=True,
    ),
    Fault("smaller shifts", '"shift": 2', '"shift": 1', piece("batches shifted"), quick=True),
    Fault(
        "flips never alternate",
        "(self._first_mirrored[drawn] + number) % 2",
        "self._first_mirrored[drawn]",
        piece("batches alternately mirrored"),
    ),
    Fault("never mirrored", 'MIRRORED = {"crop-flip"}', "MIRRORED = set()", piece("batches cropped and mirrored")),
    Fault(
        "split backwards",
        "images=self.images.take(indices.numpy())",
        "images=self.images.take(indices.numpy()[::-1])",
        piece("data imagenet in its files"),
    ),
    Fault(
        "classes backwards",
        "classes = sorted(by_class)",
        "classes = sorted(by_class, reverse=True)",
        piece("data imagenet in its files"),
    ),
    Fault(
        "one order for all streamed epochs",
        'generator=generator("order", self.seed, number)).tolist()',
        'generator=generator("order", self.seed, 0)).tolist()',
        piece("batches decoded by pillow"),
    ),
    Fault(
        "larger views",
        "AREA, ASPECT = (0.08, 1.0)",
        "AREA, ASPECT = (0.5, 1.0)",
        piece("batches decoded by torchvision"),
    ),
    Fault("no margin in evaluation", "[self.size * 8 // 7]", "[self.size]", piece("data imagenet in its files")),
    Fault("other means of ImageNet", "MEAN, STD = (0.485,", "MEAN, STD = (0.5,", piece("data imagenet in its files")),
]
NETWORKS = [
    Fault(
        "untrained parent", "    network.load_state_dict(state)\n", "    network.train()\n", mlp("by-index", "listed")
    ),
    Fault(
        "weights not taken",
        "        load(network, content)",
        "        load",
        ("pretrained/cifar10/resnet-8/dense/default/seed0",),
    ),
    Fault(
        "akamaster's norms swapped",
        '"1": "bn1", "3": "conv2", "4": "bn2"}',
        '"1": "bn2", "3": "conv2", "4": "bn1"}',
        ("pretrained/cifar10/resnet-8/dense/default/seed0",),
    ),
    Fault(
        "torchvision's norms swapped",
        '"1": "bn1", "3": "conv2", "4": "bn2", "6"',
        '"1": "bn2", "3": "conv2", "4": "bn1", "6"',
        piece("torchvision's weights"),
    ),
    Fault(
        "own weights kept",
        "{ours: state[theirs] for ours, theirs in names.items()}",
        "{ours: own[ours] for ours, theirs in names.items()}",
        piece("torchvision's weights"),
    ),
    Fault(
        "gates squared",
        "torch.addcmul(passed.to(out.dtype), gate, out)",
        "torch.addcmul(passed.to(out.dtype), gate**2, out)",
        mlp("sss"),
        quick=True,
    ),
    Fault(
        "mean for max in ImageNet's pre-activation stem",
        "width, 7, 2), nn.MaxPool2d(3, 2, padding=1)",
        "width, 7, 2), nn.AvgPool2d(3, 2, padding=1)",
        piece("network imagenet-preact-resnet"),
    ),
    Fault(
        "mean for max in ImageNet's stem",
        "nn.ReLU(), nn.MaxPool2d(3, 2, padding=1)",
        "nn.ReLU(), nn.AvgPool2d(3, 2, padding=1)",
        piece("network imagenet-resnet of two layers"),
    ),
    Fault("smaller start of an MLP", "** -0.5)", "** -1.0)", piece("network mlp-residual")),
    Fault(
        "a ReLU less in LeNet-5",
        "nn.MaxPool2d(2), nn.ReLU(), nn.Conv2d(20, 50, 5)",
        "nn.MaxPool2d(2), nn.Conv2d(20, 50, 5)",
        piece("network lenet5"),
    ),
    Fault("a layer less in VGG", "(8, 3), (8, 3))", "(8, 3), (8, 2))", piece("network vgg16")),
    Fault(
        "max for mean in a shortcut",
        "halved = nn.Sequential(nn.AvgPool2d(2)",
        "halved = nn.Sequential(nn.MaxPool2d(2)",
        piece("network preact-resnet"),
    ),
    Fault(
        "max for mean in a head",
        "nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * width, classes)",
        "nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(4 * width, classes)",
        piece("network resnet"),
    ),
    Fault(
        "a ReLU less in LeNet-300-100",
        "output = nn.Sequential(nn.ReLU(), nn.Linear(100, classes))",
        "output = nn.Sequential(nn.Identity(), nn.Linear(100, classes))",
        piece("network lenet-300-100"),
    ),
    Fault(
        "zeros behind alone",
        "(0, 0, 0, 0, each_side, each_side)",
        "(0, 0, 0, 0, 0, 2 * each_side)",
        piece("network resnet"),
    ),
    Fault(
        "size halved once less",
        "halves = stage > 0 and number == 0",
        "halves = stage > 1 and number == 0",
        piece("network imagenet-resnet of two layers"),
    ),
    Fault("no size halved", "return 2 if self.changes_shape else 1", "return 1", piece("network resnet")),
    Fault(
        "another initialisation",
        'nonlinearity="relu" if behind_relu else "linear"',
        'nonlinearity="relu"',
        piece("network mlp-residual"),
        quick=True,
    ),
    Fault(
        "shape-changing sections may go",
        "network.fix(section for section in network.chain if not section.preserves_shape)",
        "pass",
        piece("network resnet of fixed sections"),
    ),
]
FOLDING = [
    Fault("gate folded twice", "parameter.mul_(factor)", "parameter.mul_(factor * factor)", mlp("hard-concrete")),
    Fault(
        "fewer folds",
        "more_parameters=True)",
        "more_parameters=False)",
        piece("networks without any section"),
        quick=True,
    ),
    Fault(
        "constant lost in a product",
        "folded.bias.copy_(constant)",
        "folded.bias.zero_()",
        piece("networks without any section"),
    ),
    Fault(
        "constant lost in a convolution",
        "outer.sum((2, 3)) @ first.bias",
        "0 * outer.sum((2, 3)) @ first.bias",
        (*piece("network preact-resnet"), *piece("networks without any section"), *piece("network vgg16")),
    ),
    Fault(
        "gap of another sign",
        "(reference - smaller(images)).abs().max()",
        "(reference + smaller(images)).abs().max()",
        mlp("dense"),
        quick=True,
    ),
    Fault("evaluates in training mode", "        module.eval()\n", "        module.train()\n", cifar("dense")),
    Fault(
        "MACs of a filter only",
        "output[0].numel() * layer.weight[0].numel()",
        "output[0].numel()",
        piece("network lenet5"),
        quick=True,
    ),
]
GATES = [
    Fault("half a price", "return log_gamma / examples", "return log_gamma / (2 * examples)", piece("prices")),
    Fault("another Beta", "b = 1 / mean - 1", "b = 1 / mean", mlp("gated", "prior-beta")),
    Fault("no offset in the fixed prior", "- offset.to(theta)", "- 0 * offset.to(theta)", mlp("gated", "prior-fixed")),
    Fault(
        "slower logit",
        "scale = rate / (theta0 * (1 - theta0)) ** 2",
        "scale = rate / (theta0 * (1 - theta0))",
        mlp("gated", "prior-l0"),
    ),
    Fault(
        "gates open too seldom",
        "(uniform < theta.view(-1, 1, 1)).to(torch.float32)",
        "(uniform < theta.view(-1, 1, 1) ** 2).to(torch.float32)",
        mlp("gated"),
    ),
    Fault(
        "partner not antithetic",
        "(1 - uniform < threshold).float()",
        "(uniform < threshold).float()",
        mlp("gated", "disarm"),
    ),
    Fault(
        "two-sided forgets a side",
        "self._absorb([opened, total - opened]",
        "self._absorb([opened, total]",
        mlp("gated"),
        quick=True,
    ),
    Fault(
        "straight-through halved",
        "self._absorb([slopes.sum(1)], [torch",
        "self._absorb([slopes.sum(1) / 2], [torch",
        mlp("gated", "straight-through"),
    ),
    Fault(
        "finite difference of another sign",
        "sign * (losses - losses_of(flipped))",
        "sign * (losses_of(flipped) - losses)",
        mlp("gated", "finite-difference"),
    ),
    Fault("DisARM's half lost", "half = 0.5 * (losses", "half = 1.0 * (losses", mlp("gated", "disarm")),
    Fault("longer memory", "self._averages.mul_(self.decay)", "self._averages.mul_(1.0)", mlp("gated", "watched")),
    Fault("no floor in sampling", "min(self.side_floor / batch_size, 0.5)", "0.0", mlp("estimator-error")),
    Fault("another stretch", "BETA = 2 / 3", "BETA = 1 / 2", mlp("hard-concrete")),
]
METHODS = [
    Fault("costs not normalised", "raw * (self.sections / raw.sum())", "raw * (1 / raw.sum())", mlp("gated")),
    Fault(
        "lowest scores kept",
        "key=lambda index: (-scores[index], index)",
        "key=lambda index: (scores[index], index)",
        mlp("magnitude"),
        quick=True,
    ),
    Fault(
        "dense aims to prune",
        '"""Plain training of the whole network."""',
        '"""Plain training of the whole network."""\n    aims_to_prune = True',
        mlp("dense"),
    ),
    Fault("another default price", "DEFAULT_NU = 0.002", "DEFAULT_NU = 0.02", mlp("gated", "own-price"), quick=True),
    Fault(
        "theta without a price", "return self.estimator.delta() + prices", "return self.estimator.delta()", mlp("gated")
    ),
    Fault(
        "slower decay of steps",
        "1 + self.settings.theta_lr_decay * epochs",
        "1 + 0.1 * self.settings.theta_lr_decay * epochs",
        mlp("gated", "decaying"),
    ),
    Fault(
        "price ramp without an end",
        "min(1.0, max(0, step + 1 - self.warmup) / self.ramp_steps)",
        "max(0, step + 1 - self.warmup) / self.ramp_steps",
        mlp("gated", "ramped"),
    ),
    Fault("whole batch drawn", "math.ceil(self.settings.drawn_share * batch)", "batch", mlp("gated", "half-drawn")),
    Fault(
        "drawn while warming up",
        'step < self.warmup and self.settings.warmup_gates == "open"',
        "False",
        mlp("gated", "open-warmup"),
    ),
    Fault("flips of another sign", "losses - other if opened", "other - losses if opened", mlp("gated", "batch-gates")),
    Fault(
        "no decay where nothing is computed",
        "if section.alive and gate is CLOSED:",
        "if False:",
        mlp("gated", "batch-gates"),
    ),
    Fault("drawn as at the start", "self.batch_gates.know(self.theta)", "pass", mlp("gated", "batch-gates")),
    Fault("costs as if for a section", "costs / len(costs)", "costs", mlp("gated", "network-price")),
    Fault(
        "norm twice in the price", "self.decay / 2 * squares", "self.decay * squares", mlp("gated", "spike-and-slab")
    ),
    Fault("weights for nothing", "(kappa / context.examples)", "0.0", mlp("gated", "spike-and-slab")),
    Fault(
        "decay as of an open section",
        "surplus = (theta - 1)",
        "surplus = 0 * (theta - 1)",
        mlp("gated", "spike-and-slab"),
    ),
    Fault(
        "leaves whatever was measured",
        'leaves = note["delta"] + note["price"] > 0',
        'leaves = note["delta"] <= note["delta"]',
        mlp("gated", "confirmed"),
    ),
    Fault("measured with its branch alone", "(opened - closed).sum()", "opened.sum()", mlp("gated", "confirmed")),
    Fault(
        "refused, but left where it was",
        "self.theta[index] = self.settings.theta0",
        "self.theta[index] = 0.0",
        mlp("gated", "confirmed"),
    ),
    Fault("removes in spite of remove", "if not self.settings.remove:", "if False:", mlp("gated", "kept")),
    Fault(
        "rounded at a tenth",
        "self.theta.copy_((self.theta >= 0.5).float())",
        "self.theta.copy_((self.theta >= 0.1).float())",
        mlp("gated", "half-drawn"),
    ),
    Fault(
        "discarded by the mean response",
        "responses.detach().abs().amax()",
        "responses.detach().abs().mean()",
        mlp("epsilon-resnet"),
    ),
    Fault("another discriminator", "HIDDEN = (128, 256, 128)", "HIDDEN = (128, 128, 128)", mlp("gal")),
    Fault(
        "a published discriminator with He's start",
        "        if faithful:\n            nn.init.normal_",
        "        if not faithful:\n            nn.init.normal_",
        mlp("gal", "faithful"),
    ),
    Fault(
        "gates that do not feel their weights",
        "(opened.flatten() * norms)",
        "(opened.detach().flatten() * norms)",
        mlp("hard-concrete"),
    ),
    Fault(
        "one-sided edges in full",
        "(directed + directed.T) / 2",
        "torch.maximum(directed, directed.T)",
        mlp("modularity"),
    ),
    Fault("no momentum in FISTA", "(iterate + (momentum - 1) / faster * (iterate - last))", "iterate", mlp("gal")),
    Fault("weaker shrinking", "(moved.abs() - lr * gamma)", "(moved.abs() - 0.9 * lr * gamma)", mlp("sss")),
    Fault(
        "survival of one section more",
        "1 - (place / last) * (1 - settings.final_survival)",
        "1 - (place / (last + 1)) * (1 - settings.final_survival)",
        mlp("stochastic-depth"),
    ),
    Fault("penalty rises a step late", "(step + 1) / self.ramp_steps", "step / self.ramp_steps", mlp("hard-concrete")),
    Fault(
        "gains below the threshold",
        "gain >= settings.threshold",
        "gain < settings.threshold",
        lenet5("linear-probes", "threshold"),
    ),
    Fault(
        "mean for sum in leave-one-out",
        'functional.cross_entropy(model(images, gates), labels, reduction="sum")',
        "functional.cross_entropy(model(images, gates), labels)",
        mlp("leave-one-out"),
    ),
    Fault(
        "DBP turned round",
        "return probe_gains(model, batches)",
        "return -probe_gains(model, batches)",
        lenet5("dbp"),
        inside='"""DBP',
    ),
    Fault("another energy distance", "[2 * torch.cdist(first", "[3 * torch.cdist(first", mlp("energy")),
    Fault(
        "the last of a cluster",
        "{min(cluster) for",
        "{max(cluster) for",
        mlp("energy"),
    ),
    Fault(
        "largest gamma",
        ".detach().abs().mean() for",
        ".detach().abs().max() for",
        ("pretrained/cifar10/resnet-8/bn-scale/default/seed0",),
    ),
    Fault("largest filter", ".flatten(1).sum(1).mean()", ".flatten(1).sum(1).max()", mlp("magnitude")),
    Fault(
        "first sections first", "for section in reversed(stage)", "for section in stage", cifar("last-k", "resnet-20")
    ),
    Fault("fewer features", "FEATURES = 512", "FEATURES = 32", lenet5("imprinting")),
    Fault(
        "of equals the earlier goes",
        "!= going], size), -going))",
        "!= going], size), going))",
        cifar("uniform-thinning", "resnet-20"),
    ),
    Fault("fewer draws", "DRAWS = 3", "DRAWS = 1", lenet5("sr-init")),
    Fault("from the back", "torch.arange(len(model.sections),", "-torch.arange(len(model.sections),", mlp("first-k")),
    Fault(
        "cosine for influence",
        "return 1 - functional.cosine_similarity(",
        "return functional.cosine_similarity(",
        mlp("block-influence"),
    ),
    Fault("entropy of one side", "-(torch.xlogy(on, on) + torch", "-(torch.xlogy(on, on) + 0 * torch", mlp("easier")),
    Fault("channels mostly on fall silent", "norm.bias >= 0", "norm.bias < 0", cifar("tlc")),
    Fault("equal scores share the least rank", "(equal + 1) / 2", "1", mlp("consensus", "others")),
    Fault("running statistics for the batch's", 'if mode == "train"', 'if mode == "none"', cifar("taylor")),
    Fault(
        "the first rectifier alone",
        "if isinstance(layer, RECTIFIERS)]",
        "if isinstance(layer, RECTIFIERS)][:1]",
        cifar("easier", "preact-resnet-14"),
    ),
    Fault("fewer directions", "PROJECTIONS = 50", "PROJECTIONS = 5", mlp("lacoot")),
    Fault(
        "mean for the largest slice",
        "slices.index_select(1, best.view(1))).squeeze(0)",
        "slices).mean()",
        mlp("lacoot"),
    ),
    Fault("CKA squared", "scores.append((1 - similarity)", "scores.append((1 - similarity**2)", mlp("cka", "one-shot")),
    Fault("signs in feature Taylor", "products.abs().sum((0, 2)", "products.sum((0, 2)", mlp("feature-taylor")),
    Fault("another neighbour", "NEIGHBOURS = 3", "NEIGHBOURS = 4", mlp("modularity")),
    Fault(
        "no squares in gate Taylor",
        "each.sum((0, 2)).square().mean()",
        "each.sum((0, 2)).abs().mean()",
        mlp("gate-taylor"),
    ),
    Fault(
        "other random numbers",
        "torch.rand(len(model.sections), generator=present())",
        "torch.rand(len(model.sections) + 1, generator=present())[1:]",
        mlp("random"),
    ),
    Fault("no squares of weights", "lambda weight: weight.square()", "lambda weight: weight.abs()", mlp("magnitude")),
    Fault(
        "no squares in Taylor",
        "(weight * slopes[id(weight)]).square()",
        "(weight * slopes[id(weight)]).abs()",
        mlp("taylor"),
    ),
    Fault(
        "equal epochs for equal computation",
        'ControlPlan(question.matched, "fresh", question.macs_ratio(question.matched))',
        'ControlPlan(question.matched, "fresh")',
        mlp("scratch-b"),
    ),
    Fault(
        "replayed backwards",
        'else question.matched, "dense")',
        'else question.matched[::-1], "dense")',
        mlp("by-index"),
    ),
    Fault(
        "twice the epochs",
        'ControlPlan(question.matched, "fresh")',
        'ControlPlan(question.matched, "fresh", 2.0)',
        mlp("scratch-e"),
    ),
    Fault(
        "the last of the draw", "order[: question.keep_count]", "order[-question.keep_count :]", mlp("scratch-random")
    ),
    Fault("a section a stage more", "int(place <= last)", "int(place <= last + 1)", cifar("shallower", "resnet-20")),
    Fault(
        "gap of the whole network",
        "mask_gates([float(stays) for stays in keep]",
        "mask_gates([1.0 for stays in keep]",
        mlp("random-removal"),
        inside="What an experiment may use",
    ),
    Fault("perhaps none goes", "torch.randint(1, sections + 1", "torch.randint(0, sections + 1", mlp("random-removal")),
    Fault("trained at another theta", "TRAINED_AT = 0.5", "TRAINED_AT = 0.6", mlp("estimator-error")),
    Fault("signs lost at the gates", "a.detach() * slope)", "a.detach().abs() * slope)", mlp("gate-taylor")),
    Fault(
        "earlier stage first",
        "(turn, -place, section.name)",
        "(turn, place, section.name)",
        cifar("last-k", "resnet-20"),
    ),
    Fault(
        "smaller fresh branches",
        'kaiming_normal_(fresh, nonlinearity="relu",',
        'kaiming_normal_(fresh, nonlinearity="linear",',
        mlp("sr-init"),
    ),
    Fault("scaled twice", "layer.weight.mul_(factor)", "layer.weight.mul_(factor * factor)", mlp("gated", "scaled")),
    Fault("gate before the norm", "return first_batch_norm(branch) or", "return", cifar("feature-taylor")),
    Fault(
        "sum for mean in the trace",
        "self.loss_sum += losses.mean()",
        "self.loss_sum += losses.sum()",
        mlp("gated", "watched"),
    ),
    Fault("probes hardly fitted", "ITERATIONS = 200", "ITERATIONS = 1", lenet5("dbp")),
    Fault(
        "clusters around the largest", "mean = math.fsum(values) / len(values)", "mean = max(values)", piece("clusters")
    ),
    Fault("larger least share", "LEAST_SHARE = 0.1", "LEAST_SHARE = 0.2", piece("prices")),
    Fault("rash budget", "RATE = 0.5", "RATE = 5.0", mlp("gated", "target-depth"), quick=True),
    Fault(
        "half a section too much",
        "self.allowed - self.costs[index] / 2:",
        "self.allowed - self.costs[index]:",
        piece("prices"),
    ),
    Fault("gains of the next section", "return values.diff()[", "return -values.diff()[", lenet5("imprinting")),
]
SUITE = [
    Fault(
        "splits swapped",
        'for split in ("validation", "test"))',
        'for split in ("test", "validation"))',
        mlp("dense"),
        quick=True,
    ),
    Fault(
        "pretrained weights for nothing",
        "Progress(train_macs=3 * count_macs(network, network.input_shape) * seen)",
        "Progress(train_macs=count_macs(network, network.input_shape) * seen)",
        ("pretrained/cifar10/resnet-8/dense/default/seed0",),
    ),
    Fault(
        "experiments sample validation",
        'draw_sample(data, "training", count',
        'draw_sample(data, "validation", count',
        mlp("estimator-error"),
        quick=True,
    ),
    Fault(
        "scoring for nothing",
        "Progress(train_macs=before[0] + macs",
        "Progress(train_macs=before[0]",
        mlp("taylor"),
    ),
    Fault(
        "one seed for all streams",
        "source = generator(stream, self.settings.seed)",
        'source = generator("initialisation", self.settings.seed)',
        mlp("scratch-e"),
    ),
]
FAULTS = [*TRAINING, *DATA, *NETWORKS, *FOLDING, *GATES, *METHODS, *SUITE]

EXEMPT = {
    "core/data/__init__.py": "resolves names",
    "core/data/checking.py": "refuses data sets, changes none: tests/test_data.py",
    "core/data/tars.py": "bounds of what is read: tests/test_hostile_data.py",
    "core/methods/__init__.py": "finds modules by name",
    "core/networks/__init__.py": "finds modules by name",
    "core/networks/layers.py": "layers as data, compared with what they were: tests/test_storage.py",
    "core/networks/layout.py": "the same numbers in another order of memory: tests/test_models.py",
    "core/settings/__init__.py": "resolves names",
    "core/settings/methods.py": "descriptions: a run's settings are in its digest",
    "core/settings/training.py": "descriptions; what contradicts itself is refused: tests/test_hostile_presets.py",
    "core/timing.py": "wall time, which no golden value can hold: tests/test_section_latency.py",
    "core/training/compiled.py": "the same numbers by another engine: tests/test_compiled_steps.py compares them",
    "core/training/cast_weights.py": "the same numbers, cast at once: tests/test_recorded_steps.py compares bit by bit",
    "core/training/graphs.py": "the same numbers by another engine: tests/test_recorded_steps.py compares bit by bit",
    "core/training/sgd.py": "the same numbers as torch's: tests/test_sgd.py compares bit by bit",
    "core/training/state.py": "what is stored for a resume: tests/test_resume.py compares bit by bit",
    "core/version.py": "the versions themselves: tests/test_golden.py",
}
"""File of core/ -> why no number hangs on it."""
