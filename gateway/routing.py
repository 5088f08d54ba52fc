"""From a series and the rules to jobs: used by the courier for hooks and by the C-STORE SCP for what it received.

A series in the same form never becomes two jobs of one action: the idempotency key is a digest of the rule, the action
and the instances. A series that grew since is another request, for the whole of it.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from reacquire.dicom import inspect, unpack
from reacquire.jobs.intake import Intake, Submission
from reacquire.jobs.spec import OperationSpec
from reacquire.pacs.config import Action, Rule
from reacquire.pacs.reference import SeriesReference
from reacquire.pacs.rules import Attributes, attributes_of_dataset, attributes_of_json, judge, needed

SOP_INSTANCE_UID = "00080018"


@dataclass(frozen=True)
class Routed:
    """What became of a series: an outcome, the code of its reason unless it matched, and the jobs."""

    outcome: Literal["refused", "unmatched", "matched"]
    reason: str | None = None
    submissions: tuple[Submission, ...] = ()


def route_reference(
    rules: Sequence[Rule],
    metadata: Sequence[Mapping[str, Any]],
    reference: SeriesReference,
    intake: Intake,
    *,
    notify: bool = False,
) -> Routed:
    """Apply the rules to a series of a PACS.

    Parameters
    ----------
    metadata : its instances in the DICOM JSON model (PS3.18 F.2)
    notify : the end of every job is told to the webhook

    Raises
    ------
    OverloadedError
        When the queue is full; jobs of earlier actions are entered then, and a repetition does not enter them again.
    """
    keywords = needed(rules)
    verdict = judge(rules, [attributes_of_json(instance, keywords) for instance in metadata])
    instances = sorted(str((i.get(SOP_INSTANCE_UID) or {}).get("Value", [""])[0]) for i in metadata)
    submissions = []
    for rule, index, action in verdict.matches:
        spec, target = spec_of(action), rule.return_to or reference.site
        key = key_of(rule, index, spec, target, [reference.site, reference.series, *reference.instances, *instances])
        submissions.append(intake.reference(spec, reference, key=key, deliver_to=target, notify=notify, renew=True))
    return Routed(verdict.outcome, verdict.reason, tuple(submissions))


def route_files(
    rules: Sequence[Rule], files: Sequence[bytes], identity: Sequence[str], intake: Intake, *, notify: bool = False
) -> Routed:
    """Apply the rules to a series that was received.

    Parameters
    ----------
    files : DICOM files, each of which ``inspect`` took when it came
    identity : names for the series and its instances that stay the same when this is repeated

    Raises
    ------
    InputError
        When the files make no series (the code says why).
    OverloadedError
        As for ``route_reference``.
    """
    attributes = attributes_of_file(files[0], needed(rules))
    verdict = judge(rules, [attributes], instances=len(files))
    submissions = []
    for rule, index, action in verdict.matches:
        spec = spec_of(action)
        key = key_of(rule, index, spec, rule.return_to or "", identity)
        submissions.append(intake.files(spec, files, key=key, deliver_to=rule.return_to, notify=notify, renew=True))
    return Routed(verdict.outcome, verdict.reason, tuple(submissions))


def attributes_of_file(data: bytes, keywords: Iterable[str]) -> Attributes:
    """What a stored file says about its series."""
    header = inspect(unpack(data)[0], allow_synthetic=True)
    return attributes_of_dataset(header.dataset, keywords)


def spec_of(action: Action) -> OperationSpec:
    """An action as a request."""
    return OperationSpec(operation=action.operation, target=dict(action.target), options=action.options)


def key_of(rule: Rule, index: int, spec: OperationSpec, deliver_to: str, identity: Sequence[str]) -> str:
    """An idempotency key; a digest, for it is made of UIDs."""
    parts = ("rule", rule.name, str(index), spec.model_dump_json(), deliver_to, *identity)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
