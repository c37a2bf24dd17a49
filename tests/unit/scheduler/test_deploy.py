"""What a deploy makes of what is there."""

import msgspec
import pytest

from serai.errors import Refused
from serai.operator import DeployItem, DeployRequest
from serai.spec.scaling import Autoscaling
from serai.spec.types import ApiSpec, Concurrency, Nodes, Pod, Timeouts
from serai.units import Duration
from serai_scheduler.deploy import DeployRefused, accept
from serai_scheduler.record import StoredApi, wanted_replicas
from tests.support.scheduling import around, deployed, replica, request, spec, with_record
from tests.unit.scheduler.test_plan import after, planned


def test_the_first_deploy_makes_version_one() -> None:
    accepted, stored = deployed(None, spec())
    assert accepted.plan.action == "create"
    assert accepted.plan.version.startswith("v1-")
    assert stored.record.candidate is not None and stored.record.stable == ""


def test_the_same_content_is_up_to_date() -> None:
    _, stored = deployed(None, spec())
    again, _ = deployed(stored, spec())
    assert again.plan.action == "up to date"
    assert again.record is None and again.version is None


def test_settings_alone_make_no_version() -> None:
    _, stored = deployed(None, spec())
    candidate = stored.record.candidate
    assert candidate is not None
    stored = after(stored, planned(stored, replica(candidate.version)))
    changed = ApiSpec(
        name="iris",
        endpoint="/flowers",
        pod=Pod(command=("serve",)),
        concurrency=Concurrency(queue=7),
        timeouts=Timeouts(idle=Duration(5)),
        autoscaling=Autoscaling(min_replicas=2),
        retry="never",
    )
    accepted, _ = deployed(stored, changed)
    assert accepted.plan.action == "settings" and accepted.version is None
    assert accepted.record is not None and accepted.record.spec == changed
    assert not any(change.restarts for change in accepted.plan.changes)
    assert {change.path for change in accepted.plan.changes} >= {"endpoint", "concurrency.queue"}


def test_where_it_may_run_belongs_to_the_version() -> None:
    _, stored = deployed(None, spec())
    empty, _ = deployed(stored, msgspec.structs.replace(spec(), nodes=Nodes()))
    assert empty.plan.action == "up to date"
    placed = msgspec.structs.replace(spec(), nodes=Nodes(class_="large", meta={"rack": "r1"}))
    accepted, _ = deployed(stored, placed, force=True)
    assert accepted.plan.action == "new version" and accepted.version is not None
    assert accepted.version.content.nodes == placed.nodes
    found = [(one.path, one.before, one.after, one.restarts) for one in accepted.plan.changes]
    assert found == [
        ("nodes.class", "-", "large", True),
        ("nodes.meta.rack", "-", "r1", True),
    ]


def test_settings_of_a_candidate_leave_the_serving_version_its_replicas() -> None:
    _, stored = deployed(None, spec(low=4))
    assert stored.record.candidate is not None
    name = stored.record.candidate.version
    stored = after(stored, planned(stored, *(replica(name, number) for number in range(1, 5))))
    _, updating = deployed(stored, spec(low=4), bundle="b")
    fewer = msgspec.structs.replace(
        spec(low=1), autoscaling=Autoscaling(min_replicas=1, max_replicas=2)
    )
    accepted, changed = deployed(updating, fewer, bundle="b")
    assert accepted.plan.action == "settings"
    assert changed.record.replicas == 4 and changed.record.spec == spec(low=4)
    assert changed.record.candidate is not None and changed.record.candidate.spec == fewer


def test_other_content_makes_a_version_and_names_what_changed() -> None:
    _, stored = deployed(None, spec())
    candidate = stored.record.candidate
    assert candidate is not None
    stored = after(stored, planned(stored, replica(candidate.version)))
    accepted, _ = deployed(stored, spec(), bundle="b")
    assert accepted.plan.action == "new version"
    assert accepted.plan.version.startswith("v2-")
    assert [change.path for change in accepted.plan.changes] == ["files"]


