"""The interventions that come with PicoLM, by name. Strings only: what is not used is not loaded."""

from __future__ import annotations

REGISTRY = {
    "freeze": "picolm.interventions.freeze:Freeze",
    "gradient_noise": "picolm.interventions.gradient_noise:GradientNoise",
    "label_smoothing": "picolm.interventions.label_smoothing:LabelSmoothing",
    "meta_pretraining": "picolm.interventions.meta:MetaPretraining",
}
"""Name -> `module:Class`."""
