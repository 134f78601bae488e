"""The deployments as people meet them: the same in prefect.yaml and by `sage`; their forms."""

from pathlib import Path

import jsonschema
import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient

from flows._deployments import GPU, MINING, POOLS, TAG, Night, deployments, planned
from sage_core.config import SageConfig
from sage_core.types import Stage
from tasks._plan import Retry

ROOT = Path(__file__).parents[2]
FILE = yaml.safe_load((ROOT / "prefect.yaml").read_text())


def test_prefect_yaml_says_what_sage_deploy_makes():
    assert {d["name"] for d in FILE["deployments"]} == {"nightly", *Stage}
    made = {d.name: d for d in deployments("ws", [], {}, Night(), pools=True)}
    for written in FILE["deployments"]:
        one = made[written["name"]]
        assert written["entrypoint"] == one.entrypoint
        assert written["work_pool"]["name"] == one.work_pool_name
        assert written["description"] == one.description
        assert written["tags"] == one.tags
        schedules = [
            {"cron": s.schedule.cron, "timezone": s.schedule.timezone, "active": True}
            for s in one.schedules or []
        ]
        assert written.get("schedules", []) == schedules
    assert {plan.name: plan.pool for plan in planned()} == {
        **dict.fromkeys(("nightly", "adapt", "evaluate"), GPU),
        **dict.fromkeys(("acquire", "curate", "reconstruct", "assemble"), MINING),
    }
    assert POOLS[GPU] == 1


@pytest.mark.parametrize("plan", planned(), ids=lambda plan: plan.name)
def test_its_parameters_fit_the_flows_schema(plan):
    schema = plan.flow.parameters.model_dump()
    written = next(d for d in FILE["deployments"] if d["name"] == plan.name)
    settings = {**written["parameters"], "config": SageConfig().model_dump(mode="json")}
    for parameters in (written["parameters"], settings):
        jsonschema.validate(parameters, schema)
        plan.flow.validate_parameters(parameters)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**written["parameters"], "retry": "perhaps"}, schema)


@pytest.mark.parametrize("plan", planned(), ids=lambda plan: plan.name)
def test_the_form_has_types_words_and_choices(plan):
    schema = plan.flow.parameters.model_dump()
    for name, field in schema["properties"].items():
        assert field.get("description"), name
        assert {"type", "anyOf", "$ref"} & set(field), name
    assert schema["definitions"]["Retry"]["enum"] == [choice.value for choice in Retry]
    for kind in ("SageConfig", "RunConfig", "AdaptConfig", "Selector"):
        for name, field in schema["definitions"][kind]["properties"].items():
            assert field.get("description") or "$ref" in field, name
    assert set(schema["properties"]) >= {"workspace", "config", "retry", "items", "select", "until"}


@pytest.mark.slow
@pytest.mark.server
def test_sage_deploy_makes_pools_and_deployments_on_a_server(prefect_server, sage, tmp_path):
    api = f"{prefect_server}/api"
    with SyncPrefectClient(api) as client:
        for zone in ("UTC", "Europe/Berlin"):  # again, it changes those that there are
            done = sage("deploy", "-w", tmp_path / "ws", "--timezone", zone, PREFECT_API_URL=api)
            assert done.returncode == 0, done.stderr
            nightly = read(client, "nightly")
            assert [s.schedule.timezone for s in nightly.schedules] == [zone]
        assert client.read_work_pool(GPU).concurrency_limit == 1
        assert client.read_work_pool(MINING).concurrency_limit is None
        for plan in planned():
            made = read(client, plan.name)
            assert made.work_pool_name == plan.pool
            assert TAG in made.tags
            assert made.parameters["workspace"] == str(tmp_path / "ws")
            assert made.parameter_openapi_schema["properties"]["retry"]
            assert not made.pull_steps


def read(client, name):
    return client.read_deployment_by_name(f"{name}/{name}")