def test_the_same_content_has_the_same_digest_whoever_makes_it() -> None:
    one, _ = deployed(None, spec())
    _, stored = deployed(None, spec(), bundle="b")
    two, _ = deployed(stored, spec(), bundle="a", force=True)
    assert one.version is not None and two.version is not None
    assert one.version.digest == two.version.digest
    assert (one.version.number, two.version.number) == (1, 2)


def test_an_update_under_way_is_replaced_only_by_force() -> None:
    _, stored = deployed(None, spec())
    with pytest.raises(DeployRefused, match="--force"):
        deployed(stored, spec(), bundle="b")
    accepted, after_it = deployed(stored, spec(), bundle="b", force=True)
    first = stored.record.candidate
    assert first is not None and accepted.plan.action == "new version"
    assert [old.version for old in after_it.record.retiring] == [first.version]


def test_all_apis_are_accepted_or_none_with_every_reason() -> None:
    _, text = deployed(None, spec("text"))
    apis = {"text": text}
    taken = spec("other", endpoint="/text")
    twice = request(spec("good"), taken, spec("dup"), spec("dup", endpoint="/dup2"))
    with pytest.raises(DeployRefused) as caught:
        accept(twice, apis, around())
    told = {problem.path: problem.message for problem in caught.value.problems}
    assert set(told) == {"other: endpoint", "dup"}
    assert "belongs to text" in told["other: endpoint"]


def serving(name: str) -> StoredApi:
    _, stored = deployed(None, spec(name))
    assert stored.record.candidate is not None
    ready = msgspec.structs.replace(replica(stored.record.candidate.version), api=name)
    return after(stored, planned(stored, ready))


def test_an_endpoint_moves_only_once_its_owner_has_left_it() -> None:
    apis = {name: serving(name) for name in ("iris", "text")}
    swap = spec("iris", endpoint="/text"), spec("text", endpoint="/iris")
    assert [one.plan.action for one in accept(request(*swap), apis, around())] == ["settings"] * 2
    later = DeployRequest(
        apis=(DeployItem(spec=swap[0], bundle="b"), DeployItem(spec=swap[1], bundle="a"))
    )
    with pytest.raises(DeployRefused, match=r"by iris until .* deploy iris first, then text"):
        accept(later, apis, around())
    fresh = spec("ocr", endpoint="/iris")
    moving = DeployRequest(
        apis=(
            DeployItem(spec=spec("iris", endpoint="/away"), bundle="b"),
            DeployItem(spec=fresh, bundle="a"),
        )
    )
    with pytest.raises(DeployRefused, match="deploy iris first, then ocr"):
        accept(moving, apis, around())


def test_another_kind_under_the_same_name_is_refused() -> None:
    _, stored = deployed(None, spec())
    other = ApiSpec(name="iris", kind="AsyncAPI", endpoint="/iris", pod=Pod(command=("serve",)))
    with pytest.raises(Refused) as caught:
        deployed(stored, other)
    assert caught.value.code == "kind_changed"


@pytest.mark.parametrize(
    ("low", "high", "scaled", "new_low", "new_high", "expected"),
    [
        (1, 10, 1, 3, 10, 3),
        (3, 10, 3, 1, 10, 3),  # whether fewer are enough is the policy's to say
        (1, 10, 5, 1, 10, 5),
        (1, 10, 5, 1, 4, 4),
        (1, 10, 5, 6, 10, 6),
    ],
)
def test_the_count_survives_a_deploy_within_the_new_bounds(
    low: int, high: int, scaled: int, new_low: int, new_high: int, expected: int
) -> None:
    import msgspec

    _, stored = deployed(None, spec(low=low, high=high))
    record = msgspec.structs.replace(stored.record, replicas=scaled)
    stored = with_record(record, stored.versions, stored)
    assert wanted_replicas(stored.record, spec(low=new_low, high=new_high)) == expected
