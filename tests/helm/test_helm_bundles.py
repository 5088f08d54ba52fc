"""Where the chart takes bundles from: one place, read-only, pulled and verified before a process starts or never."""

import helm_python as helm
import pytest
from chart_rendering import CHART, VALUES, changed, container, environment, pod, render

import service.models
from worker.settings import WorkerSettings


def mounted(objects: list, component: str) -> tuple[dict, dict]:
    """(volume, mount) of the bundles."""
    volume = next(v for v in pod(objects, component)["volumes"] if v["name"] == "bundles")
    return volume, next(m for m in container(objects, component)["volumeMounts"] if m["name"] == "bundles")


@pytest.mark.parametrize("component", ["api", "worker"])
def test_bundles_are_pulled_before_the_process_starts(component: str) -> None:
    objects = render(VALUES["s3"])
    (pull,) = pod(objects, component)["initContainers"]
    told = service.models.parser().parse_args(pull["command"][3:])
    assert pull["command"][:3] == ["python", "-m", "service.models"]
    assert told.urls == VALUES["s3"]["bundles"]["pull"]["urls"]
    assert pull["image"].split(":")[0].endswith("reacquire-service")  # the worker's image would be larger by gigabytes
    volume, mount = mounted(objects, component)
    assert str(told.root) == mount["mountPath"] == "/bundles"
    assert (volume["emptyDir"], mount["readOnly"]) == ({"sizeLimit": "4Gi"}, True)
    assert pull["securityContext"] == container(objects, component)["securityContext"]


def test_couriers_pull_nothing() -> None:
    values = changed("pacs", "bundles", VALUES["s3"]["bundles"])
    assert "initContainers" not in pod(render(values), "courier")


def test_a_secret_of_its_own_goes_to_the_pull_alone() -> None:
    values = changed("s3", "bundles", VALUES["s3"]["bundles"] | {"pull": {"urls": ["s3://b/a"], "s3Secret": "weights"}})
    objects = render(values)
    (pull,) = pod(objects, "worker")["initContainers"]
    assert pull["envFrom"] == [{"secretRef": {"name": "weights"}}]
    assert "envFrom" not in container(objects, "worker")


def test_an_image_of_bundles_is_a_volume() -> None:
    volume, mount = mounted(render(changed("minimal", "bundles", {"image": "house/bundles@sha256:12"})), "worker")
    assert volume["image"] == {"reference": "house/bundles@sha256:12", "pullPolicy": "IfNotPresent"}
    assert mount["readOnly"] is True


def test_workers_are_told_folder_and_number() -> None:
    told = environment(render(VALUES["s3"]), "worker")
    names = {"REACQUIRE_BUNDLE": "/bundles/site-v1-1.0.0", "REACQUIRE_BUNDLES_ROOT": "/bundles"}
    assert {name: told[name] for name in names} == names
    assert told["REACQUIRE_BUNDLES_KEPT"] == "3"
    assert {name.removeprefix("REACQUIRE_").lower() for name in names} <= set(WorkerSettings.model_fields)


@pytest.mark.parametrize(
    ("bundles", "why"),
    [
        ({"existingClaim": "a", "image": "b"}, "one place"),
        ({"image": "b", "pull": {"urls": ["s3://b/a"]}}, "one place"),
        ({"pull": {"urls": ["https://elsewhere.example/a"]}}, "pattern"),
        ({"kept": 1}, "minimum"),
    ],
)
def test_what_cannot_be_meant_is_refused(bundles: dict, why: str) -> None:
    with helm.Chart.load(CHART) as chart, pytest.raises(Exception, match=why):
        chart.render(changed("minimal", "bundles", bundles), name="demo", namespace="imaging")
