import json

import pytest

from sage_core.types import Reason, Stage


def test_help_teaches_the_first_commands(sage):
    text = sage("--help").stdout
    for word in ("sage demo", "sage run --workspace ws", "--retry failed", *Stage):
        assert word in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", "-w", "{tmp}/none"), "holds nothing yet"),
        (("status", "-w", "{tmp}/none"), "is no workspace"),
        (("run", "-w", "{tmp}/w", "x.mp4", "--stages", "cook"), "stages are acquire, curate"),
        (("run", "-w", "{tmp}/w", "x.mp4", "-s", "curate.min_duration=1"), "did you mean"),
        (("run", "-w", "{tmp}/w", "x.mp4", "-s", "run.workers=0"), "greater than or equal to 1"),
        (("adapt", "-w", "{tmp}/w", "--timed-steps", "3"), "it goes with --dry-run"),
        (("config", "show", "-c", "no.yaml"), "cannot read the settings file"),
    ],
)
def test_wrong_usage_ends_with_2_and_says_what_to_do(sage, tmp_path, arguments, words):
    done = sage(*(a.format(tmp=tmp_path) for a in arguments))
    assert done.returncode == 2
    assert words in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_config_show_is_yaml_that_can_be_read_back(sage, tmp_path):
    shown = sage("config", "show", "-c", "demo", "-s", "run.seed=7")
    file = tmp_path / "settings.yaml"
    file.write_text(shown.stdout)
    assert sage("config", "show", "-c", file).stdout == shown.stdout
    assert "seed: 7" in shown.stdout


def test_schema_explains_every_setting(sage):
    schema = json.loads(sage("config", "schema", "--json").stdout)
    assert schema["$defs"]["RunConfig"]["properties"]["seed"]["description"]
    lines = sage("config", "schema").stdout.splitlines()
    assert "adapt.optimizer.micro_batch = 1  >= 1, <= 1024" in lines
    assert 'adapt.precision = "auto"  auto | float32 | bfloat16' in lines


def test_every_reason_is_explained(sage):
    text = sage("reasons").stdout
    assert all(reason.value in text for reason in Reason)
