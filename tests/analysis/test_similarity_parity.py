"""Our similarities against other people's libraries, whose values `fixtures/make_similarity.py` has frozen."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from picolm.analysis.cca import cca, pwcca
from picolm.analysis.cka import biased_cka, debiased_cka, minibatch_cka
from picolm.analysis.kernel_cka import rbf_cka
from picolm.analysis.neighbours import cknna, mutual_knn
from picolm.analysis.procrustes import procrustes
from picolm.analysis.pwcca_published import compat_pwcca
from picolm.analysis.rsa import rsa

FROZEN = json.loads((Path(__file__).parent / "fixtures" / "similarity.json").read_text(encoding="utf-8"))
PAIRS = [name for name in FROZEN if name != "made_with"]


def in_tens(x: Tensor, y: Tensor) -> Tensor:
    whole = len(x) // 10 * 10
    return minibatch_cka(zip(x[:whole].split(10), y[:whole].split(10), strict=True))


OURS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "ckatorch biased": biased_cka,
    "ckatorch debiased": debiased_cka,
    "ckatorch rbf debiased": lambda x, y: rbf_cka(x, y, bandwidth=0.7),
    "ckatorch batches of 10": in_tens,
    "repsim biased": biased_cka,
    "repsim yanai": lambda x, y: cca(x, y)["mean_squared"],
    "repsim pwcca": lambda x, y: pwcca(x, y)["mean"],
    "google pwcca": compat_pwcca,
    "scipy nuclear": lambda x, y: procrustes(x, y)["angle"].cos(),
    "rsatoolbox correlation": rsa,
    "rsatoolbox euclidean": lambda x, y: rsa(x, y, distance="euclidean"),
    "platonic mutual 5": lambda x, y: mutual_knn(x, y, k=5),
    "platonic cknna 5": lambda x, y: cknna(x, y, k=5),
}
# Their neighbours are counted in float32.
SINGLE = {"platonic mutual 5"}


@pytest.mark.parametrize("pair", PAIRS)
def test_values_are_theirs(pair: str) -> None:
    x, y = (torch.tensor(FROZEN[pair][side], dtype=torch.float64) for side in ("x", "y"))
    theirs = FROZEN[pair]["values"]
    assert set(theirs) <= set(OURS) and len(theirs) >= 10
    for name, value in theirs.items():
        tolerance = 1e-6 if name in SINGLE else 1e-10
        assert OURS[name](x, y).item() == pytest.approx(value, rel=tolerance), name
