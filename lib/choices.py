"""The names that parameters take."""

HUMAN_NOISE: dict[str, list[str]] = {
    "cifar10": ["worse_label", "aggre_label", "random_label1", "random_label2", "random_label3"],
    "cifar100": ["noisy_label"],
    "cifar100_coarse": ["noisy_coarse_label"],
}
"""Human labels of each dataset that has them, by the names of CIFAR-10N and CIFAR-100N."""

CHOICES: dict[str, list[str]] = {
    "dataset": [
        "digits",
        "news",
        "cifar10",
        "cifar100",
        "cifar100_coarse",
        "mnist",
        "fashion_mnist",
        "svhn",
        "tiny_imagenet",
    ],
    "noise": ["none", "symmetric", "pair", "instance", *(name for kinds in HUMAN_NOISE.values() for name in kinds)],
    "augmentation": ["none", "crop", "flip", "crop_flip"],
    "network": [
        "mlp",
        "small_cnn",
        "news_mlp",
        "lenet",
        "preact_resnet9",
        "preact_resnet18",
        "preact_resnet34",
        "resnet18",
        "resnet50",
        "vit",
    ],
    "loss": ["cross_entropy", "mean_absolute_error"],
    "optimizer": ["sgd", "adam", "adamw"],
    "schedule": ["constant", "multi_step", "cosine"],
    "criteria": [
        "cnd",
        "prediction_changes",
        "known_polluted_accuracy",
        "known_polluted_log_likelihood",
        "validation_accuracy_noisy",
        "validation_accuracy_clean",
        "prediction_changes_long",
        "forgetting_events",
        "area_under_margin",
        "firing_frequency",
        "loss_sensitivity",
        "batch_loss_sensitivity",
        "critical_sample_ratio",
        "von_neumann_entropy",
        "edge_entropy",
        "gradient_disparity",
        "evidence",
    ],
    "cnd_estimator": ["histogram", "gaussian", "kernel", "neighbours"],
    "cnd_aggregation": ["quantile", "mean"],
    "cnd_filter": ["predicted_as_labelled", "all"],
    "cnd_weights": ["uniform", "frequency"],
    "signal_passes": ["training", "evaluation"],
    "dtype": ["float32", "bfloat16"],
    "memory_format": ["contiguous", "channels_last"],
}
"""Allowed names. `lib.data.register` and `lib.models.register` add a user's own."""

OF_IMAGES = [name for name in CHOICES["network"] if name not in ("mlp", "news_mlp")]
"""Networks that take images only."""
