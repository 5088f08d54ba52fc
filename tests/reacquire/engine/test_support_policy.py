"""Targets far from training: warned of, or refused, as the site wants."""

import pytest
from builders import make_mr
from tiny_bundle import pack_tiny

from reacquire.engine import Pipeline, load_pipeline
from reacquire.errors import BundleError, TargetError
from reacquire.jobs.spec import OperationSpec


def outcome(pipeline: Pipeline, data: bytes, target: dict):
    work = pipeline.prepare(OperationSpec(operation="counterfactual", target=target), [data])
    (raw,) = pipeline.run([work])
    return raw


def test_what_training_never_saw_is_warned_of_or_refused_as_the_site_wants(tmp_path) -> None:
    folder, far = pack_tiny(tmp_path), {"FlipAngle": 7.0}
    assert 0 < outcome(load_pipeline(folder), make_mr(), far).support.score < 1
    strict = load_pipeline(folder, least_support=1.0)
    refused = outcome(strict, make_mr(), far)
    assert isinstance(refused, TargetError) and refused.code == "target-unsupported"
    assert "FlipAngle: training saw" in refused.detail
    assert outcome(strict, make_mr(), {"FlipAngle": 10.0}).support.score == 1


def test_support_cannot_be_demanded_of_a_bundle_that_lists_nothing(tmp_path, monkeypatch) -> None:
    folder = pack_tiny(tmp_path)
    import reacquire.engine as engine

    loaded = engine.load_bundle(folder)
    manifest = loaded.info.manifest.model_copy(update={"trained_on": []})
    bare = loaded._replace(info=type(loaded.info)(**{**vars(loaded.info), "manifest": manifest}))
    monkeypatch.setattr(engine, "load_bundle", lambda *_, **__: bare)
    assert load_pipeline(folder).least_support == 0
    with pytest.raises(BundleError, match="trained on"):
        load_pipeline(folder, least_support=0.5)
