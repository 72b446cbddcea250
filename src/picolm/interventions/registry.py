"""The interventions that come with PicoLM, by name. Strings only: what is not used is not loaded."""

from __future__ import annotations

REGISTRY = {
    "data_curriculum": "picolm.interventions.data_curriculum:DataCurriculum",
    "freeze": "picolm.interventions.freeze:Freeze",
    "galore": "picolm.interventions.galore:GaLore",
    "gradient_noise": "picolm.interventions.gradient_noise:GradientNoise",
    "jagged_rate": "picolm.interventions.jagged_rate:JaggedRate",
    "label_smoothing": "picolm.interventions.label_smoothing:LabelSmoothing",
    "meta_pretraining": "picolm.interventions.meta:MetaPretraining",
    "objective_curriculum": "picolm.interventions.objective_curriculum:ObjectiveCurriculum",
    "rate_factor": "picolm.interventions.rate_factor:RateFactor",
    "relora": "picolm.interventions.relora:ReLoRA",
    "vocabulary_curriculum": "picolm.interventions.vocabulary_curriculum:VocabularyCurriculum",
}
"""Name -> `module:Class`."""
