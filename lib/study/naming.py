"""What tables, figures and the report call settings and data."""

import pandas as pd

_HUMAN = {
    "worse_label": "CIFAR-10N worse",
    "aggre_label": "CIFAR-10N aggregate",
    "random_label1": "CIFAR-10N random 1",
    "random_label2": "CIFAR-10N random 2",
    "random_label3": "CIFAR-10N random 3",
    "noisy_label": "CIFAR-100N fine",
    "noisy_coarse_label": "CIFAR-100N coarse",
}


_DATASETS = {
    "digits": "Digits",
    "news": "NEWS",
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "cifar100_coarse": "CIFAR-100 coarse",
    "mnist": "MNIST",
    "fashion_mnist": "Fashion-MNIST",
    "svhn": "SVHN",
    "tiny_imagenet": "Tiny ImageNet",
}


def dataset_name(dataset: str) -> str:
    """How tables, figures and texts call a dataset."""
    return _DATASETS.get(dataset, dataset)


def noise_name(noise: str, rate: float) -> str:
    """How tables and figures call a kind and rate of noise."""
    if noise == "none":
        return "clean labels"
    return _HUMAN.get(noise) or f"{noise} {100 * rate:g}%"


def noise_order(noise: str) -> int:
    """Place of a kind of noise in tables and figures: clean labels, synthetic kinds, human labels."""
    kinds = ["none", "symmetric", "pair", "instance"]
    return kinds.index(noise) if noise in kinds else len(kinds)


def parameter_name(parameter: str) -> str:
    """How tables and figures call a parameter of a run."""
    return parameter.replace("_", " ").replace("cnd", "CND")


def sources(runs: pd.DataFrame) -> str:
    """Where the data of some runs is from: every source, with the realised noise where it is not the rate asked for.

    Args:
        runs: table of `lib.runs.load`.
    """
    told = "; ".join(dict.fromkeys(runs["source"]))
    realised = runs[runs["noise"].isin(["instance", *_HUMAN])]
    rates = [
        f"{noise_name(*key)} {100 * rate:.1f}%"
        for key, rate in realised.groupby(["noise", "noise_rate"], observed=True)["realised_noise_rate"].mean().items()
    ]
    return f"{told}; realised noise: {', '.join(rates)}" if rates else told
